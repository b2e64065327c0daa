package client

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// What becomes of a transfer when one side does not want it.
var (
	// ErrFileCancelled says that this side or the other ended the transfer. A sender or receiver who goes away in an online transfer ends it too.
	ErrFileCancelled = im.Errorf(im.Closed, "cancelled")
	// ErrFileRefused says that the receiver does not want the file.
	ErrFileRefused = im.Errorf(im.Denied, "refused by the receiver")
)

const (
	fileSegment   = 32 << 10         // bytes moved at once; servers take no longer ones
	fileWindow    = 8                // segments asked for and not there yet
	fileBuffer    = 2 * fileSegment  // of a connection, at rest
	maxFileFrame  = 2 * fileSegment  // longest frame taken
	fileStall     = 2 * time.Minute  // without a byte where some are due; then another connection is tried
	fileTell      = 5 * time.Second  // for the last word of a transfer that is given up
	fileWriteTime = 60 * time.Second // for one segment on a slow line
	onlineTries   = 3                // to log in to a direct transfer: a server may have to find out first who is online
	forgetTime    = 10 * time.Second // for telling that a file was fetched
)

// FileOptions are what one may want to know of a transfer.
type FileOptions struct {
	// Progress gets the number of bytes that are over, including those of an earlier attempt, after each segment. It must not wait. Nil: nobody is told.
	Progress func(moved int64)
}

// Transfer is a file on its way. Its methods may be called from many goroutines at once.
type Transfer struct {
	c        *Client
	file     File
	role     pb.ClientFileRole
	progress func(int64)
	moved    atomic.Int64
	carried  atomic.Int64
	entered  atomic.Bool   // was logged in to the task: a direct transfer ends with that connection
	quit     chan struct{} // closed by Cancel
	quitOnce sync.Once
	done     chan struct{}

	src source   // of the sender
	dst *partial // of the receiver

	err  error  // once done
	path string // of the receiver, once done
}

// File is what is transferred.
func (t *Transfer) File() File { return t.file }

// Moved is how many bytes are over.
func (t *Transfer) Moved() int64 { return t.moved.Load() }

// Carried is how many bytes went over this Transfer's connections: without those that were over before it began, and with those that went twice. It is
// what tells how fast it is.
func (t *Transfer) Carried() int64 { return t.carried.Load() }

// Done is closed when the transfer has ended.
func (t *Transfer) Done() <-chan struct{} { return t.done }

// Err says how it ended: nil when all of the file is over and safe, ErrFileCancelled, ErrFileRefused; Denied when the server does not know the task (any more), or
// not for this user; Closed when the Client ended before – what is not online may then be taken up again; Internal when this machine's
// disk failed; Unavailable when the connection of an online transfer broke. Only once Done is closed.
func (t *Transfer) Err() error { return t.err }

// Path is where a fetched file is, once Done is closed and Err is nil.
func (t *Transfer) Path() string { return t.path }

// Wait waits until the transfer has ended and returns Err, or Unavailable when ctx ends before. The transfer goes on then.
func (t *Transfer) Wait(ctx context.Context) error {
	select {
	case <-t.done:
		return t.err
	case <-ctx.Done():
		return im.WithKind(im.Unavailable, "file under way", ctx.Err())
	}
}

// Cancel ends the transfer for good, and tells the other side, or the server. A file that is being fetched from the server stays there: see RefuseFile.
func (t *Transfer) Cancel() { t.quitOnce.Do(func() { close(t.quit) }) }

func (c *Client) newTransfer(f File, role pb.ClientFileRole, o FileOptions) *Transfer {
	return &Transfer{c: c, file: f, role: role, progress: o.Progress, quit: make(chan struct{}), done: make(chan struct{})}
}

// begin runs the transfer; Busy when the task is under way already, Closed when the Client is.
func (t *Transfer) begin() error {
	c := t.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing || c.err != nil {
		return im.Errorf(im.Closed, "client closed")
	}
	if c.files[t.file.Task] != nil {
		return im.Errorf(im.Busy, "this file is under way already")
	}
	c.files[t.file.Task] = t
	go func() {
		err := t.run()
		if t.dst != nil {
			err = t.dst.end(t, err)
		}
		c.mu.Lock()
		delete(c.files, t.file.Task)
		c.mu.Unlock()
		t.err = err
		close(t.done)
	}()
	return nil
}

// run makes attempts until the file is over or there is no hope. Only what a server keeps survives a connection.
//
// A file server lets in who is logged in to a message server, so what it says to a Client that was not, all the time, is no refusal; and a login is a
// reason to try at once, since whatever ended both connections is over.
func (t *Transfer) run() error {
	refused := 0
	for attempt := 0; ; attempt++ {
		before := t.Moved()
		there, login := t.c.present()
		err := t.attempt()
		switch {
		case err == nil && t.role == pb.ClientFileRole_CLIENT_OFFLINE_UPLOAD:
			return t.announce()
		case err == nil || t.c.ctx.Err() != nil || errors.Is(err, ErrFileCancelled) || errors.Is(err, ErrFileRefused):
			return err
		case im.KindOf(err) == im.Denied:
			if still, _ := t.c.present(); there != nil && there == still {
				refused++
			}
		case im.KindOf(err) != im.Unavailable:
			return err
		}
		if refused >= refusals || t.file.Online && (t.entered.Load() || attempt >= onlineTries-1) {
			return err
		}
		if t.Moved() > before {
			attempt, refused = 0, 0
		}
		t.c.log.Debug("file transfer broke off", "task", t.file.Task, "moved", t.Moved(), "err", err)
		select {
		case <-time.After(t.c.backoff(attempt)):
		case <-login:
			attempt = -1
		case <-t.quit:
		case <-t.c.ctx.Done():
		}
	}
}

// present returns the connection that is logged in, nil without, and what is closed with the next login.
func (c *Client) present() (*Conn, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conn, c.attached
}

// attempt makes one connection to the file server and works until the transfer, or the connection, ends.
func (t *Transfer) attempt() error {
	ctx, cancel := context.WithCancel(t.c.ctx)
	defer cancel()
	l, err := t.connect(ctx)
	switch {
	case t.c.ctx.Err() != nil:
		return im.Errorf(im.Closed, "client closed")
	case err != nil && t.quitting():
		return ErrFileCancelled
	case err != nil:
		return err
	}
	defer l.close()
	select {
	case err := <-l.result:
		return l.settle(err)
	case <-l.conn.Done():
	case <-t.quit:
		if t.role != pb.ClientFileRole_CLIENT_OFFLINE_DOWNLOAD {
			_ = l.tell(pb.ClientFileState_CLIENT_FILE_CANCEL) // as in settle
		}
		return ErrFileCancelled
	case <-t.c.ctx.Done():
		return im.Errorf(im.Closed, "client closed")
	}
	select { // said before the connection ended
	case err := <-l.result:
		return l.settle(err)
	default:
		return l.conn.Err()
	}
}

// quitting reports whether Cancel was called.
func (t *Transfer) quitting() bool {
	select {
	case <-t.quit:
		return true
	default:
		return false
	}
}

// tellOnly connects only to say one thing.
func (t *Transfer) tellOnly(ctx context.Context, state pb.ClientFileState) error {
	for attempt := 0; ; attempt++ {
		l, err := t.connect(ctx)
		if err == nil {
			defer l.close()
			return l.tell(state)
		}
		if attempt >= onlineTries-1 {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-t.c.ctx.Done():
			return im.Errorf(im.Closed, "client closed")
		case <-time.After(t.c.backoff(attempt)):
		}
	}
}

// moveTo notes how far it is.
func (t *Transfer) moveTo(n int64) {
	t.moved.Store(n)
	if t.progress != nil {
		t.progress(n)
	}
}

// fileLink is one connection of a transfer.
type fileLink struct {
	t      *Transfer
	conn   *Conn
	nc     net.Conn
	result chan error // the first counts
	stall  *time.Timer
	buf    []byte // of the sender; only the goroutine that reads uses it

	mu    sync.Mutex
	asked int64 // of the receiver: up to here was asked for
	seq   uint16
}

// connect logs in to the task, at the first server that knows it.
func (t *Transfer) connect(ctx context.Context) (*fileLink, error) {
	last := im.Errorf(im.Unavailable, "no address of a file server")
	for _, addr := range t.file.Addrs {
		l, err := t.connectTo(ctx, addr)
		if err == nil {
			return l, nil
		}
		if last == nil || im.KindOf(last) != im.Unavailable || len(t.file.Addrs) == 1 || addr == t.file.Addrs[0] {
			last = err // one that could not be asked may be the one that knows the task
		}
	}
	return nil, last
}

