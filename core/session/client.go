package session

import (
	"net/netip"
	"time"

	"teamtalk/core/mono"
	"teamtalk/proto/pb"
)

// Client is the session of a client: its Conn and its login.
type Client struct {
	Conn
	// User and ClientType identify the logged-in user and its client; both are zero
	// before the login. The loop sets them once, before the client enters a Registry. A
	// caller that got the client from a Registry may read them on any goroutine.
	User       uint32
	ClientType pb.ClientType
	// Data is the state that the role keeps for the client. Loop only.
	Data any

	loginAt int64 // mono.Of; written and read as User
}

// AddClient creates the session of a client that connected. The caller calls Open next.
// Loop only.
func (l *Loop) AddClient(remote netip.AddrPort, c Carrier) *Client {
	s := &Client{}
	l.add(&s.Conn, s, remote, c)
	return s
}

// UserID returns the user that is logged in, 0 before the login. Loop only.
func (c *Client) UserID() uint32 { return c.User }

// LoggedIn reports whether the client may use commands that need a login. Loop only.
func (c *Client) LoggedIn() bool { return c.flags&loggedIn != 0 }

// SetLoggedIn records the user and the client type of a login and removes the deadline.
// An Admitter hears of it. Loop only.
func (c *Client) SetLoggedIn(user uint32, client pb.ClientType) {
	c.User, c.ClientType = user, client
	c.flags |= loggedIn
	c.loginAt = mono.Of(c.loop.Now())
	c.deadline = 0
	if a, ok := c.carrier.(Admitter); ok {
		a.Admitted()
	}
}

// LoginAge returns the time from the login to now, on the monotonic clock. A caller that
// got the client from a Registry may call it on any goroutine.
func (c *Client) LoginAge(now time.Time) time.Duration {
	return time.Duration(mono.Of(now) - c.loginAt)
}
