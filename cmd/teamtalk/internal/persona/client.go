package persona

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// Options name the user of a Client and its servers. Zero values have defaults.
type Options struct {
	User, Password string
	Server         string // URL of login_server
	// Addr replaces the first address that login_server gives, to place clients on servers.
	Addr string
	// WebSocket is the address, as host:port, at which a persona that uses WebSocket connects. The
	// one that login_server gives is that for TCP. Empty: the persona uses TCP.
	WebSocket string
	// Idle scales heartbeats, silences and pauses before reconnecting; 0: 1. Times that bound
	// the answer to a request are never scaled.
	Idle float64
	// Resend scales the time before a message is sent again; 0: 1. A server that takes longer
	// than that to answer gets a message twice, as from the real client.
	Resend float64
	// ClockAhead is how far the client's clock is ahead.
	ClockAhead time.Duration
	// ClientType replaces that of the persona; 0: the persona's.
	ClientType pb.ClientType
}

// Client is one device of one user. Its methods may be called from any goroutine.
type Client struct {
	*device
	*chats
	*lists
	*files
	*web

	end      context.CancelFunc
	all      sync.WaitGroup
	tap      chan struct{} // the user asks to log in
	loginSeq uint16        // device.mu guards it
}

// Start starts a client. It connects and logs in by itself. Close ends it.
func Start(row Persona, opt Options) *Client {
	if opt.Idle == 0 {
		opt.Idle = 1
	}
	if opt.Resend == 0 {
		opt.Resend = 1
	}
	if opt.ClientType == 0 {
		opt.ClientType = row.Type
	}
	ctx, cancel := context.WithCancel(context.Background())
	d := &device{row: row, opt: opt, ctx: ctx, changed: make(chan struct{}),
		seq: row.FirstSeq - 1}
	cs := &chats{device: d, byPeer: map[Peer]*chat{}}
	l := &lists{device: d, chats: cs, users: map[uint32]*pb.UserInfo{},
		groups: map[uint32]*pb.GroupInfo{}, online: map[uint32]pb.UserStatType{},
		times: map[Ask]uint32{}}
	c := &Client{device: d, chats: cs, lists: l, files: &files{device: d}, web: &web{device: d},
		end: cancel, tap: make(chan struct{}, 1)}
	c.all.Go(c.run)
	c.all.Go(c.watch)
	return c
}

// Close ends the client as the end of its process does.
func (c *Client) Close() {
	c.end()
	c.mu.Lock()
	if c.conn != nil {
		c.conn.close()
	}
	c.setState(Closed)
	c.mu.Unlock()
	c.all.Wait()
}

// LogIn is the user pressing the login button. It does nothing unless the client is Stopped.
func (c *Client) LogIn() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == Stopped {
		select {
		case c.tap <- struct{}{}:
		default:
		}
	}
}

// Drop ends the connection as a lost network does. The client notices it at once.
func (c *Client) Drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		c.conn.close()
	}
}

// ending is why a connection is over.
type ending int

const (
	endLost ending = iota
	endRefused
	endKicked
)

// run makes connections until the client is closed.
func (c *Client) run() {
	lost, refusals := 0, 0
	for c.ctx.Err() == nil {
		why, loggedIn := c.connect()
		if loggedIn {
			lost, refusals = 0, 0
		}
		var pause time.Duration
		again := false
		switch why {
		case endRefused:
			pause, again = c.row.Refused.Pause(refusals)
			not := c.row.Refused.Not
			again = again && (not == 0 || c.Refusal().GetResultCode() != not)
			refusals++
		case endLost:
			pause, again = c.row.Lost.Pause(lost)
			lost++
		}
		if !c.pause(pause, again) {
			return
		}
	}
}

// pause waits before the next attempt, or for the user. It reports whether there is one.
func (c *Client) pause(d time.Duration, again bool) bool {
	var timer <-chan time.Time
	c.mu.Lock()
	if again {
		t := time.NewTimer(c.scaled(d))
		defer t.Stop()
		timer = t.C
		c.setState(Connecting)
	} else {
		c.setState(Stopped)
	}
	c.mu.Unlock()
	select {
	case <-timer:
	case <-c.tap:
	case <-c.ctx.Done():
		return false
	}
	c.mu.Lock()
	c.setState(Connecting)
	c.mu.Unlock()
	return true
}

// dialTimeout bounds connecting and discovery.
const dialTimeout = 10 * time.Second

