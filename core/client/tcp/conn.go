// Package tcp is a client's TCP connection to a server, with one goroutine. A Conn sends
// and receives frames, matches answers to requests by seq, and sends heartbeats. It does
// not reconnect: package client does.
//
// Dial opens a connection and Login logs a user in on it. Requests to the server, such as
// client.History, take a Conn that is logged in.
package tcp

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/opt"
	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// Options configures a Conn. Zero values mean the defaults in the comments.
type Options struct {
	// OnFrame receives frames that are not the answer to a request: pushes, and answers
	// to requests that were given up. The goroutine that reads calls it, one frame at a
	// time, so it must not wait for an answer on the same Conn. The body is valid until
	// it returns. Nil: the frames are dropped.
	OnFrame func(c *Conn, h pdu.Header, body []byte)

	Heartbeat    time.Duration // between heartbeats; 0 is 30 s, negative none
	WriteTimeout time.Duration // for one frame; 0 is 10 s
	// MaxFrame is the longest frame accepted, in bytes; 0 is pdu.MaxServerFrame, because
	// the directory of a large company is one frame.
	MaxFrame int
	Buffer   int // size of the idle read buffer, in bytes; 0 is 1 KiB
	// MaxPending is the most requests without an answer; 0 is 4096, and at most 60,000. A
	// further request is rejected with im.Busy.
	MaxPending int
	Logger     *slog.Logger // nil: silent
}

// silentTicks is the number of heartbeats without a byte from the server after which the
// connection is closed. The server echoes heartbeats.
const silentTicks = 3

// readBuffer is the default size of the idle read buffer, in bytes.
const readBuffer = 1024

// Conn is a connection to a message server. Any goroutine.
type Conn struct {
	nc     net.Conn
	opts   Options
	log    *slog.Logger
	user   atomic.Uint32
	bytes  atomic.Uint64 // received so far
	done   chan struct{} // closed after the last callback
	ticker *time.Timer

	wmu  sync.Mutex // held during the write of one frame
	wbuf []byte

	mu      sync.Mutex // guards the following fields
	err     error      // the reason why the connection ended; set once
	ended   bool       // no further answer will be handled
	seq     uint16
	pending map[uint16]call

	lastBytes uint64 // used by tick only
	silent    int    // used by tick only
}

// call is a request that waits for its answer.
type call struct {
	want pb.Command
	done func(body []byte, err error)
}

// Dial connects to a message server at host:port. Unavailable when the connection fails.
func Dial(ctx context.Context, addr string, opts Options) (*Conn, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, im.WithKind(im.Unavailable, "connect to message server", err)
	}
	return NewConn(nc, opts), nil
}

// NewConn returns a Conn on an open connection, which the Conn owns from here on.
func NewConn(nc net.Conn, opts Options) *Conn {
	c := Prepare(nc, opts)
	c.Start()
	return c
}

// Prepare returns a Conn on an open connection for a caller that needs the Conn in OnFrame.
// It receives nothing before Start.
func Prepare(nc net.Conn, opts Options) *Conn {
	if opts.Heartbeat == 0 {
		opts.Heartbeat = 30 * time.Second
	}
	opt.Default(&opts.WriteTimeout, 10*time.Second)
	opt.Default(&opts.MaxFrame, pdu.MaxServerFrame)
	opt.Default(&opts.Buffer, readBuffer)
	opt.Default(&opts.MaxPending, 4096)
	opts.MaxPending = min(opts.MaxPending, 60000)
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	return &Conn{nc: nc, opts: opts, log: opts.Logger, done: make(chan struct{}),
		pending: make(map[uint16]call)}
}

// Start begins to receive frames. It starts the reading goroutine and the heartbeat timer.
func (c *Conn) Start() {
	if c.opts.Heartbeat > 0 {
		c.mu.Lock() // tick must see c.ticker
		c.ticker = time.AfterFunc(c.opts.Heartbeat, c.tick)
		c.mu.Unlock()
	}
	go c.read()
}

// UserID returns the id of the user logged in on this connection, 0 before login.
func (c *Conn) UserID() uint32 { return c.user.Load() }

// RemoteAddr returns the server's address.
func (c *Conn) RemoteAddr() net.Addr { return c.nc.RemoteAddr() }

// Done returns a channel that is closed when the connection has ended. No callback runs
// after that.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err returns the reason why the connection ended: im.Closed after Close, im.Malformed
// after bytes that are not frames, otherwise im.Unavailable. Nil while the connection is
// open.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the connection at once. It does not log out (see Logout), and does not wait
// for Done. Requests without an answer fail.
func (c *Conn) Close() error {
	c.Fail(im.Errorf(im.Closed, "connection closed"))
	return nil
}

// Fail ends the connection with a reason. The first reason is kept.
func (c *Conn) Fail(err error) {
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
		_ = c.nc.Close() // ends the read, whose goroutine does the rest
	}
}

// Send writes one frame. It returns when the system has accepted the frame. A failed
// write ends the connection.
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
		c.Fail(im.WithKind(im.Unavailable, "write to server", err))
	} else {
		c.Fail(im.WithKind(im.Unavailable, "write to server", err))
	}
	return c.Err()
}

// Go sends a request and returns its seq. The goroutine that reads calls done exactly
// once, with the body of the answer, which is valid until done returns, or with the
// reason why no answer will arrive. The wait has no time limit. When Go returns an error,
// done is not called.
func (c *Conn) Go(req pb.Message, want pb.Command,
	done func(body []byte, err error)) (uint16, error) {
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

	if err := c.Send(req, seq); err != nil && c.Forget(seq) {
		return 0, err
	}
	return seq, nil // after a failed write the reader calls done
}

// Resend sends a request once more with a seq that it had before, after an answer that did
// not settle it. Otherwise it is like Go.
func (c *Conn) Resend(seq uint16, req pb.Message, want pb.Command,
	done func(body []byte, err error)) error {
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
	if err := c.Send(req, seq); err != nil && c.Forget(seq) {
		return err
	}
	return nil
}

// Forget removes a request. It returns false when done has been called or is running.
func (c *Conn) Forget(seq uint16) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, there := c.pending[seq]
	delete(c.pending, seq)
	return there
}

// Call sends req, waits for the answer and decodes it into resp. Malformed when the
// answer does not decode, Unavailable when the connection or ctx ends.
func (c *Conn) Call(ctx context.Context, req, resp pb.Message) error {
	return c.CallThen(ctx, req, resp, nil)
}

// CallThen is Call with a function that the goroutine that reads calls after it has decoded
// the answer, unless it is nil. Its error is returned.
func (c *Conn) CallThen(ctx context.Context, req, resp pb.Message, then func() error) error {
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
		if c.Forget(seq) {
			return im.WithKind(im.Unavailable, "no answer to "+req.Command().String(), ctx.Err())
		}
		return <-answer // the answer is being decoded into resp
	}
}

// tick sends a heartbeat, or closes the connection to a silent server. Only the timer
// calls it.
func (c *Conn) tick() {
	if n := c.bytes.Load(); n != c.lastBytes {
		c.lastBytes, c.silent = n, 0
	} else if c.silent++; c.silent >= silentTicks {
		c.Fail(im.Errorf(im.Unavailable, "server silent for %v", silentTicks*c.opts.Heartbeat))
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

// read dispatches frames until the connection ends, and then fails the requests without
// an answer.
func (c *Conn) read() {
	err := c.readFrames()
	c.Fail(err)
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

// readFrames reads frames. The buffer stays small while frames are small, and grows only
// as bytes arrive: a length field alone allocates nothing.
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

// dispatch passes a frame to the request that waits for it, or to OnFrame.
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
