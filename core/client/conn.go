// Package client is the client's side of the protocol, in two layers.
//
// A Conn is one TCP connection: frames out and in, answers matched to requests by seq, heartbeats, one goroutine. The load generator and the tests
// use it as it is. A Client is a person logged in: it finds a message server, stays connected, and keeps the promises a person
// expects – every message sent is stored once, every message received is seen once and in order, whatever connections do in between. Messages of one conversation
// are stored in the order of their Sends.
//
// Questions to the server (History, Contacts and so on) are functions that take either of the two.
package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// ConnOptions are the settings of a Conn. The zero value means what the comments say.
type ConnOptions struct {
	// OnFrame gets what is not the answer to a request: pushes, and answers nobody waits for any more. It is called by the goroutine that
	// reads, one frame at a time, so it must not wait for an answer of the same Conn. The body is valid until it returns. Nil: dropped.
	OnFrame func(c *Conn, h pdu.Header, body []byte)

	Heartbeat    time.Duration // between heartbeats; 0 is 30 s, negative none
	WriteTimeout time.Duration // for one frame; 0 is 10 s
	MaxFrame     int           // longest frame taken from the server, in bytes; 0 is pdu.MaxServerFrame: a directory of many users is one frame
	Buffer       int           // for reading, at rest, in bytes; 0 is 1 KiB
	MaxPending   int           // requests without an answer; 0 is 4096, at most 60,000; one more is im.Busy
	Logger       *slog.Logger  // nil: silent
}

// silentTicks is after how many heartbeats without any byte from the server a connection counts as dead. The server echoes heartbeats.
const silentTicks = 3

// readBuffer is the usual size of a connection's buffer at rest, in bytes.
const readBuffer = 1024

// Conn is a connection to a message server. Its methods may be called from many goroutines at once.
type Conn struct {
	nc     net.Conn
	opts   ConnOptions
	log    *slog.Logger
	user   atomic.Uint32
	bytes  atomic.Uint64 // ever received
	done   chan struct{} // closed when reading has ended, after the last callback
	ticker *time.Timer

	wmu  sync.Mutex // held while writing one frame
	wbuf []byte

	mu      sync.Mutex // guards what follows
	err     error      // why the connection ended; set once
	ended   bool       // no answer will come any more
	seq     uint16
	pending map[uint16]call

	lastBytes uint64 // of the ticker
	silent    int    // of the ticker
}

// call is a request that waits for its answer.
type call struct {
	want pb.Command
	done func(body []byte, err error)
}

// Dial connects to a message server at host:port. Unavailable when that fails.
func Dial(ctx context.Context, addr string, opts ConnOptions) (*Conn, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, im.WithKind(im.Unavailable, "connect to message server", err)
	}
	return NewConn(nc, opts), nil
}

// NewConn starts a Conn on an open connection, which it owns from now on.
func NewConn(nc net.Conn, opts ConnOptions) *Conn {
	c := newConn(nc, opts)
	c.start()
	return c
}

func newConn(nc net.Conn, opts ConnOptions) *Conn {
	if opts.Heartbeat == 0 {
		opts.Heartbeat = 30 * time.Second
	}
	if opts.WriteTimeout == 0 {
		opts.WriteTimeout = 10 * time.Second
	}
	if opts.MaxFrame == 0 {
		opts.MaxFrame = pdu.MaxServerFrame
	}
	if opts.Buffer == 0 {
		opts.Buffer = readBuffer
	}
	if opts.MaxPending == 0 {
		opts.MaxPending = 4096
	}
	opts.MaxPending = min(opts.MaxPending, 60000)
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	return &Conn{nc: nc, opts: opts, log: opts.Logger, done: make(chan struct{}), pending: make(map[uint16]call)}
}

