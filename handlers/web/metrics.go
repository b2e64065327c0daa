package web

import "github.com/prometheus/client_golang/prometheus"

// metrics count the WebSockets and the files of pages, by what became of the request.
type metrics struct{ sockets, files *prometheus.CounterVec }

// The results of a request for a WebSocket, in metrics.
const (
	resultOpen     = "open"       // this server carries its bytes
	resultAdopted  = "adopted"    // by the message server of this process
	resultUpgrade  = "no_upgrade" // a request for something else
	resultOrigin   = "origin"
	resultNoServer = "no_server" // no message server takes it
	resultSilent   = "no_answer" // of the message server
	resultRefused  = "refused"   // by the message server
	resultStopping = "stopping"
)

func newMetrics(reg prometheus.Registerer, s *Server) metrics {
	m := metrics{prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "teamtalk_webchat_sockets_total",
		Help: "Requests of pages for a WebSocket, by result: open (this server carries its " +
			"bytes), adopted (the message server of this process has it), no_upgrade, origin, " +
			"no_server (no message server takes it), no_answer and refused (of the message " +
			"server), stopping.",
	}, []string{"result"}), prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "teamtalk_webchat_files_total",
		Help: "Files that pages upload, download and decline, by result: ok, bad (the request, " +
			"or a file of another size than announced), denied (by the file server), " +
			"unknown_server, busy (too many transfers), failed.",
	}, []string{"direction", "result"})}
	if reg != nil {
		reg.MustRegister(m.sockets, m.files, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "teamtalk_webchat_open",
			Help: "WebSockets of pages whose bytes this server carries to message servers.",
		}, func() float64 { return float64(s.Open()) }))
	}
	return m
}
