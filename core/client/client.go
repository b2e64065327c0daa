// Package client is the client's side of the protocol.
//
// A Client is a logged-in user. It finds a message server, stays connected, and
// guarantees to a person what connections do not: every message sent is stored once, and
// every message received is reported once and in order. Messages of one conversation are
// stored in the order of their Sends. Open logs in, Options.OnEvent receives the events.
//
// Where to find what:
//
//   - client.go: the Client from Open to Close, reconnection
//   - events.go: what a Client reports
//   - send.go, order.go: messages from Send to their acks
//   - receive.go, sync.go: messages from the server to their events, and missed ones
//   - groups.go, Client.Groups: groups and their members
//   - requests.go, settings.go: requests (History, Contacts and so on), which are
//     functions that take a Client or a tcp.Conn
//   - package transfer, Client.Files: files
//   - upload.go: small files, such as pictures
//   - package loginserver: the search for a message server, and registration
//   - package tcp: one connection, for programs that need no Client
package client

import (
	"cmp"
	"context"
	"time"

	"teamtalk/core/backoff"
	"teamtalk/core/client/loginserver"
	"teamtalk/core/client/tcp"
	"teamtalk/core/client/transfer"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// Stats counts the events of a Client that it does not report. All values are since Open.
type Stats struct {
	Connects   uint64 // successful logins
	Duplicates uint64 // messages that were pushed again and dropped
	Malformed  uint64 // frames dropped because they did not decode
	Ignored    uint64 // frames dropped because a Client does not use them
	Resent     uint64 // messages sent again after a missing ack
	Fetched    uint64 // messages received from the history
}

// Client keeps a user logged in across connections. Any goroutine.
type Client struct {
	*session
	Groups *Groups         // the user's groups
	Files  *transfer.Files // to and from other users

	out  *outbox
	in   *inbox
	done chan struct{}

	// session.mu guards the following fields.
	addr       string // of the connection, or of the last one
	badRow     int    // malformed frames in a row
	tickets    bool   // the server gives tickets for uploads
	kicked     pb.KickReasonType
	kickedText string
}

// Open connects and logs in. The Client stays logged in until Close. The errors are those
// of loginserver.Discover and tcp.Conn.Login. The context ends the attempt, not the Client.
func Open(ctx context.Context, opts Options) (*Client, error) {
	opts = opts.withDefaults()
	if opts.Server == "" && opts.MsgServer == "" {
		return nil, im.Errorf(im.Invalid, "neither login server nor message server given")
	}
	if opts.Cipher == nil {
		var err error
		if opts.Cipher, err = im.NewTextCipher(""); err != nil {
			return nil, err
		}
	}
	c := newClient(opts)
	conn, err := c.connect(ctx)
	if err != nil {
		c.cancel()
		return nil, err
	}
	go c.run(conn)
	return c, nil
}

// newClient returns a Client without a connection.
func newClient(opts Options) *Client {
	s := newSession(opts)
	c := &Client{session: s, done: make(chan struct{})}
	c.Groups = &Groups{session: s, states: make(map[uint32]*groupState)}
	c.in = &inbox{session: s, groups: c.Groups, convs: make(map[Peer]*conv)}
	c.out = newOutbox(s)
	c.out.groups, c.out.in = c.Groups, c.in
	c.in.out, c.Groups.in = c.out, c.in
	c.Files = transfer.New(s.ctx, fileSession{s}, transfer.Config{
		ConnectTimeout: opts.ConnectTimeout, AnswerTimeout: opts.SyncTimeout,
		Heartbeat: opts.Heartbeat, Logger: opts.Logger, Dial: opts.Dial,
	})
	return c
}

// UserID returns the id of the logged-in user.
func (c *Client) UserID() uint32 { return c.User().ID }

// User returns the user of the Client, as of the latest login.
func (c *Client) User() im.User { return c.user() }

// Server returns the address of the message server, or of the last one while there is no
// connection.
func (c *Client) Server() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.addr
}

// Online reports whether the Client is connected and logged in.
func (c *Client) Online() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conn != nil
}

// Done returns a channel that is closed when the Client has ended: closed, kicked or
// refused. No event follows.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err returns the reason why the Client ended: im.Closed after Close, im.Denied when it
// was kicked, otherwise the refusal. Nil while it runs.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Stats returns the counters.
func (c *Client) Stats() Stats {
	return Stats{
		Connects: c.connects.Load(), Duplicates: c.duplicates.Load(), Malformed: c.malformed.Load(),
		Ignored: c.ignored.Load(),
		Resent:  c.resent.Load(), Fetched: c.fetched.Load(),
	}
}

// Text returns the text of a message. Malformed when its body is not a text encrypted
// with this key.
func (c *Client) Text(m im.Message) (string, error) { return c.opts.Cipher.Decrypt(m.Data) }

// Call sends a request on the present connection and waits for the answer. Unavailable
// when there is no connection.
func (c *Client) Call(ctx context.Context, req, resp pb.Message) error {
	return c.call(ctx, req, resp)
}

// Close logs out and ends the Client. It waits at most two seconds for the server's
// answer. Messages without ack are abandoned: see Flush. It must not be called from
// OnEvent.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closing = true
	conn := c.conn
	c.mu.Unlock()
	c.cancel()
	var err error
	if conn != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		err = conn.Logout(ctx)
		cancel()
	}
	<-c.done
	return err
}

