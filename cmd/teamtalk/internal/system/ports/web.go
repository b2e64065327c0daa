package ports

import (
	"net"

	"teamtalk/core/config"
	"teamtalk/core/web"
)

// webPort is an HTTP port for clients and other systems.
type webPort struct {
	server *web.Server
	addr   net.Addr
	limit  func(*config.Config) int // of its connections
	share  int                      // of an address, see ServeWeb
}

// webLimit returns how many connections an HTTP port takes. It takes at most a quarter of those
// that this process may have, so that a crowd on all three of the HTTP ports leaves some to the
// other ports.
func (p *Ports) webLimit(setting int) int { return min(setting, max(1, p.Budget.Limit()/4)) }

// ServeWeb starts an HTTP server for clients or other systems, with TLS if they have it. limit
// returns the setting with the number of its connections. opt.PerAddress bounds an address more
// than the settings do; 0: it does not. The caller closes the server.
func (p *Ports) ServeWeb(l *net.TCPListener, limit func(*config.Config) int,
	opt web.Options) *web.Server {
	opt.MaxConns = p.webLimit(limit(p.opt.Config))
	opt.Forwarders, opt.ClientHeader = p.forwarders, p.opt.Config.HTTP.ClientHeader
	plain := opt.Plain
	if p.opt.Clients.Web(&opt); plain != nil {
		opt.Plain = plain
	}
	srv := p.ServePlain(l, opt)
	p.webs = append(p.webs, webPort{srv, l.Addr(), limit, opt.PerAddress})
	return srv
}

// perAddress returns how many connections an address may have on an HTTP port: the smaller one of
// the setting and the port's share, where 0 bounds nothing.
func perAddress(setting, share int) int {
	if setting == 0 || share != 0 && share < setting {
		return share
	}
	return setting
}

// ServePlain starts an HTTP server whose bounds and TLS are those of opt. The caller closes it.
func (p *Ports) ServePlain(l *net.TCPListener, opt web.Options) *web.Server {
	opt.Budget, opt.Log, opt.Registerer = p.Budget, p.opt.Log, p.opt.Registerer
	opt.PerAddress = perAddress(p.opt.Config.Strangers.PerAddress, opt.PerAddress)
	opt.Trusted = p.Trusted
	opt.Proxies = p.proxies
	srv := web.Serve(l, opt)
	go func() {
		if err := srv.Err(); err != nil {
			p.opt.Failed(err)
		}
	}()
	return srv
}
