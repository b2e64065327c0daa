package system

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/config"
	"teamtalk/core/engine"
	"teamtalk/core/origin"
	"teamtalk/core/proxyproto"
)

// newStrangers returns the bounds of the section strangers, and registers their metric.
func newStrangers(cfg *config.Strangers, trusted origin.Networks,
	reg *prometheus.Registry) *engine.Strangers {
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
func newProxies(cfg *config.Proxy, limit int, log *slog.Logger, reg *prometheus.Registry) (
	*proxyproto.Proxies, error) {
	networks, err := origin.ParseNetworks("proxy.networks", cfg.Networks)
	if err != nil {
		return nil, err
	}
	return proxyproto.New(proxyproto.Options{Networks: networks, Log: log, Registerer: reg,
		Most: max(1, min(maxHeaders, limit/16))}), nil
}
