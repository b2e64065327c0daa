package system

import (
	"net"

	"teamtalk/core/config"
	"teamtalk/core/web"
)

// webPort is an HTTP port.
type webPort struct {
	server *web.Server
	addr   net.Addr
	limit  func(*config.Config) int // of its connections
}

// webLimit returns how many connections an HTTP port takes. It takes at most a quarter of those
// that this process may have, so that a crowd on all three of the HTTP ports leaves some to the
// other ports.
func webLimit(s *system, setting int) int { return min(setting, max(1, s.budget.Limit()/4)) }

// serveWeb starts an HTTP server, which the caller closes. limit returns the setting with the
// number of its connections.
func (s *system) serveWeb(l *net.TCPListener, limit func(*config.Config) int,
	opt web.Options) *web.Server {
	opt.MaxConns = webLimit(s, limit(s.cfg))
	opt.Budget, opt.Log, opt.Registerer = s.budget, s.log, s.reg
	opt.PerAddress, opt.Trusted = s.cfg.Strangers.PerAddress, s.trusted
	opt.Proxies, opt.Forwarders = s.proxies, s.forwarders
	opt.ClientHeader = s.cfg.HTTP.ClientHeader
	plain := opt.Plain
	if s.tls.Web(&opt); plain != nil {
		opt.Plain = plain
	}
	srv := web.Serve(l, opt)
	s.webs = append(s.webs, webPort{srv, l.Addr(), limit})
	go func() {
		if err := srv.Err(); err != nil {
			s.fail(err)
		}
	}()
	return srv
}
