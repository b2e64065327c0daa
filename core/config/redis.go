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

// RedisURL says where one of the logical Redis instances is: redis://user:password@host:port,host:port/db?cluster=true. Everything is optional.
// Wherever it is shown, its password is asterisks.
type RedisURL string

// RedisTarget is what it takes to connect to one logical Redis instance.
type RedisTarget struct {
	Addrs    []string // host:port
	Username string
	Password Secret
	DB       int
	Cluster  bool
}

// Equal reports whether both lead to the same place, so that one pool of connections can serve both.
func (t RedisTarget) Equal(u RedisTarget) bool {
	return slices.Equal(t.Addrs, u.Addrs) && t.Username == u.Username && t.Password == u.Password && t.DB == u.DB && t.Cluster == u.Cluster
}

// Target says where an instance is that is overridden by u, one of r's fields Unread, GroupSet, Token, Sync and GroupMember. An override with a host stands for
// itself, also where it names no user and no password; one without a host changes only the number of the database. Fields that Load
// has checked give no error.
func (r Redis) Target(u RedisURL) (RedisTarget, error) {
	base := RedisTarget{Addrs: r.Addrs, Username: r.Username, Password: r.Password, DB: r.DB, Cluster: r.Cluster || len(r.Addrs) > 1}
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
	return t, nil
}

// split takes a RedisURL apart into user:password, hosts, and the rest from the slash or question mark on.
func (u RedisURL) split() (user string, secret bool, hosts, rest string, err error) {
	s, ok := strings.CutPrefix(string(u), "redis://")
	if !ok {
		return "", false, "", "", errors.New("want a URL such as redis://host:6379/1")
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
	if secret {
		name, password, _ := strings.Cut(user, ":")
		var err1, err2 error
		t.Username, err1 = url.PathUnescape(name)
		password, err2 = url.PathUnescape(password)
		if err1 != nil || err2 != nil { // said without the reason, which would quote the password
			return RedisTarget{}, errors.New("user or password has a % that is not followed by two hexadecimal digits")
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
	switch query {
	case "", "cluster=false":
	case "cluster=true":
		t.Cluster = true
	default:
		return RedisTarget{}, fmt.Errorf("%q: only ?cluster=true is known", "?"+query)
	}
	t.Cluster = t.Cluster || len(t.Addrs) > 1
	if t.Cluster && t.DB != 0 {
		return RedisTarget{}, errors.New("a Redis Cluster has no database but 0")
	}
	return t, nil
}

// Reveal returns the URL with its password.
func (u RedisURL) Reveal() string { return string(u) }

// String returns the URL with asterisks for its password; asterisks only when it is no such URL.
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
		return "redis://" + hosts + rest
	case hasPassword:
		return "redis://" + name + ":" + mask + "@" + hosts + rest
	}
	return "redis://" + name + "@" + hosts + rest
}

// Format keeps the password out of every verb of package fmt.
func (u RedisURL) Format(f fmt.State, _ rune) { io.WriteString(f, u.String()) }

// LogValue keeps the password out of logs.
func (u RedisURL) LogValue() slog.Value { return slog.StringValue(u.String()) }

// MarshalText keeps the password out of JSON and the like.
func (u RedisURL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }
