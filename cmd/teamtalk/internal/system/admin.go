package system

import (
	"fmt"
	"net"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/cmd/teamtalk/internal/system/stops"
	"teamtalk/core/config"
	"teamtalk/core/obs"
)

// maxAdmin bounds the connections of the admin port.
const maxAdmin = 64

// boundAdmin bounds the connections of the admin port.
func boundAdmin(s *system, tcp *net.TCPListener) net.Listener {
	l := s.ports.Budget.Listener(tcp, maxAdmin)
	s.reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "teamtalk_admin_displaced_total",
		Help: "Waiting connections of the admin port closed to make room for others.",
	}, func() float64 { return float64(l.Displaced()) }))
	return l
}

// startAdmin opens the admin port, unless the settings turn it off.
func (s *system) startAdmin() error {
	addr := config.Addr(s.cfg.Admin.Listen)
	if addr == "" {
		return nil
	}
	a, err := obs.StartAdmin(obs.AdminOptions{
		Addr: addr, Gatherer: s.reg, Ready: s.ready, PProf: s.cfg.Admin.PProf, Log: s.log,
		Bound: func(l *net.TCPListener) net.Listener { return boundAdmin(s, l) },
	})
	if err != nil {
		return fmt.Errorf("%w (setting admin.listen)", err)
	}
	if at := a.Addr().(*net.TCPAddr); s.cfg.Admin.PProf && !at.IP.IsLoopback() {
		s.log.Warn("the admin port shows the flags and the stacks of this process to everybody "+
			"that reaches it: turn admin.pprof off, or let admin.listen be on 127.0.0.1",
			"addr", at.String())
	}
	s.admin = a
	s.stops.Push(stops.CloseAdmin, "admin", a.Close)
	return nil
}
