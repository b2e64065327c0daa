package config

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// RedisURL locates one of the logical Redis instances:
// redis://user:password@host:port,host:port/db?cluster=true, or with ?sentinel=NAME for
// Sentinels that know the master NAME. All parts are optional. rediss:// means TLS.
// Every output shows asterisks for its password.
type RedisURL string

// RedisTarget holds the data for a connection to one logical Redis instance.
type RedisTarget struct {
	Addrs    []string // host:port
	Username string
	Password Secret
	DB       int
	Cluster  bool
	TLS      bool
	// MasterName is the name of the master if Addrs are Sentinels; otherwise it is empty.
	// User and password of the Sentinels follow.
	MasterName       string
	SentinelUsername string
	SentinelPassword Secret
}

// Equal reports whether t and u are the same instance, so that one pool of connections
// serves both.
func (t RedisTarget) Equal(u RedisTarget) bool {
	return slices.Equal(t.Addrs, u.Addrs) && t.Username == u.Username &&
		t.Password == u.Password && t.DB == u.DB && t.Cluster == u.Cluster && t.TLS == u.TLS &&
		t.MasterName == u.MasterName && t.SentinelUsername == u.SentinelUsername &&
		t.SentinelPassword == u.SentinelPassword
}

// Target returns the instance that u describes. u is one of r's fields Unread, GroupSet,
// Token, Sync and GroupMember, or that of the section registry. A URL with a host replaces
// all of r, its user and password too, and says whether it has TLS. A URL without a host
// changes only the number of the database. Target returns no error for fields that Load
// checked.
func (r Redis) Target(u RedisURL) (RedisTarget, error) {
	base := RedisTarget{Addrs: r.Addrs, Username: r.Username, Password: r.Password, DB: r.DB,
		Cluster: r.Cluster || len(r.Addrs) > 1, TLS: r.TLS}
	if len(r.Sentinels) > 0 {
		base.Addrs, base.Cluster, base.MasterName = r.Sentinels, false, r.MasterName
		base.SentinelUsername, base.SentinelPassword = r.SentinelUsername, r.SentinelPassword
	}
	if u == "" {
		return base, nil
	}
	t, err := u.parse()
	if err != nil {
		return RedisTarget{}, err
	}
	if len(t.Addrs) == 0 {
		base.DB = t.DB
		return base, nil
	}
	if t.MasterName != "" {
		t.SentinelUsername, t.SentinelPassword = r.SentinelUsername, r.SentinelPassword
	}
	return t, nil
}

// scheme returns the begin of a RedisURL: redis:// or, with TLS, rediss://.
func (u RedisURL) scheme() string {
	if strings.HasPrefix(string(u), "rediss://") {
		return "rediss://"
	}
	return "redis://"
}

// split returns the parts of a RedisURL: user:password, the hosts, and the rest from the
// slash or the question mark. secret reports whether the URL has the first part.
func (u RedisURL) split() (user string, secret bool, hosts, rest string, err error) {
	s, ok := strings.CutPrefix(string(u), u.scheme())
	if !ok {
		return "", false, "", "", errors.New("want a URL such as redis://host:6379/1, or " +
			"rediss://host:6379/1 with TLS")
	}
	// The last @: a password may hold one, a host may not.
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		user, secret, s = s[:i], true, s[i+1:]
	}
	i := strings.IndexAny(s, "/?")
	if i < 0 {
		return user, secret, s, "", nil
	}
	return user, secret, s[:i], s[i:], nil
}

func (u RedisURL) parse() (RedisTarget, error) {
	var t RedisTarget
	user, secret, hosts, rest, err := u.split()
	if err != nil {
		return t, err
	}
	t.TLS = u.scheme() == "rediss://"
	if t.TLS && hosts == "" {
		return t, errors.New("a URL without a host changes only the database: write redis:///1")
	}
	if secret {
		name, password, _ := strings.Cut(user, ":")
		var err1, err2 error
		t.Username, err1 = url.PathUnescape(name)
		password, err2 = url.PathUnescape(password)
		if err1 != nil || err2 != nil {
			// The errors quote the password, so they are not wrapped.
			return RedisTarget{}, errors.New("user or password has a % that is not followed by " +
				"two hexadecimal digits")
		}
		t.Password = Secret(password)
	}
	if hosts != "" {
		for _, h := range strings.Split(hosts, ",") {
			if err := checkAddr(h, 1); err != nil {
				return RedisTarget{}, err
			}
			t.Addrs = append(t.Addrs, h)
		}
	}
	path, query, _ := strings.Cut(rest, "?")
	if db := strings.Trim(path, "/"); db != "" {
		if t.DB, err = strconv.Atoi(db); err != nil || t.DB < 0 {
			return RedisTarget{}, fmt.Errorf("database %q is not a number from 0", db)
		}
	}
	name, sentinel := strings.CutPrefix(query, "sentinel=")
	switch {
	case query == "", query == "cluster=false":
	case query == "cluster=true":
		t.Cluster = true
	case sentinel && name != "" && len(t.Addrs) > 0 && !strings.ContainsAny(name, "&%"):
		t.MasterName = name
		return t, nil
	default:
		return RedisTarget{}, fmt.Errorf("%q: only ?cluster=true, and ?sentinel=NAME after "+
			"addresses of Sentinels, are known", "?"+query)
	}
	t.Cluster = t.Cluster || len(t.Addrs) > 1
	if t.Cluster && t.DB != 0 {
		return RedisTarget{}, errors.New("a Redis Cluster has no database but 0")
	}
	return t, nil
}

// Reveal returns the URL with its password.
func (u RedisURL) Reveal() string { return string(u) }

// String returns the URL with asterisks for its password. It returns only asterisks for
// another text.
func (u RedisURL) String() string {
	if u == "" {
		return ""
	}
	user, secret, hosts, rest, err := u.split()
	if err != nil {
		return mask
	}
	name, _, hasPassword := strings.Cut(user, ":")
	switch {
	case !secret:
		return u.scheme() + hosts + rest
	case hasPassword:
		return u.scheme() + name + ":" + mask + "@" + hosts + rest
	}
	return u.scheme() + name + "@" + hosts + rest
}

// Format keeps the password out of every verb of package fmt.
func (u RedisURL) Format(f fmt.State, _ rune) { io.WriteString(f, u.String()) }

// LogValue keeps the password out of logs.
func (u RedisURL) LogValue() slog.Value { return slog.StringValue(u.String()) }

// MarshalText keeps the password out of JSON and other encodings.
func (u RedisURL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }
