// Package web serves the page with which users chat in a browser, and what the page needs, on one
// HTTP port:
//
//   - the files of the page, which are part of the binary (page/dist)
//   - /config.json, what the page must know of the deployment
//   - /ws, or any path that is none of the others, a WebSocket that a message server answers: one
//     of this process takes over the connection, to one elsewhere this package carries the bytes
//   - /msfs/, the small file server
//   - /register, the registration of the HTTP API
//   - /file/TASK, files from and for other users: this package is a client of the file server in
//     the name of its user
//
// The page speaks the protocol of all clients, see PROTOCOL.md. Of its WebSocket this package
// knows neither PDUs nor users.
package web

import (
	"context"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/obs"
	"teamtalk/core/opt"
	port "teamtalk/core/web"
	"teamtalk/core/web/assets"
	"teamtalk/core/websocket"
)

// Options configure a Server. Zero fields mean the defaults.
type Options struct {
	// Messages connects a client to a message server's port for WebSocket. secure says that the
	// client has TLS. Required without Adopt.
	Messages func(ctx context.Context, client netip.AddrPort, secure bool) (net.Conn, error)
	// Adopt makes the connection of a page one of a message server of this process, which answers
	// the request in Taken.Begin. After an error the connection is still the caller's. Default:
	// Messages connects all pages.
	Adopt func(port.Taken) error
	// WebSocket is the URL to which pages connect instead. Default: this port.
	WebSocket string
	// Origins are the pages that may open a WebSocket.
	Origins websocket.Origins
	// SmallFiles answers what follows /msfs. Default: status 404.
	SmallFiles http.Handler
	// Register answers /query/Register, see package httpapi. Default: users cannot register.
	Register http.Handler
	// FileServers keep files for their receivers. Default: pages cannot transfer files.
	FileServers FileServers
	// TextKey is the key of the clients' text encryption. Empty: the page gets none.
	TextKey string
	// Version is that of the build.
	Version string
	// AnswerTimeout bounds the wait for the first bytes of a message server, and for the terms
	// of registration. Default 5 s.
	AnswerTimeout time.Duration
	// WriteTimeout bounds a write to a client or to a message server. Default 30 s.
	WriteTimeout time.Duration
	// Linger bounds the time from the end of one direction of a WebSocket to that of the
	// other. Default 5 s.
	Linger time.Duration
	// Log gets errors. Default: discarded.
	Log *slog.Logger
	// Registerer gets the metrics. Default: none.
	Registerer prometheus.Registerer

	files fs.FS // of the page; nil: those of the binary
}

// Server is the page's server, an http.Handler. Any goroutine.
type Server struct {
	opt     Options
	log     *slog.Logger
	mux     *http.ServeMux
	policy  string // Content-Security-Policy
	pages   *http.CrossOriginProtection
	metrics metrics
	often   obs.Often

	mu      sync.Mutex
	bridges map[*bridge]struct{}
	closed  bool
	moving  int            // files in transfer
	users   map[uint32]int // those of each user
	done    sync.WaitGroup // directions of bridges
}

// New returns a server.
func New(o Options) *Server {
	opt.Default(&o.AnswerTimeout, 5*time.Second)
	opt.Default(&o.WriteTimeout, 30*time.Second)
	opt.Default(&o.Linger, 5*time.Second)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.files == nil {
		o.files = dist
	}
	s := &Server{opt: o, log: o.Log.With("role", "web"), mux: http.NewServeMux(),
		policy: policy(o.WebSocket), pages: http.NewCrossOriginProtection(),
		bridges: map[*bridge]struct{}{}, users: map[uint32]int{}}
	s.metrics = newMetrics(o.Registerer, s)
	s.mux.Handle("/", s.page(assets.New(o.files)))
	s.mux.HandleFunc("GET /config.json", s.config)
	s.mux.HandleFunc("GET /ws", s.socket)
	if o.SmallFiles != nil {
		s.mux.Handle("/msfs/", s.pages.Handler(http.StripPrefix("/msfs", o.SmallFiles)))
	}
	if o.Register != nil {
		s.mux.Handle("POST /register", s.pages.Handler(http.HandlerFunc(s.register)))
	}
	if o.FileServers != nil {
		s.mux.Handle("POST /file/{task}", s.pages.Handler(http.HandlerFunc(s.upload)))
		s.mux.HandleFunc("GET /file/{task}", s.download)
		s.mux.Handle("DELETE /file/{task}", s.pages.Handler(http.HandlerFunc(s.decline)))
	}
	return s
}

// page answers with a file of the page. A request for a WebSocket is one at any path, as at the
// message servers' own port: web clients of others ask for the root.
func (s *Server) page(files http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if upgrades(r) {
			s.socket(w, r)
			return
		}
		files.ServeHTTP(w, r)
	})
}

// policy returns the Content-Security-Policy of the page. socket is the URL to which it connects;
// empty: that of the page.
func policy(socket string) string {
	if socket != "" {
		scheme, rest, _ := strings.Cut(socket, "://")
		host, _, _ := strings.Cut(rest, "/")
		socket = " " + scheme + "://" + host
	}
	return "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; " +
		"img-src 'self' blob: data:; connect-src 'self'" + socket + "; " +
		"object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
}

// ServeHTTP answers requests.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.HasPrefix(r.URL.Path, "/msfs/") { // small files have headers of their own
		h := w.Header()
		h.Set("Content-Security-Policy", s.policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
	}
	s.mux.ServeHTTP(w, r)
}

// Close ends all WebSockets, and waits for their end. Further ones are refused.
func (s *Server) Close(context.Context) error {
	s.mu.Lock()
	s.closed = true
	for b := range s.bridges {
		b.close()
	}
	s.mu.Unlock()
	s.done.Wait()
	return nil
}