// connect makes one connection and serves it to its end.
func (c *Client) connect() (why ending, loggedIn bool) {
	addr, err := c.address()
	if err != nil {
		return endLost, false
	}
	c.mu.Lock()
	c.stats.Dials++
	c.mu.Unlock()
	nc, err := c.dial(addr)
	if err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.failing.IsZero() {
			c.failing = time.Now()
		}
		return endLost, false
	}
	k := &conn{Conn: nc, gone: make(chan struct{}), heard: time.Now(), beat: time.Now()}
	defer k.close()
	c.mu.Lock()
	c.failing = time.Time{}
	c.stats.Connections++
	if c.state == Closed {
		c.mu.Unlock()
		return endLost, false
	}
	c.conn, c.pending = k, nil
	c.sendLogin()
	c.mu.Unlock()
	why = c.serve(k)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn = nil
	c.changes()
	return why, k.loggedIn
}

// dial connects to a message server.
func (c *Client) dial(addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout}
	if c.row.WebSocket && c.opt.WebSocket != "" {
		return openWebSocket(c.ctx, c.opt.WebSocket)
	}
	return d.DialContext(c.ctx, "tcp", addr)
}

func (c *Client) sendLogin() {
	c.stats.Logins++
	c.ask(pb.IMLoginReq_builder{
		UserName: &c.opt.User, Password: new(im.ClientPassword(c.opt.Password)),
		OnlineStatus: pb.UserStatType_USER_STATUS_ONLINE.Enum(), ClientType: &c.opt.ClientType,
		ClientVersion: new("persona/" + c.row.Name),
	}.Build(), pb.CmdLoginRes, nil)
	c.loginSeq = c.pending[0].seq
}

// errKicked and errRefused end a connection from within.
var (
	errKicked  = errors.New("persona: kicked")
	errRefused = errors.New("persona: login refused")
)

// serve reads frames to the end of a connection.
func (c *Client) serve(k *conn) ending {
	in := bufio.NewReaderSize(k, 64<<10)
	for {
		h, body, err := readFrame(in)
		if err == nil {
			err = c.frame(k, h, body)
		}
		switch {
		case err == nil:
		case errors.Is(err, errRefused):
			return endRefused
		case errors.Is(err, errKicked):
			return c.kicked(k, in)
		default:
			c.streamEnds(k, err)
			return endLost
		}
	}
}

// streamEnds waits until the persona notices that the stream has ended.
func (c *Client) streamEnds(k *conn, err error) {
	if !errors.Is(err, io.EOF) || c.row.EndSeen == EndAtOnce {
		return
	}
	c.mu.Lock()
	k.ended = true
	waits := k.loggedIn
	c.mu.Unlock()
	if waits {
		<-k.gone // closed by watch, or by a write
	}
}

// noticeFloor replaces a persona's NoticeTime, which is shorter than a test can tell apart from
// no time at all. A server that waits for the client keeps the connection much longer.
const noticeFloor = 50 * time.Millisecond

// kicked reacts to a notice. A client that handles notices in another thread loses the notice
// when the connection ends first.
func (c *Client) kicked(k *conn, in *bufio.Reader) ending {
	if c.row.NoticeTime > 0 {
		_ = k.SetReadDeadline(time.Now().Add(noticeFloor))
		for {
			if _, _, err := readFrame(in); err == nil {
				continue
			} else if ne := net.Error(nil); !errors.As(err, &ne) || !ne.Timeout() {
				c.mu.Lock()
				c.fault("the end of the connection overtook IMKickUser")
				c.mu.Unlock()
				return endLost
			}
			break
		}
	}
	return endKicked
}

func readFrame(in *bufio.Reader) (pdu.Header, []byte, error) {
	head := make([]byte, pdu.HeaderLen)
	if _, err := io.ReadFull(in, head); err != nil {
		return pdu.Header{}, nil, err
	}
	h := pdu.ParseHeader(head)
	if h.Length < pdu.HeaderLen || h.Length > pdu.MaxServerFrame {
		return h, nil, pdu.ErrLength
	}
	body := make([]byte, h.Length-pdu.HeaderLen)
	_, err := io.ReadFull(in, body)
	return h, body, err
}

// writeTimeout bounds a write to a server that does not read.
const writeTimeout = 10 * time.Second

// watch runs the timers.
func (c *Client) watch() {
	const step = 20 * time.Millisecond
	ticks := time.NewTicker(step)
	defer ticks.Stop()
	for {
		select {
		case <-c.ctx.Done():
			return
		case now := <-ticks.C:
			c.mu.Lock()
			c.resend(now)
			if c.conn != nil && c.conn.loggedIn {
				c.beat(c.conn, now)
			}
			c.mu.Unlock()
		}
	}
}

// beat sends heartbeats, and closes a connection on which the server is silent.
func (c *Client) beat(k *conn, now time.Time) {
	if c.row.Silence > 0 && now.Sub(k.heard) >= c.scaled(c.row.Silence) ||
		c.row.Echo > 0 && k.owed && now.Sub(k.beat) >= c.row.Echo {
		k.close()
		return
	}
	if now.Sub(k.beat) >= c.scaled(c.row.Heartbeat) {
		k.beat, k.owed = now, true
		c.write(c.nextSeq(), &pb.IMHeartBeat{})
	}
}
