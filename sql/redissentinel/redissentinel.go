// Package redissentinel makes clients of a Redis master that Sentinels watch. In contrast to
// the client of go-redis, which asks the one Sentinel that has answered first:
//
//   - Each new connection asks all Sentinels at once, and leads to the master that most of
//     them name. One that hangs, or has missed a failover, delays nothing.
//   - A connection is dialled whenever a command needs one, see package redisdial.
package redissentinel

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"teamtalk/core/mono"
	"teamtalk/sql/redisdial"
)

// Options says which master a client is of.
type Options struct {
	Master    string   // the name by which Sentinels know it
	Sentinels []string // addresses
	// Username and Password are those of the Sentinels.
	Username, Password string
}

// Limits of a question to the Sentinels.
const (
	// askTimeout bounds the wait for the first answer.
	askTimeout = time.Second
	// otherAnswers is how long the other Sentinels have after the first answer. A master
	// that most of them name is used at once.
	otherAnswers = 100 * time.Millisecond
	// dialTimeout bounds the dial to a master, so that another one, which fewer Sentinels
	// name, is dialled within the time-out of go-redis.
	dialTimeout = time.Second
	// watchEvery is the interval at which the Sentinels are asked whether the master that
	// the connections lead to is still the master.
	watchEvery = time.Second
	// discoverEach is after how many of these questions other Sentinels are looked for.
	discoverEach = 60
)

// Client is a client of the master.
type Client struct {
	*redis.Client
	masters *masters
}

// New makes a client, which connects at its first use. The options o are those of the
// connections to the master; Addr and Dialer have no effect.
func New(opt Options, o *redis.Options) *Client {
	m := &masters{opt: opt, tls: o.TLSConfig, conns: map[*conn]struct{}{},
		found: map[string]*redis.Client{}}
	m.ctx, m.stop = context.WithCancel(context.Background())
	for _, addr := range opt.Sentinels {
		m.named = append(m.named, m.sentinel(addr, o))
	}
	m.newSentinel = func(addr string) *redis.Client { return m.sentinel(addr, o) }
	own := *o
	own.Addr, own.Dialer = opt.Master, m.dial
	c := &Client{redis.NewClient(&own), m}
	c.AddHook(redisdial.Always{})
	return c
}

// Close closes all connections.
func (c *Client) Close() error { return errors.Join(c.Client.Close(), c.masters.close()) }

// masters finds the master, and closes the connections to servers that are none any more.
type masters struct {
	opt         Options
	tls         *tls.Config
	newSentinel func(addr string) *redis.Client
	named       []*redis.Client // the Sentinels of the options
	ctx         context.Context // ends with close
	stop        context.CancelFunc
	watching    sync.WaitGroup

	mu      sync.Mutex
	watched bool // a goroutine watches
	closed  bool
	found   map[string]*redis.Client // other Sentinels, by address, which those know
	conns   map[*conn]struct{}
}

// sentinel returns a client of a Sentinel.
func (m *masters) sentinel(addr string, o *redis.Options) *redis.Client {
	c := redis.NewClient(&redis.Options{Addr: addr, Username: m.opt.Username,
		Password: m.opt.Password, TLSConfig: o.TLSConfig, Protocol: 2, MaxRetries: -1,
		DialerRetries: 1, DialTimeout: askTimeout, ReadTimeout: askTimeout,
		ContextTimeoutEnabled: true, DisableIdentity: true,
		MaintNotificationsConfig: o.MaintNotificationsConfig})
	c.AddHook(redisdial.Always{})
	return c
}

