package web

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"teamtalk/core/mono"
	"teamtalk/core/obs"
)

// RemoteOptions describe a server of another process that answers for the page.
type RemoteOptions struct {
	// URL returns where the server is, "" for unknown. Required.
	URL func() string
	// TLS is the configuration for https URLs. Default: the CAs of the system.
	TLS *tls.Config
	// Wait bounds the silence of the client and of the server. Default 30 s.
	Wait time.Duration
	// Log gets errors. Default: discarded.
	Log *slog.Logger
}

// Remote returns a handler that passes requests on. The server learns the address of the client
// from a header. Without a URL the status is 404.
func Remote(o RemoteOptions) http.Handler {
	if o.Wait == 0 {
		o.Wait = 30 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	var often obs.Often
	proxy := &httputil.ReverseProxy{
		Rewrite: rewrite,
		Transport: &http.Transport{TLSClientConfig: o.TLS, DisableCompression: true,
			MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute,
			ResponseHeaderTimeout: o.Wait, TLSHandshakeTimeout: 10 * time.Second},
		ErrorLog: slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			often.Warn(o.Log, mono.Now(), "no answer to a page", "role", "web", "err", err)
			http.Error(w, "the server does not answer", http.StatusBadGateway)
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		to, err := url.Parse(o.URL())
		if err != nil || to.Host == "" {
			http.NotFound(w, r)
			return
		}
		c := http.NewResponseController(w)
		out := r.WithContext(context.WithValue(r.Context(), targetKey{}, to))
		out.Body = &timelyBody{ReadCloser: out.Body, control: c, wait: o.Wait}
		answer := &timelyWriter{w, c, o.Wait}
		proxy.ServeHTTP(answer, out)
		answer.extend() // an answer without a body has not been sent yet
	})
}

type targetKey struct{}

// rewrite prepares a request for the other server. It names the client in each of the headers that
// a server may read (http.client_header), and none is that of the client. Nothing of the page's
// origin follows it.
func rewrite(p *httputil.ProxyRequest) {
	p.SetURL(p.In.Context().Value(targetKey{}).(*url.URL))
	for name := range p.Out.Header {
		if name == "Origin" || name == "Via" || name == "Referer" || name == "Cookie" ||
			strings.HasPrefix(name, "Sec-") {
			p.Out.Header.Del(name)
		}
	}
	p.Out.Header.Del("X-Real-Ip")
	client, err := netip.ParseAddrPort(p.In.RemoteAddr)
	if err != nil {
		return
	}
	addr := client.Addr().Unmap().WithZone("")
	p.Out.Header.Set("X-Forwarded-For", addr.String())
	p.Out.Header.Set("X-Real-Ip", addr.String())
	node := addr.String()
	if addr.Is6() {
		node = `"[` + node + `]"`
	}
	p.Out.Header.Set("Forwarded", "for="+node)
}

// timelyBody extends the time of a request with each piece. A port bounds that of the whole
// request otherwise. One goroutine at a time.
type timelyBody struct {
	io.ReadCloser
	control *http.ResponseController
	wait    time.Duration
	ended   bool
}

// Read reads a piece. After the end, the connection waits for the next request, and its time is
// not that of this one.
func (b *timelyBody) Read(p []byte) (int, error) {
	if !b.ended {
		// An error shows in the read.
		_ = b.control.SetReadDeadline(time.Now().Add(b.wait))
	}
	n, err := b.ReadCloser.Read(p)
	b.ended = err != nil
	return n, err
}

// timelyWriter extends the time of an answer with each piece.
type timelyWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	wait    time.Duration
}

// extend gives the client time to take what was written. An error shows in the next write.
func (w *timelyWriter) extend() { _ = w.control.SetWriteDeadline(time.Now().Add(w.wait)) }

// Write writes a piece.
func (w *timelyWriter) Write(p []byte) (int, error) {
	w.extend()
	return w.ResponseWriter.Write(p)
}

// FlushError sends what was written, for http.ResponseController.
func (w *timelyWriter) FlushError() error {
	w.extend()
	return w.control.Flush()
}

// Unwrap returns the writer of the port, for http.ResponseController.
func (w *timelyWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
