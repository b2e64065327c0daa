package ports

import (
	"log/slog"
	"net"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/config"
	"teamtalk/core/engine"
	"teamtalk/core/mono"
	"teamtalk/core/obs"
	"teamtalk/core/origin"
	"teamtalk/core/proxyproto"
)

// SetBounds sets the bounds of connections without a login, and those of the HTTP ports, to those
// of the settings.
func (p *Ports) SetBounds(cfg *config.Config) {
	p.strangers.SetBounds(strangerBounds(&cfg.Strangers))
	for _, w := range p.webs {
		w.server.SetPerAddress(perAddress(cfg.Strangers.PerAddress, w.share))
		w.server.SetMaxConns(p.webLimit(w.limit(cfg)))
	}
}

// reportShed counts and logs the connections for which the process has no descriptor.
func (p *Ports) reportShed() {
	p.opt.Registerer.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "teamtalk_accept_shed_total",
		Help: "Connections closed on arrival because the process was short of file descriptors, " +
			"or because all connections of the admin port were being answered.",
	}, func() float64 { return float64(p.Budget.Shed()) }))
	var often obs.Often
	p.Budget.Refused = func(port net.Addr) {
		often.Warn(p.opt.Log, mono.Now(), "connections refused: the process is short of file "+
			"descriptors, raise its limit of open files", "port", port.String())
	}
}

// strangerBounds returns the bounds of the section strangers.
func strangerBounds(c *config.Strangers) engine.StrangerOptions {
	return engine.StrangerOptions{PerAddress: c.PerAddress, Rate: c.Rate, Burst: float64(c.Burst),
		Reserved: c.Reserved, Memory: int64(c.Memory)}
}

// newStrangers returns the bounds of the section strangers, and registers their metric.
func newStrangers(cfg *config.Strangers, trusted origin.Networks,
	reg prometheus.Registerer) *engine.Strangers {
	opt := strangerBounds(cfg)
	opt.Trusted = trusted
	st := engine.NewStrangers(opt)
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "teamtalk_engine_stranger_bytes",
		Help: "Bytes that wait for the rest of a frame of a connection without a login, or " +
			"for such a connection to read them.",
	}, func() float64 { return float64(st.Bytes()) }))
	return st
}

// maxHeaders bounds the connections of a port that wait for the header of a proxy.
const maxHeaders = 1024

// newProxies returns the proxies of the section proxy; nil when there are none. Connections that
// wait for a header do not count in the budget yet, so each of the seven ports for clients has a
// sixteenth of it for them at most.
func newProxies(cfg *config.Proxy, limit int, log *slog.Logger, reg prometheus.Registerer) (
	*proxyproto.Proxies, error) {
	networks, err := origin.ParseNetworks("proxy.networks", cfg.Networks)
	if err != nil {
		return nil, err
	}
	return proxyproto.New(proxyproto.Options{Networks: networks, Log: log, Registerer: reg,
		Most: max(1, min(maxHeaders, limit/16))}), nil
}