// start sets the goroutine and the timer going.
func (c *Conn) start() {
	if c.opts.Heartbeat > 0 {
		c.mu.Lock() // a tick must see c.ticker
		c.ticker = time.AfterFunc(c.opts.Heartbeat, c.tick)
		c.mu.Unlock()
	}
	go c.read()
}

// UserID is who is logged in on this connection, 0 before login.
func (c *Conn) UserID() uint32 { return c.user.Load() }

// RemoteAddr is the server's address.
func (c *Conn) RemoteAddr() net.Addr { return c.nc.RemoteAddr() }

// Done is closed when the connection has ended and no callback will run any more.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err says why the connection ended: im.Closed after Close, im.Malformed after bytes that are no frames, else im.Unavailable. Nil while it lives.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the connection at once, without logging out (see Logout), and without waiting for Done. Requests without an answer fail.
func (c *Conn) Close() error {
	c.fail(im.Errorf(im.Closed, "connection closed"))
	return nil
}

// fail ends the connection with a reason; the first one counts.
func (c *Conn) fail(err error) {
	c.mu.Lock()
	first := c.err == nil
	if first {
		c.err = err
		if c.ticker != nil {
			c.ticker.Stop()
		}
	}
	c.mu.Unlock()
	if first {
		_ = c.nc.Close() // unblocks the reader, which does the rest
	}
}

// Send writes one frame; it returns when the system has taken it. When a write fails the connection ends.
func (c *Conn) Send(m pb.Message, seq uint16) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	b, err := pdu.Append(c.wbuf[:0], seq, m)
	if err != nil {
		return im.WithKind(im.Invalid, "send", err)
	}
	if cap(b) <= 64<<10 {
		c.wbuf = b[:0]
	}
	if err := c.Err(); err != nil {
		return err
	}
	if err := c.nc.SetWriteDeadline(time.Now().Add(c.opts.WriteTimeout)); err == nil {
		_, err = c.nc.Write(b)
		if err == nil {
			return nil
		}
		c.fail(im.WithKind(im.Unavailable, "write to server", err))
	} else {
		c.fail(im.WithKind(im.Unavailable, "write to server", err))
	}
	return c.Err()
}

// Go sends a request and returns its seq. done is called once, by the goroutine that reads, with the body of the answer (valid
// until it returns), or with the reason why none will come. There is no time limit. When Go returns an error, done is not called.
func (c *Conn) Go(req pb.Message, want pb.Command, done func(body []byte, err error)) (uint16, error) {
	c.mu.Lock()
	if c.ended || c.err != nil {
		err := c.err
		c.mu.Unlock()
		return 0, err
	}
	if len(c.pending) >= c.opts.MaxPending {
		c.mu.Unlock()
		return 0, im.Errorf(im.Busy, "%d requests wait for an answer", c.opts.MaxPending)
	}
	for {
		c.seq++
		if _, taken := c.pending[c.seq]; c.seq != 0 && !taken {
			break
		}
	}
	seq := c.seq
	c.pending[seq] = call{want: want, done: done}
	c.mu.Unlock()

	if err := c.Send(req, seq); err != nil && c.forget(seq) {
		return 0, err
	}
	return seq, nil // after a failed write the reader has called done, or will
}

// again sends a request once more under a seq that it had before, after an answer that did not settle
// it. It is like Go otherwise.
func (c *Conn) again(seq uint16, req pb.Message, want pb.Command, done func(body []byte, err error)) error {
	c.mu.Lock()
	if c.ended || c.err != nil {
		err := c.err
		c.mu.Unlock()
		return err
	}
	if _, taken := c.pending[seq]; taken || len(c.pending) >= c.opts.MaxPending {
		c.mu.Unlock()
		return im.Errorf(im.Busy, "%d requests wait for an answer", c.opts.MaxPending)
	}
	c.pending[seq] = call{want: want, done: done}
	c.mu.Unlock()
	if err := c.Send(req, seq); err != nil && c.forget(seq) {
		return err
	}
	return nil
}

