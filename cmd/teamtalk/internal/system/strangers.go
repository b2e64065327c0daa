package system

import (
	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/config"
	"teamtalk/core/engine"
	"teamtalk/core/origin"
)

// boundStrangers applies the section strangers, and registers its metric.
func (s *system) boundStrangers(cfg *config.Strangers) (err error) {
	s.trusted, err = origin.ParseNetworks("strangers.trusted_networks", cfg.Trusted)
	if err != nil {
		return err
	}
	s.strangers = engine.NewStrangers(engine.StrangerOptions{
		PerAddress: cfg.PerAddress, Rate: cfg.Rate, Burst: float64(cfg.Burst),
		Reserved: cfg.Reserved, Memory: int64(cfg.Memory), Trusted: s.trusted,
	})
	s.reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "teamtalk_engine_stranger_bytes",
		Help: "Bytes that wait for the rest of a frame of a connection without a login, or " +
			"for such a connection to read them.",
	}, func() float64 { return float64(s.strangers.Bytes()) }))
	return nil
}
