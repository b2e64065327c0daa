// Package bench measures a messenger that speaks this protocol, ours or another: so far how much an idle connection costs (Idle), and how fast texts
// between pairs of users are acked and delivered (Single). Every message is checked: acked once, delivered exactly once and in order; what
// went wrong stands beside every rate.
//
// It talks to message servers directly and needs users that exist already, named by a format: `teamtalk user add --count`.
package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// Target is what is measured.
type Target struct {
	// Addrs are the message servers; connections are spread over them in turn. Required.
	Addrs []string
	// UserFormat makes the login name of user number i, from 1 on. Default "u%05d".
	UserFormat string
	// Password is that of every user, in clear. Default "pw".
	Password string
	// Parallel is how many logins may be under way at once. Default 64.
	Parallel int
	// Timeout bounds one connect and login. Default 30 s.
	Timeout time.Duration
}

func (t *Target) defaults() error {
	if len(t.Addrs) == 0 {
		return errors.New("no message server given")
	}
	if t.UserFormat == "" {
		t.UserFormat = "u%05d"
	}
	if t.Password == "" {
		t.Password = "pw"
	}
	if t.Parallel <= 0 {
		t.Parallel = 64
	}
	if t.Timeout <= 0 {
		t.Timeout = 30 * time.Second
	}
	return nil
}

// login connects users first … first+n-1 and returns their connections in that order. On an error all are closed again.
func (t *Target) login(ctx context.Context, first, n int, client pb.ClientType) ([]*conn, error) {
	var (
		conns = make([]*conn, n)
		gate  = make(chan struct{}, t.Parallel)
		wg    sync.WaitGroup
		once  sync.Once
		fail  error
	)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	password := im.ClientPassword(t.Password)
	for i := range n {
		select {
		case gate <- struct{}{}:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		wg.Go(func() {
			defer func() { <-gate }()
			name := fmt.Sprintf(t.UserFormat, first+i)
			c, err := dial(ctx, t.Addrs[i%len(t.Addrs)], name, password, client, t.Timeout)
			if err != nil {
				once.Do(func() { fail = fmt.Errorf("user %s: %w", name, err) })
				cancel()
				return
			}
			conns[i] = c
		})
	}
	wg.Wait()
	if fail == nil {
		fail = context.Cause(ctx)
	}
	if fail != nil {
		closeAll(conns)
		return nil, fail
	}
	return conns, nil
}

func closeAll(conns []*conn) {
	for _, c := range conns {
		if c != nil {
			c.Close()
		}
	}
}

// dialer never waits longer than the login.
func dialTCP(ctx context.Context, addr string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", addr)
}