// connectTo logs in to the task at one server.
func (t *Transfer) connectTo(ctx context.Context, addr string) (*fileLink, error) {
	ctx, cancel := context.WithTimeout(ctx, t.c.opts.ConnectTimeout)
	defer cancel()
	nc, err := t.c.opts.Dial(ctx, "tcp", addr)
	if err != nil {
		return nil, im.WithKind(im.Unavailable, "connect to file server", err)
	}
	l := &fileLink{t: t, nc: nc, result: make(chan error, 1)}
	if t.role != pb.ClientFileRole_CLIENT_REALTIME_SENDER { // who waits for a person
		l.stall = time.AfterFunc(fileStall, func() { l.end(im.Errorf(im.Unavailable, "nothing moved for %v", fileStall)) })
	}
	l.conn = newConn(nc, ConnOptions{
		OnFrame: func(_ *Conn, h pdu.Header, body []byte) { l.frame(h, body) }, Heartbeat: t.c.opts.Heartbeat, WriteTimeout: fileWriteTime,
		MaxFrame: maxFileFrame, Buffer: fileBuffer, Logger: t.c.opts.Logger,
	})
	l.conn.start()
	var res pb.IMFileLoginRsp
	err = l.conn.Call(ctx, pb.IMFileLoginReq_builder{UserId: new(t.c.UserID()), TaskId: new(t.file.Task), FileRole: t.role.Enum()}.Build(), &res)
	if err == nil && res.GetResultCode() != 0 {
		err = im.Errorf(im.Denied, "the file server says that the transfer is over, or not this user's (%d)", res.GetResultCode())
	}
	if err == nil {
		t.entered.Store(true)
	}
	if err == nil && t.role == pb.ClientFileRole_CLIENT_OFFLINE_DOWNLOAD && t.dst != nil {
		l.pull()
	}
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// end says how the transfer ended, or why this connection is no good any more. The first word counts.
func (l *fileLink) end(err error) {
	select {
	case l.result <- err:
	default:
	}
}

// settle tells the other side how it ended, where that is this side's to say, and returns it.
func (l *fileLink) settle(err error) error {
	switch kind := im.KindOf(err); {
	case err == nil && l.t.role == pb.ClientFileRole_CLIENT_REALTIME_RECVER:
		return l.tell(pb.ClientFileState_CLIENT_FILE_DONE)
	case err != nil && l.t.role != pb.ClientFileRole_CLIENT_OFFLINE_DOWNLOAD && (kind == im.Internal || kind == im.Malformed):
		_ = l.tell(pb.ClientFileState_CLIENT_FILE_CANCEL) // a failed write ends the connection, which says as much
	}
	return err
}

// tell says the last word and waits until the server has had it.
func (l *fileLink) tell(state pb.ClientFileState) error {
	t := l.t
	err := l.conn.Send(pb.IMFileState_builder{State: state.Enum(), TaskId: new(t.file.Task), UserId: new(t.c.UserID())}.Build(), l.next())
	if err != nil {
		return err
	}
	half, ok := l.nc.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return nil
	}
	timer := time.NewTimer(fileTell)
	defer timer.Stop()
	select {
	case <-l.conn.Done(): // the server has read to the end, and closed
	case <-timer.C:
	}
	return nil
}

// close ends the connection and waits until nothing is done for it any more.
func (l *fileLink) close() {
	if l.stall != nil {
		l.stall.Stop()
	}
	_ = l.conn.Close()
	<-l.conn.Done()
}

// next is the seq of the next frame.
func (l *fileLink) next() uint16 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seq++
	return l.seq
}

// frame takes what the server says; the goroutine that reads calls it. After Cancel nothing moves any more, however much was on the way.
func (l *fileLink) frame(h pdu.Header, body []byte) {
	if l.t.quitting() {
		return
	}
	m, err := pdu.Decode(h.Command, body)
	if err != nil {
		l.end(im.WithKind(im.Malformed, "file server", err))
		return
	}
	if l.stall != nil {
		l.stall.Reset(fileStall)
	}
	switch m := m.(type) {
	case *pb.IMFilePullDataReq:
		err = l.give(h.Seq, m)
	case *pb.IMFilePullDataRsp:
		err = l.take(m)
	case *pb.IMFileState:
		l.state(m.GetState())
	}
	if err != nil {
		l.end(err)
	}
}

// state takes the other side's or the server's word on the transfer.
func (l *fileLink) state(s pb.ClientFileState) {
	t := l.t
	switch s {
	case pb.ClientFileState_CLIENT_FILE_CANCEL:
		l.end(ErrFileCancelled)
	case pb.ClientFileState_CLIENT_FILE_REFUSE:
		l.end(ErrFileRefused)
	case pb.ClientFileState_CLIENT_FILE_PEER_READY:
		if t.role == pb.ClientFileRole_CLIENT_REALTIME_RECVER && t.dst != nil {
			l.mu.Lock()
			l.asked = t.Moved() // of a sender who comes again nothing was asked yet
			l.mu.Unlock()
			l.pull()
		}
	case pb.ClientFileState_CLIENT_FILE_DONE:
		switch {
		case t.dst == nil:
			t.moveTo(t.file.Size)
			l.end(nil)
		case t.Moved() == t.file.Size:
			l.end(nil)
		default:
			l.end(im.Errorf(im.Malformed, "done after %d of %d bytes", t.Moved(), t.file.Size))
		}
	}
}
