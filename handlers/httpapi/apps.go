package httpapi

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"

	"teamtalk/core/origin"
)

// App is a system that may make calls. Empty lists mean no restriction.
type App struct {
	Name string // unique, for logs and errors
	// Key is its app_key. It is unique and has MinKey bytes or more, with the exception
	// that MinKey describes.
	Key   string
	Calls []string // calls that it may make
	// As are the users on whose behalf it may act (req_user_id); 0 is the system itself.
	As []uint32
	// Users are the users that it may write to, ask about, kick, and add to or remove
	// from groups.
	Users    []uint32
	Groups   []uint32       // groups that it may change or write to
	Networks []netip.Prefix // networks from which it may call
	Rate     float64        // calls a second; 0: 20
	Burst    int            // calls at once; 0: Rate, but at least 1
}

// MinKey is the length of the shortest app_key of an app that strangers can reach, in
// bytes. A random key of 16 bytes cannot be guessed. An app whose Networks contain only
// private addresses may have a shorter key, such as the fixed one of the first
// implementation's web administration: its networks protect it, and the key only
// identifies the app.
const MinKey = 16

// privateNetworks contain the addresses that the internet does not route: loopback, RFC
// 1918, and unique local IPv6 addresses (RFC 4193).
var privateNetworks = []netip.Prefix{
	netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("fc00::/7"),
}

// isPrivate reports whether every address of network is private.
func isPrivate(network netip.Prefix) bool {
	return slices.ContainsFunc(privateNetworks, func(p netip.Prefix) bool {
		return network.Bits() >= p.Bits() && p.Contains(network.Addr())
	})
}

// checkKey returns an error when the app_key is too short for the app's networks.
func checkKey(one *App) error {
	if len(one.Key) >= MinKey {
		return nil
	}
	why := "networks is empty, so it may call from anywhere"
	if one.Key == "" {
		return fmt.Errorf("app %s: has no key: set key, to %d characters or more", one.Name, MinKey)
	}
	if len(one.Networks) > 0 {
		i := slices.IndexFunc(one.Networks, func(n netip.Prefix) bool { return !isPrivate(n) })
		if i < 0 {
			return nil
		}
		why = fmt.Sprintf("its network %s has public addresses", one.Networks[i])
	}
	return fmt.Errorf("app %s: the key has %d characters and %s: a short key can be guessed; "+
		"set a key of at least %d characters, or networks to private addresses alone, "+
		"such as 127.0.0.0/8 or 10.0.0.0/8", one.Name, len(one.Key), why, MinKey)
}

// Calls are the names of the calls that an app may make.
var Calls = []string{"CreateGroup", "ChangeMembers", "SendMessage", "GetUserStatus", "KickUser"}

// app is an App with its rate limit.
type app struct {
	App
	limit *rate.Limiter
}

// apps finds apps by a digest of their keys, so that the duration of a lookup reveals
// nothing about a key.
type apps struct{ byKey map[[sha256.Size]byte]*app }

func newApps(list []App) (*apps, error) {
	a := &apps{byKey: make(map[[sha256.Size]byte]*app, len(list))}
	names := map[string]bool{}
	for i, one := range list {
		switch {
		case one.Name == "" || names[one.Name]:
			return nil, fmt.Errorf("app %d: name %q is empty or used by another app", i+1, one.Name)
		case one.Rate < 0 || one.Burst < 0:
			return nil, fmt.Errorf("app %s: rate and burst must not be negative", one.Name)
		}
		if err := checkKey(&one); err != nil {
			return nil, err
		}
		for _, c := range one.Calls {
			if !slices.Contains(Calls, c) {
				return nil, fmt.Errorf("app %s: unknown call %q; the calls are %v", one.Name, c,
					Calls)
			}
		}
		digest := sha256.Sum256([]byte(one.Key))
		if a.byKey[digest] != nil {
			return nil, fmt.Errorf("app %s: the key is that of app %s", one.Name,
				a.byKey[digest].Name)
		}
		names[one.Name] = true
		if one.Rate == 0 {
			one.Rate = 20
		}
		if one.Burst == 0 {
			one.Burst = max(1, int(one.Rate))
		}
		a.byKey[digest] = &app{App: one, limit: rate.NewLimiter(rate.Limit(one.Rate), one.Burst)}
	}
	return a, nil
}

func (a *apps) find(key string) *app { return a.byKey[sha256.Sum256([]byte(key))] }

func (a *app) mayCall(call string) bool {
	return len(a.Calls) == 0 ||
		slices.Contains(a.Calls, call)
}

func (a *app) reachedFrom(addr netip.Addr) bool {
	return len(a.Networks) == 0 || slices.ContainsFunc(a.Networks,
		func(p netip.Prefix) bool { return p.Contains(addr) })
}

// mayAct returns an error unless the app may act on behalf of this user.
func (a *app) mayAct(user uint32) error {
	if len(a.As) > 0 && !slices.Contains(a.As, user) {
		return fail(codeDenied, "the app may not act as this user")
	}
	return nil
}

// mayReach returns an error unless the app may reach all these users.
func (a *app) mayReach(users ...uint32) error {
	if len(a.Users) > 0 && slices.ContainsFunc(users,
		func(u uint32) bool { return !slices.Contains(a.Users, u) }) {
		return fail(codeDenied, "the app may not reach one of these users")
	}
	return nil
}

// mayChange returns an error unless the app may reach the group.
func (a *app) mayChange(group uint32) error {
	if len(a.Groups) > 0 && !slices.Contains(a.Groups, group) {
		return fail(codeDenied, "the app may not reach this group")
	}
	return nil
}

// addresses limits the attempts of callers without a valid key, or the registrations, of
// each address. The attempts of an evicted address are forgotten.
type addresses struct {
	mu   sync.Mutex
	seen *lru.Cache[netip.Addr, *rate.Limiter]
}

// maxAddresses bounds the recorded addresses. An address may make triesAtOnce attempts at
// once and triesPerMinute after that.
const (
	maxAddresses   = 16384
	triesPerMinute = 10
	triesAtOnce    = 20
)

func newAddresses() *addresses {
	c, err := lru.New[netip.Addr, *rate.Limiter](maxAddresses)
	if err != nil {
		panic(err) // the size is a positive constant
	}
	return &addresses{seen: c}
}

// try counts an attempt of an address. It returns false when the address has none left.
func (a *addresses) try(addr netip.Addr, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	l, ok := a.seen.Get(origin.Key(addr))
	if !ok {
		l = rate.NewLimiter(rate.Every(time.Minute/triesPerMinute), triesAtOnce)
		a.seen.Add(origin.Key(addr), l)
	}
	return l.AllowN(now, 1)
}
