package websocket

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
)

// Origins are the pages that may open connections, as browsers name them in the header Origin. A
// request without that header comes from no browser, and is always allowed. The zero value allows
// the pages of the host that the request names, on any port.
type Origins struct {
	all  bool
	list []string
}

// anyOrigin is the entry that allows all pages.
const anyOrigin = "*"

// ParseOrigins parses entries such as https://chat.example.com, or * for all pages. Without entries the
// result is the zero value. An error quotes the entry.
func ParseOrigins(list []string) (Origins, error) {
	var o Origins
	for _, e := range list {
		if e == anyOrigin {
			o.all = true
			continue
		}
		origin, err := normal(e)
		if err != nil {
			return Origins{}, fmt.Errorf("%q: %w", e, err)
		}
		o.list = append(o.list, origin)
	}
	return o, nil
}

// errOrigin says what an origin is.
var errOrigin = errors.New("want an origin such as https://chat.example.com, without a path, or *")

// normal returns an origin in small letters, without the default port of its scheme.
func normal(origin string) (string, error) {
	u, err := url.Parse(strings.ToLower(origin))
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" ||
		u.User != nil || strings.TrimSuffix(u.Path, "/") != "" || u.RawQuery != "" ||
		u.ForceQuery || u.Fragment != "" || u.Hostname() == "" {
		return "", errOrigin
	}
	host := u.Host
	if port := u.Port(); port == "" || port == defaultPorts[u.Scheme] {
		host = strings.TrimSuffix(host, ":"+port)
	}
	return u.Scheme + "://" + host, nil
}

// defaultPorts are the ports that a browser leaves out.
var defaultPorts = map[string]string{"http": "80", "https": "443"}

// Allow reports whether a page of origin may connect to host, the value of the header Host.
func (o *Origins) Allow(origin, host string) bool {
	if o.all {
		return true
	}
	origin, err := normal(origin)
	if err != nil {
		return false // "null" too, the origin of files and of pages in a sandbox
	}
	if len(o.list) > 0 {
		return slices.Contains(o.list, origin)
	}
	_, page, _ := strings.Cut(origin, "://")
	return bare(page) == bare(strings.ToLower(host))
}

// bare returns a host without its port.
func bare(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		return h
	}
	return strings.Trim(host, "[]")
}
