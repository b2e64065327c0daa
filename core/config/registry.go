package config

import (
	"fmt"
	"net"
	"net/netip"
	"time"

	"teamtalk/core/registry"
)

// Node is the section node.
type Node struct {
	Name string `toml:"name" default:"" form:"node"`
}

// Registry is the section registry.
type Registry struct {
	Enabled   bool          `toml:"enabled" default:"false"`
	Redis     RedisURL      `toml:"redis" default:"" form:"redis"`
	Advertise string        `toml:"advertise" default:"" form:"host"`
	Lease     time.Duration `toml:"lease" default:"6s" min:"1s" max:"60s"`
	Renew     time.Duration `toml:"renew" default:"2s" min:"200ms" max:"20s"`
	Poll      time.Duration `toml:"poll" default:"1s" min:"100ms" max:"20s"`
}

// Host returns the host at which other servers reach a port that listens on addr; empty: any
// address of this machine, so the setting registry.advertise is needed.
func (r Registry) Host(addr string) string {
	if r.Advertise != "" {
		return r.Advertise
	}
	host, _, err := net.SplitHostPort(addr)
	if ip, bad := netip.ParseAddr(host); err != nil || bad == nil && ip.IsUnspecified() {
		return ""
	}
	return host
}

// warnUnserved adds a warning for each server port on loopback that registry.advertise does not
// name. It is no error: a program on this machine may pass connections on to the port.
func (c *Config) warnUnserved() {
	host := c.Registry.Advertise
	if !c.Registry.Enabled || host == "" {
		return
	}
	for _, s := range c.serverAddrs() {
		if !s.listen || !onLoopback(s.addrs[0]) || servedBy(s.addrs[0], host) {
			continue
		}
		c.warnings = append(c.warnings, fmt.Sprintf("registry.advertise: other servers do not "+
			"reach %s = %q at %q, because it listens on loopback: listen on an address that "+
			"%[3]q leads to, or leave registry.advertise out", s.key, s.addrs[0], host))
	}
}

// servedBy reports whether a port that listens on an address of loopback serves connections to a
// host.
func servedBy(addr, host string) bool {
	near, _, _ := net.SplitHostPort(addr) // onLoopback has read it
	if ip, err := netip.ParseAddr(near); err == nil {
		if far, err := netip.ParseAddr(host); err == nil {
			return far.Unmap() == ip.Unmap()
		}
	}
	return onLoopback(net.JoinHostPort(host, "1"))
}

// checkRegistry reports what keeps the servers of this process from being registered.
func (c *Config) checkRegistry(wrong func(key, format string, args ...any)) {
	r := &c.Registry
	if !r.Enabled {
		return
	}
	if r.Lease < 3*max(r.Renew, r.Poll) {
		wrong("registry.lease", "must be at least three times registry.renew (%s) and "+
			"registry.poll (%s), or a server counts as gone when two calls to Redis fail",
			formatDuration(r.Renew), formatDuration(r.Poll))
	}
	if r.Advertise != "" {
		if err := registry.CheckHost(r.Advertise); err != nil {
			wrong("registry.advertise", "%v", err)
		}
	}
	for _, s := range c.serverAddrs() {
		if s.listen && s.addrs[0] != "" && r.Host(s.addrs[0]) == "" {
			wrong("registry.advertise", "needed, because %s = %q is all addresses of this "+
				"machine, and other servers must know one: set it to the host name or the IP "+
				"address at which they reach this machine, or put that into %[1]s", s.key,
				s.addrs[0])
			break
		}
	}
	if c.Store == "mysql" && c.Runs("dbproxy") { // CheckStore has these problems
		return
	}
	for _, p := range c.databaseTLS() {
		wrong(p.Key, "%s", p.Msg)
	}
}
