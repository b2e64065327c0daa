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
	st := engine.NewStrangers(engine.StrangerOptions{
		PerAddress: cfg.PerAddress, Rate: cfg.Rate, Burst: float64(cfg.Burst),
		Reserved: cfg.Reserved, Memory: int64(cfg.Memory), Trusted: trusted,
	})
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "teamtalk_engine_stranger_bytes",
		Help: "Bytes that wait for the rest of a frame of a connection without a login, or " +
			"for such a connection to read them.",
	}, func() float64 { return float64(st.Bytes()) }))
	return st
}

// newProxies returns the proxies of the section proxy; nil when there are none.
func newProxies(cfg *config.Proxy, log *slog.Logger, reg *prometheus.Registry) (
	*proxyproto.Proxies, error) {
	networks, err := origin.ParseNetworks("proxy.networks", cfg.Networks)
	if err != nil {
		return nil, err
	}
	return proxyproto.New(proxyproto.Options{Networks: networks, Log: log, Registerer: reg}), nil
}
