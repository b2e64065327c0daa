package obs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// AdminOptions configure an Admin. Zero fields mean the defaults.
type AdminOptions struct {
	// Addr is the TCP address, as "host:port". Port 0 takes a free one. Required.
	Addr string
	// Gatherer supplies /metrics. Default: no metrics.
	Gatherer prometheus.Gatherer
	// Ready supplies /readyz. Default: an empty one, which is never ready.
	Ready *Ready
	// PProf serves the profiler under /debug/pprof/. Default off, because profiles show
	// the memory's content.
	PProf bool
	// Bound returns the listener with a bound on its connections. When the result has the method
	// Busy, as a budget.Listener, it learns which connections are being answered. Default: no
	// bound.
	Bound func(*net.TCPListener) net.Listener
	// Log logs errors. Default: discarded.
	Log *slog.Logger
}

// Admin is the HTTP port for operators.
type Admin struct {
	server *http.Server
	addr   net.Addr
	done   chan struct{}
	err    error // why it ended without Close; valid after done
}

// StartAdmin opens the port and serves it until Close. The port is open when it returns.
func StartAdmin(opt AdminOptions) (*Admin, error) {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Ready == nil {
		opt.Ready = NewReady(0)
	}
	l, err := net.Listen("tcp", opt.Addr)
	if err != nil {
		return nil, fmt.Errorf("open admin port: %w", err)
	}
	if opt.Bound != nil {
		l = opt.Bound(l.(*net.TCPListener))
	}
	a := &Admin{addr: l.Addr(), done: make(chan struct{}), server: &http.Server{
		Handler:           local(l.Addr(), handler(opt)),
		ConnState:         tell(l),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		// A profile or a trace takes as many seconds as its request says. pprof refuses
		// to exceed this timeout.
		WriteTimeout:   2 * time.Minute,
		IdleTimeout:    2 * time.Minute,
		MaxHeaderBytes: 64 << 10,
		ErrorLog:       slog.NewLogLogger(opt.Log.Handler(), slog.LevelWarn),
	}}
	go func() {
		defer close(a.done)
		if err := a.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			a.err = fmt.Errorf("admin port: %w", err)
			opt.Log.Error("admin port ended", "err", err)
		}
	}()
	return a, nil
}

// Addr returns the address of the port.
func (a *Admin) Addr() net.Addr { return a.addr }

// Close closes the port and waits until the requests that arrived are answered, or until
// ctx ends. It returns the reason when the port ended without Close.
func (a *Admin) Close(ctx context.Context) error {
	if err := a.server.Shutdown(ctx); err != nil {
		a.server.Close() // cuts off the other requests; err tells the caller
		<-a.done
		return fmt.Errorf("close admin port: %w", err)
	}
	<-a.done
	return a.err
}

func handler(opt AdminOptions) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		io.WriteString(w,
			"/metrics  what this process counts, for Prometheus\n"+
				"/healthz  whether the process is alive\n"+
				"/readyz   whether the process can do its work; if not, why\n")
		if opt.PProf {
			io.WriteString(w, "/debug/pprof/  profiles\n")
		}
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		io.WriteString(w, "ok\n")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		report := opt.Ready.Check(r.Context())
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		if !report.Ready {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		json.NewEncoder(w).Encode(report)
	})
	if opt.Gatherer != nil {
		mux.Handle("GET /metrics", promhttp.HandlerFor(opt.Gatherer, promhttp.HandlerOpts{
			ErrorLog: slog.NewLogLogger(opt.Log.Handler(), slog.LevelWarn),
			// One broken collector must not hide the others.
			ErrorHandling:       promhttp.ContinueOnError,
			MaxRequestsInFlight: 4,
		}))
	}
	if opt.PProf {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return mux
}
