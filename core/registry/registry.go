// Package registry describes the servers of a deployment as they register themselves: a Node is
// one role of one process. A View is what a process knows of the others. Package
// sql/redisregistry keeps the nodes in Redis and fills a View.
//
// A role and a name identify a node. The name stays the same when the process restarts, the
// epoch becomes larger. So work that is spread by name stays where it is, and what a former
// process of the name left behind is recognised by its epoch.
//
// Records of nodes are bytes from outside: Decode bounds and checks each part.
package registry

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of a record.
const (
	// MaxRecord is the longest record, in bytes.
	MaxRecord = 1024
	// MaxName is the longest name, in bytes.
	MaxName = 64
	// MaxEpoch is the largest epoch. Scripts in Redis count in numbers of 53 bits, so they read
	// 15 digits at most.
	MaxEpoch = 999_999_999_999_999

	maxRole     = 16
	maxHost     = 253
	maxAddr     = 261 // a host of 255 bytes, a colon and a port
	maxVersion  = 64
	maxClients  = 4
	maxQuantity = 1 << 40 // of connections or users
)

// Node is one role of one process.
type Node struct {
	Name string `json:"name"` // of the process, see CheckName
	Role string `json:"role"` // as in the setting roles
	// Addr is the host:port that other servers dial; empty: the role has no port for servers.
	Addr string `json:"addr,omitempty"`
	// Clients are the addresses that clients are told: host:port, or URLs of HTTP servers.
	Clients []string `json:"clients,omitempty"`
	// Pages is the host:port at which web servers reach the role for their pages: the port of a
	// message server for WebSocket, of a file server for clients, or an HTTP port; empty: none.
	Pages string `json:"pages,omitempty"`
	// Capacity is the largest number of connections that the role accepts; 0: not bounded
	// for this role alone.
	Capacity int64 `json:"capacity,omitempty"`
	Load     Load  `json:"load"`
	// Draining says that the node takes no new work, and ends what it has.
	Draining bool   `json:"draining,omitempty"`
	Version  string `json:"version,omitempty"` // of the build
	// Renew is the longest time between two renewals of the lease, in ms; 0: unknown.
	Renew int64 `json:"renew_ms,omitempty"`
	// Late says that the lease was not renewed in time when it was read: the process may have
	// ended. It is not part of the record.
	Late bool `json:"-"`
	// Epoch is larger than that of every earlier process with the name. It is not part of
	// the record, because Redis assigns it.
	Epoch uint64 `json:"-"`
}

// Load is how much a node has to do.
type Load struct {
	Connections int64 `json:"connections"` // that are open
	Users       int64 `json:"users"`       // that are online, of a message server
}

// Key identifies a node.
type Key struct{ Role, Name string }

// String returns the key as role/name.
func (k Key) String() string { return k.Role + "/" + k.Name }

// Key returns the node's key.
func (n Node) Key() Key { return Key{n.Role, n.Name} }

// CheckName returns an error for a name that a node cannot have. A name has 1 to 64 letters
// and digits of ASCII, dots, hyphens and underscores.
func CheckName(s string) error {
	if s == "" || len(s) > MaxName || !letters(s) {
		return fmt.Errorf("%q is no name of 1 to %d letters a to z, digits and any of . _ -", s,
			MaxName)
	}
	return nil
}

// CheckHost returns an error for a host at which others cannot reach a server. It is an IP address
// of one machine, or a host name of up to 253 letters and digits of ASCII, dots, hyphens and
// underscores.
func CheckHost(s string) error {
	ip, err := netip.ParseAddr(s)
	switch {
	case err == nil && ip.IsUnspecified():
		return fmt.Errorf("%q is all addresses of a machine: name one, or a host name", s)
	case err != nil && (s == "" || len(s) > maxHost || !letters(s)):
		return fmt.Errorf("%.64q is no IP address, and no host name of 1 to %d letters a to z, "+
			"digits and any of . _ -", s, maxHost)
	}
	return nil
}

// letters reports whether s has letters and digits of ASCII, dots, hyphens and underscores alone.
func letters(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' ||
			strings.ContainsRune("._-", r))
	})
}

// Encode returns the record of a node. The error names a part that is too long or not
// allowed.
func Encode(n Node) (string, error) {
	if err := n.check(); err != nil {
		return "", err
	}
	b, err := json.Marshal(n)
	if err == nil && len(b) > MaxRecord {
		err = fmt.Errorf("the record of node %s has %d bytes, more than %d", n.Key(), len(b),
			MaxRecord)
	}
	if err != nil {
		return "", err
	}
	return string(b), nil
}

// Decode returns the node of a record that is stored for a key. It ignores parts that this
// version does not know.
func Decode(key, record string) (Node, error) {
	var n Node
	if len(record) > MaxRecord {
		return n, fmt.Errorf("a record of %d bytes, more than %d", len(record), MaxRecord)
	}
	if err := json.Unmarshal([]byte(record), &n); err != nil {
		return Node{}, fmt.Errorf("no record of a node: %w", err)
	}
	if err := n.check(); err != nil {
		return Node{}, err
	}
	if n.Key().String() != key {
		return Node{}, fmt.Errorf("the record of %s under the key of another node", n.Key())
	}
	return n, nil
}

// check returns an error for a node that cannot be registered.
func (n Node) check() error {
	wrong := func(what string, value any) error {
		return fmt.Errorf("node %s: %s %q is not allowed", n.Key(), what, fmt.Sprint(value))
	}
	if n.Role == "" || len(n.Role) > maxRole || strings.ContainsFunc(n.Role, func(r rune) bool {
		return r < 'a' || r > 'z'
	}) {
		return fmt.Errorf("%.32q is no role of a node", n.Role)
	}
	if err := CheckName(n.Name); err != nil {
		return fmt.Errorf("%.128s", err)
	}
	if n.Addr != "" && !dialable(n.Addr) {
		return wrong("address", n.Addr)
	}
	if n.Pages != "" && !dialable(n.Pages) {
		return wrong("address for pages", n.Pages)
	}
	if len(n.Clients) > maxClients {
		return wrong("number of addresses for clients", len(n.Clients))
	}
	for _, c := range n.Clients {
		if c == "" || !plain(c, maxAddr) {
			return wrong("address for clients", c)
		}
	}
	if !plain(n.Version, maxVersion) {
		return wrong("version", n.Version)
	}
	for _, q := range []int64{n.Capacity, n.Load.Connections, n.Load.Users, n.Renew} {
		if q < 0 || q > maxQuantity {
			return wrong("capacity, load or time", q)
		}
	}
	return nil
}

// dialable reports whether s is a host and a port that can be dialled.
func dialable(s string) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" || !plain(s, maxAddr) || strings.ContainsAny(host, "/ @") {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}

// plain reports whether s is at most limit bytes of visible text.
func plain(s string, limit int) bool {
	return len(s) <= limit && utf8.ValidString(s) &&
		!strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsGraphic(r) })
}

// Compare orders nodes by role and name, as cmp.Compare does.
func Compare(a, b Node) int {
	return cmp.Or(strings.Compare(a.Role, b.Role), strings.Compare(a.Name, b.Name))
}

// same reports whether two nodes differ in their load and in Late at most.
func same(a, b Node) bool {
	return a.Key() == b.Key() && a.Epoch == b.Epoch && a.Addr == b.Addr &&
		a.Pages == b.Pages && slices.Equal(a.Clients, b.Clients) &&
		a.Capacity == b.Capacity && a.Draining == b.Draining && a.Version == b.Version
}