// connect makes one attempt: it finds a message server, connects and logs in.
func (c *Client) connect(ctx context.Context) (*tcp.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.opts.ConnectTimeout)
	defer cancel()
	defer context.AfterFunc(c.ctx, cancel)()
	addrs := []string{c.opts.MsgServer}
	if c.opts.MsgServer == "" {
		var err error
		if addrs, err = loginserver.Discover(ctx, c.opts.HTTP, c.opts.Server); err != nil {
			return nil, err
		}
	}
	nc, err := tcp.DialFirst(ctx, c.opts.Dial, addrs)
	if err != nil {
		return nil, err
	}
	conn := tcp.NewConn(nc, tcp.Options{OnFrame: c.onFrame, Heartbeat: c.opts.Heartbeat,
		Logger: c.opts.Logger})
	login := func(res *pb.IMLoginRes) { c.attach(conn, res) }
	credentials := c.opts.Credentials
	credentials.FileRepeats = true // see fileNotify
	if err := conn.LoginThen(ctx, credentials, login); err != nil {
		_ = conn.Close()
		<-conn.Done()
		return nil, err
	}
	return conn, nil
}

// attach makes conn the Client's connection and reports Connected. It sends waiting read
// acks and messages, and starts a sync for messages that were missed.
func (c *Client) attach(conn *tcp.Conn, res *pb.IMLoginRes) {
	again := c.connects.Add(1) > 1
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn, c.self, c.addr = conn, userOf(res.GetUserInfo()), conn.RemoteAddr().String()
	c.badRow, c.tickets = 0, res.GetUploadTickets()
	close(c.attached)
	c.attached = make(chan struct{})
	c.emit(Connected{User: c.self, Again: again, Addr: c.addr})
	c.out.sendReads()
	c.in.loggedIn(conn, res.GetServerTime())
	c.out.sendAgain()
}

// run keeps the Client connected until it is closed, kicked or refused.
func (c *Client) run(conn *tcp.Conn) {
	for conn != nil {
		c.deliverUntil(conn.Done(), nil)
		c.detach(conn)
		c.deliver()
		conn = c.reconnect()
	}
	c.deliver()
	c.mu.Lock()
	c.cancel()
	c.out.stopTimers()
	c.out.idle.Broadcast()
	c.mu.Unlock()
	close(c.done)
}

// detach removes a connection that has ended.
func (c *Client) detach(conn *tcp.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn = nil
	c.out.stopTimers()
	c.in.stopSync()
	c.Groups.forgetAsked()
	switch {
	case c.kicked != 0:
		c.err = im.Errorf(im.Denied, "kicked: %s", cmp.Or(c.kickedText, kickText(c.kicked)))
		c.emit(Kicked{Reason: c.kicked, Text: c.kickedText})
	case c.closing:
		c.err = im.Errorf(im.Closed, "client closed")
	default:
		c.log.Info("connection lost", "user", c.self.ID, "err", conn.Err())
		c.emit(Disconnected{Err: conn.Err()})
	}
}

// kickText returns a text for a reason.
func kickText(r pb.KickReasonType) string {
	switch r {
	case pb.KickReasonType_KICK_REASON_DUPLICATE_USER:
		return "the same user logged in elsewhere"
	case pb.KickReasonType_KICK_REASON_MOBILE_KICK:
		return "the user's phone ended this session"
	}
	return r.String()
}

// reconnect makes attempts until it has a connection; it returns nil when the Client
// ends.
func (c *Client) reconnect() *tcp.Conn {
	denied := 0
	var last error
	lost := time.Now()
	for attempt := 0; c.Err() == nil; attempt++ {
		delay := c.opts.reconnects().Delay(attempt, time.Since(lost), c.opts.Rand())
		if attempt > 0 {
			c.log.Debug("connecting again failed", "err", last)
			c.tell(Retrying{Attempt: attempt, Err: last, Delay: delay})
		}
		if !c.pause(delay) {
			c.end(im.Errorf(im.Closed, "client closed"))
			return nil
		}
		conn, err := c.connect(c.ctx)
		if err == nil {
			c.closeIfClosing(conn)
			return conn
		}
		switch last = err; im.KindOf(err) {
		case im.Invalid:
			denied = refusals
		case im.Denied:
			denied++
		}
		if denied >= refusals {
			c.end(err)
		}
	}
	return nil
}

// closeIfClosing closes a connection that was made after Close looked for one.
func (c *Client) closeIfClosing(conn *tcp.Conn) {
	c.mu.Lock()
	closing := c.closing
	c.mu.Unlock()
	if closing {
		_ = conn.Close()
	}
}

// freshOutage is the time for which an outage counts as recent. A restarting server
// returns sooner. A crowd of 100,000 clients makes 250,000 attempts per second during
// this time, and a tenth of that after another 25 s.
const freshOutage = 10 * time.Second

// reconnects returns the schedule of attempts to reconnect.
func (o *Options) reconnects() backoff.Policy {
	return backoff.Policy{First: o.BackoffMin, Recent: o.BackoffMin, Fresh: freshOutage,
		Max: max(o.BackoffMin, o.BackoffMax), Spread: 1}
}

// end sets the reason why the Client ends. It reports a refusal.
func (c *Client) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err = err; im.KindOf(err) != im.Closed {
		c.emit(Refused{Err: err})
	}
}