// forget takes a request out; false when its answer is being, or has been, handed over.
func (c *Conn) forget(seq uint16) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, there := c.pending[seq]
	delete(c.pending, seq)
	return there
}

// Call sends req and waits for the answer, which it decodes into resp. Malformed when the answer does not decode, Unavailable when the
// connection ends or ctx does.
func (c *Conn) Call(ctx context.Context, req, resp pb.Message) error {
	return c.call(ctx, req, resp, nil)
}

// call is Call; then, if there is one, is called when the answer is decoded, by the goroutine that reads, and its error returned.
func (c *Conn) call(ctx context.Context, req, resp pb.Message, then func() error) error {
	answer := make(chan error, 1)
	seq, err := c.Go(req, resp.Command(), func(body []byte, err error) {
		if err == nil {
			if err = resp.ParseBody(body); err != nil {
				err = im.WithKind(im.Malformed, "answer "+resp.Command().String(), err)
			} else if then != nil {
				err = then()
			}
		}
		answer <- err
	})
	if err != nil {
		return err
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		if c.forget(seq) {
			return im.WithKind(im.Unavailable, "no answer to "+req.Command().String(), ctx.Err())
		}
		return <-answer // it is being decoded into resp right now
	}
}

// tick sends a heartbeat, or gives up on a server that says nothing. Only the timer calls it.
func (c *Conn) tick() {
	if n := c.bytes.Load(); n != c.lastBytes {
		c.lastBytes, c.silent = n, 0
	} else if c.silent++; c.silent >= silentTicks {
		c.fail(im.Errorf(im.Unavailable, "server silent for %v", silentTicks*c.opts.Heartbeat))
		return
	}
	if c.Send(&pb.IMHeartBeat{}, 0) != nil {
		return // ended
	}
	c.mu.Lock()
	if c.err == nil {
		c.ticker.Reset(c.opts.Heartbeat)
	}
	c.mu.Unlock()
}

// read hands out frames until the connection ends, then fails what still waits.
func (c *Conn) read() {
	err := c.readFrames()
	c.fail(err)
	c.mu.Lock()
	c.ended = true
	pending := c.pending
	c.pending = nil
	err = c.err
	c.mu.Unlock()
	for _, p := range pending {
		p.done(nil, err)
	}
	close(c.done)
}

// readFrames reads into a buffer that is small while frames are, and grows only as bytes really come: a length field alone costs nothing.
func (c *Conn) readFrames() error {
	buf := make([]byte, c.opts.Buffer)
	start, end := 0, 0
	for {
		h, body, n, err := pdu.Next(buf[start:end], c.opts.MaxFrame)
		if err != nil {
			return im.WithKind(im.Malformed, "read from server", err)
		}
		if n > 0 {
			c.dispatch(h, body)
			start += n
			continue
		}
		switch {
		case start == end:
			start, end = 0, 0
			if len(buf) > 16*c.opts.Buffer {
				buf = make([]byte, c.opts.Buffer)
			}
		case end == len(buf) && start > 0:
			end = copy(buf, buf[start:end])
			start = 0
		case end == len(buf):
			grown := make([]byte, min(2*len(buf), c.opts.MaxFrame))
			copy(grown, buf)
			buf = grown
		}
		m, err := c.nc.Read(buf[end:])
		end += m
		c.bytes.Add(uint64(m))
		if m == 0 && err != nil {
			return im.WithKind(im.Unavailable, "connection lost", err)
		}
	}
}

// dispatch hands a frame to whoever waits for it.
func (c *Conn) dispatch(h pdu.Header, body []byte) {
	if h.Seq != 0 {
		c.mu.Lock()
		p, ok := c.pending[h.Seq]
		ok = ok && p.want == h.Command
		if ok {
			delete(c.pending, h.Seq)
		}
		c.mu.Unlock()
		if ok {
			p.done(body, nil)
			return
		}
	}
	if h.Command != pb.CmdHeartBeat && c.opts.OnFrame != nil {
		c.opts.OnFrame(c, h, body)
	}
}

