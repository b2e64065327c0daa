package pages

import (
	"context"
	"net"
	"net/netip"

	"teamtalk/core/config"
	"teamtalk/core/im"
)

// files are the file servers with which pages exchange files.
type files struct{ *Servers }

// Any reports whether a file server is known.
func (f files) Any() bool { return f.opt.Files != nil || len(f.known()) > 0 }

// known returns the addresses at which this server reaches file servers in other processes, by
// those that clients are told.
func (f files) known() map[string]string {
	addrs := map[string]string{}
	for _, addr := range f.opt.Config.Web.File {
		addrs[addr] = addr
	}
	if len(addrs) > 0 {
		return addrs
	}
	for _, n := range f.nodes(config.RoleFile) {
		for _, addr := range n.Clients {
			if n.Pages != "" {
				addrs[addr] = n.Pages
			}
		}
	}
	return addrs
}

// Connect connects a client to a file server. Other addresses are refused: a page must not make
// this server connect to any machine.
func (f files) Connect(ctx context.Context, addr string, client netip.AddrPort, secure bool) (
	net.Conn, error) {
	if f.opt.Files != nil {
		if port := f.opt.Files(addr); port != nil {
			return port.Attach(client, secure)
		}
	}
	near := f.known()[addr]
	if near == "" {
		return nil, im.Errorf(im.NotFound, "no file server is known at this address")
	}
	if err := f.opt.Config.MayCarry(near); err != nil {
		return nil, err
	}
	return f.dial.To(ctx, near, client, secure)
}