// close ends the watch and closes the connections to the Sentinels.
func (m *masters) close() error {
	m.stop()
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.watching.Wait()
	var errs []error
	for _, c := range m.sentinels(true) {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// sentinels returns the Sentinels of the options, or all.
func (m *masters) sentinels(all bool) []*redis.Client {
	list := slices.Clone(m.named)
	if all {
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, c := range m.found {
			list = append(list, c)
		}
	}
	return list
}

// dial connects to the master.
func (m *masters) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	m.watch()
	addrs, err := m.ask(ctx)
	if err != nil {
		return nil, err
	}
	errs := make([]error, 0, len(addrs))
	for _, addr := range addrs {
		c, err := m.connect(ctx, network, addr)
		if err == nil {
			return c, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// connect connects to the server at an address.
func (m *masters) connect(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	raw, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	c, err := m.keep(raw, addr)
	if err != nil || m.tls == nil {
		return c, err
	}
	cfg := m.tls
	if cfg.ServerName == "" && !cfg.InsecureSkipVerify {
		cfg = cfg.Clone()
		cfg.ServerName, _, _ = net.SplitHostPort(addr) // it was dialled
	}
	over := tls.Client(c, cfg)
	if err := over.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return over, nil
}

// conn is a connection to a server that was the master when it was dialled. It is a
// *net.TCPConn so that go-redis can look whether the server has closed it.
type conn struct {
	*net.TCPConn
	addr string
	of   *masters
}

// Close closes the connection.
func (c *conn) Close() error {
	c.of.mu.Lock()
	delete(c.of.conns, c)
	c.of.mu.Unlock()
	return c.TCPConn.Close()
}

// keep records a connection.
func (m *masters) keep(raw net.Conn, addr string) (net.Conn, error) {
	c := &conn{raw.(*net.TCPConn), addr, m}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		raw.Close()
		return nil, redis.ErrClosed
	}
	m.conns[c] = struct{}{}
	return c, nil
}

// ask returns the addresses that the Sentinels name, the most named one first. The
// Sentinels that the others know are asked when none of the options answers.
func (m *masters) ask(ctx context.Context) ([]string, error) {
	addrs, _, err := m.question(ctx, m.sentinels(false))
	if err != nil {
		if others := m.sentinels(true); len(others) > len(m.named) {
			addrs, _, err = m.question(ctx, others)
		}
	}
	return addrs, err
}

// question asks Sentinels at once. most says that more than half of those that answered in
// time name the first address.
func (m *masters) question(ctx context.Context, list []*redis.Client) (addrs []string, most bool,
	err error) {
	type answer struct {
		addr string
		err  error
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel() // ends the questions to those that hang
	answers := make(chan answer, len(list))
	for _, c := range list {
		go func() {
			addr, err := m.masterOf(ctx, c)
			answers <- answer{addr, err}
		}()
	}
	votes := map[string]int{}
	var errs []error
	var enough <-chan time.Time
	count, wait := 0, true
	for n := 0; n < len(list) && wait; n++ {
		select {
		case a := <-answers:
			if a.err != nil {
				errs = append(errs, a.err)
				continue
			}
			if enough == nil {
				enough = time.After(otherAnswers)
			}
			count++
			votes[a.addr]++
			wait = 2*votes[a.addr] <= len(list)
		case <-enough:
			wait = false
		case <-ctx.Done():
			errs, wait = append(errs, ctx.Err()), false
		}
	}
	if count == 0 {
		return nil, false, fmt.Errorf("no Sentinel names the master %q: %w", m.opt.Master,
			errors.Join(errs...))
	}
	for addr := range votes {
		addrs = append(addrs, addr)
	}
	slices.SortFunc(addrs, func(a, b string) int { return votes[b] - votes[a] })
	return addrs, 2*votes[addrs[0]] > count, nil
}

// masterOf asks a Sentinel.
func (m *masters) masterOf(ctx context.Context, c *redis.Client) (string, error) {
	words, err := c.Do(ctx, "sentinel", "get-master-addr-by-name", m.opt.Master).StringSlice()
	if err == nil && len(words) != 2 {
		err = fmt.Errorf("%d words instead of an address", len(words))
	}
	if err != nil {
		return "", fmt.Errorf("sentinel %s: %w", c.Options().Addr, err)
	}
	return net.JoinHostPort(words[0], words[1]), nil
}

// watch begins to watch the master, once.
func (m *masters) watch() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.watched || m.closed {
		return
	}
	m.watched = true
	m.watching.Go(func() {
		n := 0
		mono.Watch(m.ctx.Done(), watchEvery, func(now time.Time) time.Time {
			m.look()
			if n%discoverEach == 0 {
				m.discover()
			}
			n++
			return now
		})
	})
}

// look closes the connections to servers that are not the master any more. A former master
// that is cut off from the Sentinels does not know that, and accepts commands.
func (m *masters) look() {
	addrs, most, err := m.question(m.ctx, m.sentinels(true))
	if err != nil || !most {
		return
	}
	m.mu.Lock()
	var former []*conn
	for c := range m.conns {
		if c.addr != addrs[0] {
			former = append(former, c)
		}
	}
	m.mu.Unlock()
	for _, c := range former {
		c.Close()
	}
}

// discover asks for the other Sentinels of the master. They answer when none of the options
// does.
func (m *masters) discover() {
	ctx, cancel := context.WithTimeout(m.ctx, askTimeout)
	defer cancel()
	for _, c := range m.sentinels(true) {
		cmd := redis.NewMapStringStringSliceCmd(ctx, "sentinel", "sentinels", m.opt.Master)
		if c.Process(ctx, cmd) != nil {
			continue
		}
		for _, s := range cmd.Val() {
			if s["ip"] != "" && s["port"] != "" {
				m.add(net.JoinHostPort(s["ip"], s["port"]))
			}
		}
		return
	}
}

// maxFound bounds the Sentinels that are found. There are more when some are replaced, and
// the others still know them.
const maxFound = 100

// add adds a Sentinel, unless it is known.
func (m *masters) add(addr string) {
	if slices.Contains(m.opt.Sentinels, addr) {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.found[addr] == nil && len(m.found) < maxFound {
		m.found[addr] = m.newSentinel(addr)
	}
}