// LoginError is a login that the server refused.
type LoginError struct {
	Code pb.ResultType
	Text string // the server's words, may be empty
}

// Error returns the server's words, or the name of the code.
func (e *LoginError) Error() string {
	if e.Text != "" {
		return fmt.Sprintf("login refused: %s (%d)", e.Text, int32(e.Code))
	}
	return fmt.Sprintf("login refused: %s (%d)", e.Code, int32(e.Code))
}

// What C++ servers, and db_proxies behind them, say under the code of a wrong password when their
// store fails or is busy.
const (
	textFailed = "服务端内部错误"
	textBusy   = "服务器繁忙，请稍后再试"
)

// kind sorts the reasons for a refused login by what helps: another password (Denied), another program (Invalid), or time.
func (e *LoginError) kind() im.Kind {
	switch e.Code {
	case pb.ResultType_REFUSE_REASON_DB_VALIDATE_FAILED:
		if e.Text == textFailed || e.Text == textBusy {
			return im.Unavailable
		}
		return im.Denied
	case pb.ResultType_REFUSE_REASON_VERSION_TOO_OLD:
		return im.Invalid
	}
	return im.Unavailable
}

// Credentials are what a login needs.
type Credentials struct {
	User     string
	Password string // clear; what travels is im.ClientPassword
	// ClientType says what kind of client this is; 0: CLIENT_TYPE_WINDOWS, which counts as pc. For
	// CLIENT_TYPE_ANDROID servers cut answers to 400 KiB a frame: Contacts, Departs and History
	// then return the first part of a long list.
	ClientType pb.ClientType
	Version    string // of the program, for the server's log; "" is "teamtalk/1"
}

// loginReq is the request for cr.
func (cr Credentials) loginReq() *pb.IMLoginReq {
	if cr.ClientType == 0 {
		cr.ClientType = pb.ClientType_CLIENT_TYPE_WINDOWS
	}
	if cr.Version == "" {
		cr.Version = "teamtalk/1"
	}
	return pb.IMLoginReq_builder{
		UserName: new(cr.User), Password: new(im.ClientPassword(cr.Password)),
		OnlineStatus: pb.UserStatType_USER_STATUS_ONLINE.Enum(), ClientType: cr.ClientType.Enum(), ClientVersion: new(cr.Version),
	}.Build()
}

// Login logs in. An error with a *LoginError in its chain is a refusal: Denied for name or password, Invalid for the version, Unavailable for what
// may pass. The server closes the connection after a refusal.
func (c *Conn) Login(ctx context.Context, cr Credentials) (*pb.IMLoginRes, error) {
	var res pb.IMLoginRes
	if err := c.Call(ctx, cr.loginReq(), &res); err != nil {
		return nil, err
	}
	if err := c.loggedIn(&res); err != nil {
		return nil, err
	}
	return &res, nil
}

// loggedIn takes the answer to a login.
func (c *Conn) loggedIn(res *pb.IMLoginRes) error {
	if code := res.GetResultCode(); code != pb.ResultType_REFUSE_REASON_NONE {
		e := &LoginError{Code: code, Text: res.GetResultString()}
		return &im.Error{Kind: e.kind(), Msg: "server", Err: e}
	}
	id := res.GetUserInfo().GetUserId()
	if id == 0 {
		return im.Errorf(im.Malformed, "login answer without a user")
	}
	c.user.Store(id)
	return nil
}

// Logout tells the server that this client goes, waits until it says so or hangs up, and closes.
func (c *Conn) Logout(ctx context.Context) error {
	err := c.Call(ctx, &pb.IMLogoutReq{}, &pb.IMLogoutRsp{})
	if err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
		err = nil // it hung up instead: just as well
	}
	return errors.Join(err, c.Close())
}
