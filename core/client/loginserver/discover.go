// Package loginserver calls the HTTP interfaces that a client needs before it has a
// connection: a login server names a message server, and an HTTP API registers users.
package loginserver

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"

	"teamtalk/core/client/tcp"
	"teamtalk/core/im"
)

// maxDiscovery is the longest answer accepted from a login server, in bytes.
const maxDiscovery = 64 << 10

// NewHTTPClient returns a client without cookies. config is that of TLS for https URLs; nil:
// the system's.
func NewHTTPClient(config *tls.Config) *http.Client {
	if config == nil {
		return &http.Client{}
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = config.Clone()
	return &http.Client{Transport: transport}
}

// Discover asks a login server for a message server and returns the addresses to try,
// best first, as host:port. The parameter server is the login server's URL; without a
// path it means /msg_server. Unavailable when the login server does not answer or knows
// no message server, Busy when all are full, Malformed when the answer is not valid.
func Discover(ctx context.Context, hc *http.Client, server string) ([]string, error) {
	d, err := askLogin(ctx, hc, server)
	if err != nil {
		return nil, err
	}
	return d.addrs()
}

// SmallFiles asks a login server for the URL of the small file server. Unavailable when the
// login server does not answer or names none. The parameter server is as in Discover.
func SmallFiles(ctx context.Context, hc *http.Client, server string) (string, error) {
	d, err := askLogin(ctx, hc, server)
	if err != nil {
		return "", err
	}
	if d.Files == "" {
		return "", im.Errorf(im.Unavailable, "the login server names no small file server")
	}
	return d.Files, nil
}

// askLogin asks a login server. It returns an answer with a message server, or an error.
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

// discoveryURL adds a missing scheme and path.
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

// discovery is the answer of a login server. The port is a string, in some deployments a
// number.
type discovery struct {
	Code     int             `json:"code"`
	Msg      string          `json:"msg"`
	PriorIP  string          `json:"priorIP"`
	BackupIP string          `json:"backupIP"`
	Files    string          `json:"msfsPrior"`
	Register string          `json:"register"` // URL of the HTTP API, if people may register there
	Port     json.RawMessage `json:"port"`
}

// Values of discovery.Code.
const (
	discoveryOK   = 0
	discoveryFull = 2
)

// parseDiscovery decodes the answer of a login server. An answer without a message server
// is an error.
func parseDiscovery(body []byte) (*discovery, error) {
	if len(body) > maxDiscovery {
		return nil, im.Errorf(im.Malformed, "login server's answer is longer than %d bytes",
			maxDiscovery)
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

// addrs returns the addresses in the answer.
func (d *discovery) addrs() ([]string, error) {
	port, err := strconv.ParseUint(strings.Trim(string(d.Port), `"`), 10, 16)
	if err != nil || port == 0 {
		return nil, im.Errorf(im.Malformed, "login server's answer has no port: %.20q", d.Port)
	}
	var addrs []string
	for _, host := range []string{d.PriorIP, d.BackupIP} {
		if !tcp.ValidHost(host) || len(addrs) == 1 && host == d.PriorIP {
			continue
		}
		addrs = append(addrs, net.JoinHostPort(host, strconv.FormatUint(port, 10)))
	}
	if len(addrs) == 0 {
		return nil, im.Errorf(im.Malformed, "login server's answer has no address")
	}
	return addrs, nil
}
