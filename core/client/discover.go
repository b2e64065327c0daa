package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"teamtalk/core/im"
)

// maxDiscovery is the longest answer taken from a login server, in bytes.
const maxDiscovery = 64 << 10

// Discover asks a login server for a message server and returns the addresses to try, best first, as host:port. server is the login
// server's URL; without a path, /msg_server is asked. Unavailable when there is no answer, or no message server; Busy when all
// are full; Malformed when the answer makes no sense.
func Discover(ctx context.Context, hc *http.Client, server string) ([]string, error) {
	d, err := askLogin(ctx, hc, server)
	if err != nil {
		return nil, err
	}
	return d.addrs()
}

// askLogin asks a login server, and returns an answer that names a message server.
func askLogin(ctx context.Context, hc *http.Client, server string) (*discovery, error) {
	u, err := discoveryURL(server)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return nil, im.WithKind(im.Invalid, "login server", err)
	}
	resp, err := hc.Do(req)
	if err != nil {
		return nil, im.WithKind(im.Unavailable, "ask login server", withoutURL(err))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, im.Errorf(im.Unavailable, "login server answers %s", resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxDiscovery+1))
	if err != nil {
		return nil, im.WithKind(im.Unavailable, "ask login server", err)
	}
	return parseDiscovery(body)
}

// discoveryURL completes what people type: a scheme, and the path.
func discoveryURL(server string) (string, error) {
	u, err := webURL(server)
	if err != nil {
		return "", im.WithKind(im.Invalid, "login server", err)
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/msg_server"
	}
	return u.String(), nil
}

// discovery is a login server's answer. The port is a string, or in some deployments a number.
type discovery struct {
	Code     int             `json:"code"`
	Msg      string          `json:"msg"`
	PriorIP  string          `json:"priorIP"`
	BackupIP string          `json:"backupIP"`
	Register string          `json:"register"` // URL of the HTTP API; of our servers, where people may register
	Port     json.RawMessage `json:"port"`
}

// Codes of a discovery.
const (
	discoveryOK   = 0
	discoveryFull = 2
)

// parseDiscovery reads a login server's answer. One that names no message server is an error.
func parseDiscovery(body []byte) (*discovery, error) {
	if len(body) > maxDiscovery {
		return nil, im.Errorf(im.Malformed, "login server's answer is longer than %d bytes", maxDiscovery)
	}
	var d discovery
	if err := json.Unmarshal(body, &d); err != nil {
		return nil, im.WithKind(im.Malformed, "login server's answer", err)
	}
	switch d.Code {
	case discoveryOK:
	case discoveryFull:
		return nil, im.Errorf(im.Busy, "all message servers are full: %.200q", d.Msg)
	default:
		return nil, im.Errorf(im.Unavailable, "login server has no message server: %.200q", d.Msg)
	}
	return &d, nil
}

// addrs are the addresses in a login server's answer.
func (d *discovery) addrs() ([]string, error) {
	port, err := strconv.ParseUint(strings.Trim(string(d.Port), `"`), 10, 16)
	if err != nil || port == 0 {
		return nil, im.Errorf(im.Malformed, "login server's answer has no port: %.20q", d.Port)
	}
	var addrs []string
	for _, host := range []string{d.PriorIP, d.BackupIP} {
		if !goodHost(host) || len(addrs) == 1 && host == d.PriorIP {
			continue
		}
		addrs = append(addrs, net.JoinHostPort(host, strconv.FormatUint(port, 10)))
	}
	if len(addrs) == 0 {
		return nil, im.Errorf(im.Malformed, "login server's answer has no address")
	}
	return addrs, nil
}

// goodHost accepts IP addresses and host names.
func goodHost(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return !strings.Contains(s, "%") // a zone means nothing on another machine
	}
	if s == "" || len(s) > 253 {
		return false
	}
	for _, r := range s {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' || r == '_') {
			return false
		}
	}
	return true
}

// dialFirst opens a connection to the first address that answers.
func dialFirst(ctx context.Context, dial func(ctx context.Context, network, addr string) (net.Conn, error), addrs []string) (net.Conn, error) {
	var all error
	for i, addr := range addrs {
		nc, err := dialShare(ctx, dial, addr, len(addrs)-i)
		if err == nil {
			return nc, nil
		}
		if all == nil {
			all = err
		} else {
			all = fmt.Errorf("%w; %w", all, err)
		}
	}
	return nil, im.WithKind(im.Unavailable, "connect to message server", all)
}

// dialShare dials with a fair share of the time that ctx leaves, when left addresses are still to be tried.
func dialShare(ctx context.Context, dial func(ctx context.Context, network, addr string) (net.Conn, error), addr string, left int) (net.Conn, error) {
	if deadline, ok := ctx.Deadline(); ok && left > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/time.Duration(left))
		defer cancel()
	}
	return dial(ctx, "tcp", addr)
}
