// Package login implements the login server: it tracks the message servers and their
// numbers of clients, and tells each client, over HTTP or TCP, the address of the least
// loaded message server.
//
// Message servers announce themselves on a port of their own, and then report each client
// that connects or disconnects. An entry is removed when the link that announced it ends. With
// a registry of the deployment, the message servers in it need no link.
package login

import (
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/mono"
	option "teamtalk/core/opt"
	"teamtalk/core/registry"
	"teamtalk/core/session"
)

// Options configures a Server. Zero values mean the defaults.
type Options struct {
	// IP2Networks are the networks whose clients are told a message server's second
	// address first. A server that is reached through two carriers has one address in
	// each carrier's network. Default: none, every client is told the first address
	// first.
	IP2Networks []netip.Prefix
	// MSFSPrior and MSFSBackup are the URLs of the small file server that HTTP clients
	// are told. MSFSPrior defaults to the preferred one in Registered, see
	// registry.FileURLs, and MSFSBackup to MSFSPrior. Clients append paths to both, so the
	// server announces them with a slash at the end, whether or not they are given with
	// one.
	MSFSPrior, MSFSBackup string
	// Discovery is the URL of the discovery page that HTTP clients are told.
	Discovery string
	// Register is the URL of the HTTP API where users may register. HTTP clients are told
	// it; empty: they are told none. When RegisterNetworks is not empty, only clients in
	// these networks are told.
	Register         string
	RegisterNetworks []netip.Prefix
	// Registered has the message servers of the deployment, beside those that announce
	// themselves, and its small file servers. Default: none.
	Registered Registered
	// ClientDeadline is the longest time that a client may stay connected to the TCP port
	// without a request. Default 15 s.
	ClientDeadline time.Duration
	// LinkTimeout is the longest time that a message server may be silent before its link
	// is closed and its entry removed; 0: for ever. LinkHeartbeat is the interval of this
	// side's heartbeats; 0: none.
	LinkTimeout, LinkHeartbeat time.Duration
	// Now returns the time. Default mono.Now.
	Now func() time.Time
	// Log records the message servers that connect and disconnect. Default: discarded.
	Log *slog.Logger
	// Registerer registers the metrics. Default: none.
	Registerer prometheus.Registerer
}

// registration is Options.Register with Options.RegisterNetworks.
type registration struct {
	url      string
	networks []netip.Prefix
}

// Server is the login role. Its three handlers share one table of message servers. Any
// goroutine.
type Server struct {
	opt     Options
	log     *slog.Logger
	table   *table
	metrics *metrics
	clients *clients
	servers *servers

	registration atomic.Pointer[registration]
}

// New returns a login server whose table of message servers is empty.
func New(opt Options) *Server {
	option.Default(&opt.ClientDeadline, 15*time.Second)
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Now == nil {
		opt.Now = mono.Now
	}
	var r *registered
	if opt.Registered != nil {
		r = newRegistered(opt.Registered, opt.Now)
	}
	s := &Server{opt: opt, log: opt.Log, table: newTable(r)}
	s.SetRegister(opt.Register, opt.RegisterNetworks)
	s.metrics = newMetrics(opt.Registerer, s.table)
	s.clients = newClients(s)
	s.servers = newServers(s)
	return s
}

// filesURLs returns the URLs of the small file server that clients are told.
func (s *Server) filesURLs() (prior, backup string) {
	prior, backup = s.opt.MSFSPrior, s.opt.MSFSBackup
	if prior == "" && s.opt.Registered != nil {
		nodes, _ := s.opt.Registered.Nodes("msfs")
		if urls := registry.FileURLs(nodes); len(urls) > 0 {
			prior = urls[0]
		}
	}
	if backup == "" {
		backup = prior
	}
	return withSlash(prior), withSlash(backup)
}

// withSlash returns url with exactly one slash at its end. An empty url stays empty.
func withSlash(url string) string {
	if url == "" {
		return ""
	}
	return strings.TrimRight(url, "/") + "/"
}

// Clients returns the handler of the TCP port for clients. It answers one request and
// then closes the connection.
func (s *Server) Clients() session.ClientHandler { return s.clients }

// Servers returns the handler of the port for message servers.
func (s *Server) Servers() session.LinkHandler { return s.servers }

// result is the outcome of a choice. The values are the protocol's.
type result int

const (
	resultOK   result = 0
	resultNone result = 1 // no message server is known
	resultFull result = 2 // every message server has reached its limit
)

// address is the address to which a client should connect.
type address struct {
	prior, backup string
	port          uint32
}

// choose returns the message server for a client at addr, and counts the outcome. via is
// http or tcp.
func (s *Server) choose(via string, addr netip.Addr) (address, result) {
	e, r := s.table.choose()
	s.metrics.dispatched.WithLabelValues(via, resultNames[r]).Inc()
	if r != resultOK {
		return address{}, r
	}
	a := address{prior: e.ip1, backup: e.ip2, port: e.port}
	if s.secondFirst(addr) {
		a.prior, a.backup = a.backup, a.prior
	}
	return a, resultOK
}

var resultNames = map[result]string{resultOK: "ok", resultNone: "none", resultFull: "full"}

func (s *Server) secondFirst(addr netip.Addr) bool {
	return within(s.opt.IP2Networks, addr)
}

// register returns the URL where a client at addr may register; "" when it may not.
func (s *Server) register(addr netip.Addr) string {
	reg := s.registration.Load()
	if len(reg.networks) > 0 && !within(reg.networks, addr) {
		return ""
	}
	return reg.url
}

// SetRegister replaces Options.Register and Options.RegisterNetworks. Any goroutine.
func (s *Server) SetRegister(url string, networks []netip.Prefix) {
	s.registration.Store(&registration{url, networks})
}

func within(nets []netip.Prefix, addr netip.Addr) bool {
	addr = addr.Unmap()
	return slices.ContainsFunc(nets, func(p netip.Prefix) bool { return p.Contains(addr) })
}

type metrics struct {
	dispatched *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, t *table) *metrics {
	m := &metrics{dispatched: prometheus.NewCounterVec(
		prometheus.CounterOpts{Name: "teamtalk_login_dispatched_total",
			Help: "Clients that requested a message server, by protocol (http, tcp) and result " +
				"(ok, none, full)."}, []string{"via", "result"})}
	if reg != nil {
		reg.MustRegister(m.dispatched,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "teamtalk_login_message_servers",
				Help: "Message servers known."},
				func() float64 { n, _ := t.totals(); return float64(n) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "teamtalk_login_clients",
				Help: "Clients logged in, as the message servers report them."},
				func() float64 { _, n := t.totals(); return float64(n) }))
	}
	return m
}
