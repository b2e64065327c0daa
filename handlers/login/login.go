// Package login decides for the login server: it knows the message servers and how full they are, and gives each client the address of the
// least loaded one, over HTTP or over TCP.
//
// Message servers announce themselves on a port of their own and then report each client that comes and goes. An entry lives as long as
// the link it came over.
package login

import (
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/session"
)

// Options sets up a Server. Zero values mean the defaults.
type Options struct {
	// IP2Networks are the networks whose clients are given a message server's second address first: a server that is reached over two
	// carriers has an address with each. Default: none, everybody gets the first address first.
	IP2Networks []netip.Prefix
	// MSFSPrior and MSFSBackup are the URLs of the small file server that HTTP clients are told; MSFSBackup defaults to MSFSPrior.
	// Clients append paths to them, so they are told with a slash at the end, whether it is
	// given here or not.
	MSFSPrior, MSFSBackup string
	// Discovery is the URL of the discovery page that HTTP clients are told.
	Discovery string
	// Register is the URL of the HTTP API where people may register, told to HTTP clients; empty: nowhere. Only those in RegisterNetworks are told, when there
	// are any.
	Register         string
	RegisterNetworks []netip.Prefix
	// ClientDeadline is how long a client may stay connected to the TCP port without asking. Default 15 s.
	ClientDeadline time.Duration
	// LinkTimeout is how long a message server may be silent before its entry goes, LinkHeartbeat how long this side may be.
	// Defaults 30 s and 5 s.
	LinkTimeout, LinkHeartbeat time.Duration
	// Log gets message servers coming and going. Default: discarded.
	Log *slog.Logger
	// Registerer gets the metrics. Default: none.
	Registerer prometheus.Registerer
}

// Server is the login role. Its three sides share one table of message servers and may be used from anywhere.
type Server struct {
	opt     Options
	log     *slog.Logger
	table   *table
	metrics *metrics
	clients *clients
	servers *servers
}

// New makes a login server that knows no message server yet.
func New(opt Options) *Server {
	if opt.MSFSBackup == "" {
		opt.MSFSBackup = opt.MSFSPrior
	}
	opt.MSFSPrior, opt.MSFSBackup = withSlash(opt.MSFSPrior), withSlash(opt.MSFSBackup)
	if opt.ClientDeadline <= 0 {
		opt.ClientDeadline = 15 * time.Second
	}
	if opt.LinkTimeout <= 0 {
		opt.LinkTimeout = 30 * time.Second
	}
	if opt.LinkHeartbeat <= 0 {
		opt.LinkHeartbeat = 5 * time.Second
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{opt: opt, log: opt.Log, table: newTable()}
	s.metrics = newMetrics(opt.Registerer, s.table)
	s.clients = newClients(s)
	s.servers = newServers(s)
	return s
}

// withSlash returns url with one slash at its end; "" for "".
func withSlash(url string) string {
	if url == "" {
		return ""
	}
	return strings.TrimRight(url, "/") + "/"
}

// Clients is the handler of the TCP port for clients: one question, one answer, end.
func (s *Server) Clients() session.Handler { return s.clients }

// Servers is the handler of the port for message servers.
func (s *Server) Servers() session.Handler { return s.servers }

// result is the outcome of a choice, with the protocol's numbers.
type result int

const (
	resultOK   result = 0
	resultNone result = 1 // no message server is known
	resultFull result = 2 // all are full
)

// address is where a client should connect.
type address struct {
	prior, backup string
	port          uint32
}

// choose picks the message server for a client at addr and counts the answer. via is http or tcp.
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

// register is where a client at addr may register.
func (s *Server) register(addr netip.Addr) string {
	if len(s.opt.RegisterNetworks) > 0 && !within(s.opt.RegisterNetworks, addr) {
		return ""
	}
	return s.opt.Register
}

func within(nets []netip.Prefix, addr netip.Addr) bool {
	addr = addr.Unmap()
	return slices.ContainsFunc(nets, func(p netip.Prefix) bool { return p.Contains(addr) })
}

type metrics struct {
	dispatched *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, t *table) *metrics {
	m := &metrics{dispatched: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "teamtalk_login_dispatched_total",
		Help: "Clients that asked for a message server, by way and answer (ok, none, full)."}, []string{"via", "result"})}
	if reg != nil {
		reg.MustRegister(m.dispatched,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "teamtalk_login_message_servers",
				Help: "Message servers known."}, func() float64 { n, _ := t.totals(); return float64(n) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "teamtalk_login_clients",
				Help: "Clients logged in, as the message servers report them."}, func() float64 { _, n := t.totals(); return float64(n) }))
	}
	return m
}
