package transfer

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"teamtalk/core/client/tcp"
	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// Results of a transfer that one side ended.
var (
	// ErrCancelled means that this side or the other ended the transfer. An online
	// transfer also ends when the sender or receiver disconnects.
	ErrCancelled = im.Errorf(im.Closed, "cancelled")
	// ErrRefused means that the receiver refused the file.
	ErrRefused = im.Errorf(im.Denied, "refused by the receiver")
)

// refusals is the number of logins in a row that a file server may refuse before the
// transfer fails: it also refuses a user whose message server it cannot ask.
const refusals = 5

const (
	segment  = 32 << 10    // bytes in one frame; servers accept no longer ones
	window   = 8           // segments in flight
	buffer   = 2 * segment // of an idle connection, in bytes
	maxFrame = 2 * segment // longest frame accepted, in bytes
	// stallTime is the time without a byte, while some are due, after which another
	// connection is tried.
	stallTime = 2 * time.Minute
	tellTime  = 5 * time.Second  // for the last frame of a transfer that is given up
	writeTime = 60 * time.Second // for one segment on a slow line
	// onlineTries is the number of logins to a direct transfer: the server may first have
	// to ask whether the other user is online.
	onlineTries = 3
	// forgetAnswers is for how many answers the end of a transfer waits, until a server has
	// taken the fetched file off its list.
	forgetAnswers = 2
)

// Options configures a transfer.
type Options struct {
	// Progress receives the number of bytes transferred, including those of earlier
	// attempts, after each segment. It must not wait. Nil: no reports.
	Progress func(moved int64)
}

// Transfer is a file in transfer. Any goroutine.
type Transfer struct {
	files    *Files
	file     File
	role     pb.ClientFileRole
	progress func(int64)
	moved    atomic.Int64
	carried  atomic.Int64
	// Logged in to the task at least once: a direct transfer ends with that connection.
	entered  atomic.Bool
	quit     chan struct{} // closed by Cancel
	quitOnce sync.Once
	done     chan struct{}

	src source   // of the sender
	dst *partial // of the receiver

	err  error  // valid once done is closed
	path string // of the receiver, valid once done is closed
}

// File returns the file.
func (t *Transfer) File() File { return t.file }

// Moved returns the number of bytes transferred.
func (t *Transfer) Moved() int64 { return t.moved.Load() }

// Carried returns the number of bytes that passed over this Transfer's connections. It
// does not count bytes of earlier transfers, and counts repeated bytes again. It measures
// the speed.
func (t *Transfer) Carried() int64 { return t.carried.Load() }

// Done returns a channel that is closed when the transfer has ended.
func (t *Transfer) Done() <-chan struct{} { return t.done }

// Err returns the result of the transfer. It is valid only after Done is closed. Nil: the
// whole file is transferred and safe. The errors are ErrCancelled and ErrRefused;
// Denied when the server does not know the task, or not for this user; Closed when the
// Client ended first (a transfer with the server can be continued); Internal when the
// local disk failed; Unavailable when the connection of an online transfer broke.
func (t *Transfer) Err() error { return t.err }

// Path returns the path of a fetched file. It is valid after Done is closed, when Err is
// nil.
func (t *Transfer) Path() string { return t.path }

// Wait waits until the transfer has ended and returns Err. It returns Unavailable when
// ctx ends first; the transfer continues then.
func (t *Transfer) Wait(ctx context.Context) error {
	select {
	case <-t.done:
		return t.err
	case <-ctx.Done():
		return im.WithKind(im.Unavailable, "file under way", ctx.Err())
	}
}

// Cancel ends the transfer for good, and tells the other side or the server. A file that
// is being fetched remains on the server: see Refuse.
func (t *Transfer) Cancel() { t.quitOnce.Do(func() { close(t.quit) }) }

func (fl *Files) newTransfer(f File, role pb.ClientFileRole, o Options) *Transfer {
	return &Transfer{files: fl, file: f, role: role, progress: o.Progress,
		quit: make(chan struct{}), done: make(chan struct{})}
}

// begin starts the transfer. Busy when the same task is in progress, Closed when the
// Client has ended.
func (t *Transfer) begin() error {
	fl := t.files
	if fl.session.Ended() {
		return im.Errorf(im.Closed, "client closed")
	}
	fl.mu.Lock()
	defer fl.mu.Unlock()
	if fl.running[t.file.Task] != nil {
		return im.Errorf(im.Busy, "this file is already in transfer")
	}
	fl.running[t.file.Task] = t
	go func() {
		err := t.run()
		if t.dst != nil {
			err = t.dst.end(t, err)
		}
		fl.mu.Lock()
		delete(fl.running, t.file.Task)
		fl.mu.Unlock()
		t.err = err
		close(t.done)
	}()
	return nil
}

// run makes attempts until the file is transferred or an attempt fails for good. Only
// transfers with a server continue after a lost connection.
//
// A file server accepts only users that are logged in to a message server. So its refusal
// counts only when the Client was logged in during the whole attempt. A login starts an
// attempt at once, because the cause of both lost connections has ended.
func (t *Transfer) run() error {
	refused := 0
	for attempt := 0; ; attempt++ {
		before := t.Moved()
		there, login := t.files.session.Present()
		err := t.attempt()
		switch {
		case err == nil && t.role == pb.ClientFileRole_CLIENT_OFFLINE_UPLOAD:
			return t.announce()
		case err == nil || t.files.ctx.Err() != nil || errors.Is(err, ErrCancelled) ||
			errors.Is(err, ErrRefused):
			return err
		case im.KindOf(err) == im.Denied:
			if still, _ := t.files.session.Present(); there != nil && there == still {
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
		t.files.log.Debug("file transfer broke off", "task", t.file.Task, "moved", t.Moved(), "err",
			err)
		select {
		case <-time.After(t.files.session.Backoff(attempt)):
		case <-login:
			attempt = -1
		case <-t.quit:
		case <-t.files.ctx.Done():
		}
	}
}

// attempt connects to the file server, and waits until the transfer or the connection
// ends.
func (t *Transfer) attempt() error {
	ctx, cancel := context.WithCancel(t.files.ctx)
	defer cancel()
	l, err := t.connect(ctx)
	switch {
	case t.files.ctx.Err() != nil:
		return im.Errorf(im.Closed, "client closed")
	case err != nil && t.quitting():
		return ErrCancelled
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
			_ = l.tell(pb.ClientFileState_CLIENT_FILE_CANCEL) // see settle
		}
		return ErrCancelled
	case <-t.files.ctx.Done():
		return im.Errorf(im.Closed, "client closed")
	}
	// The result may have arrived before the connection ended.
	select {
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

// tellOnly connects only to send one state.
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
		case <-t.files.ctx.Done():
			return im.Errorf(im.Closed, "client closed")
		case <-time.After(t.files.session.Backoff(attempt)):
		}
	}
}

// moveTo records and reports the number of bytes transferred.
func (t *Transfer) moveTo(n int64) {
	t.moved.Store(n)
	if t.progress != nil {
		t.progress(n)
	}
}

// link is one connection of a transfer.
type link struct {
	t      *Transfer
	conn   *tcp.Conn
	nc     net.Conn
	result chan error // holds the first result
	stall  *time.Timer
	buf    []byte // of the sender; used by the goroutine that reads only

	mu    sync.Mutex
	asked int64 // of the receiver: segments up to here were requested
	seq   uint16
}

// connect logs in to the task at the first server that knows it.
func (t *Transfer) connect(ctx context.Context) (*link, error) {
	last := im.Errorf(im.Unavailable, "no address of a file server")
	for _, addr := range t.file.Addrs {
		l, err := t.connectTo(ctx, addr)
		if err == nil {
			return l, nil
		}
		if last == nil || im.KindOf(last) != im.Unavailable || len(t.file.Addrs) == 1 ||
			addr == t.file.Addrs[0] {
			last = err // a server that could not be reached may be the one that knows the task
		}
	}
	return nil, last
}

// connectTo logs in to the task at one server.
func (t *Transfer) connectTo(ctx context.Context, addr string) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, t.files.config.ConnectTimeout)
	defer cancel()
	nc, err := t.files.config.Dial(ctx, "tcp", addr)
	if err != nil {
		return nil, im.WithKind(im.Unavailable, "connect to file server", err)
	}
	l := &link{t: t, nc: nc, result: make(chan error, 1)}
	if t.role != pb.ClientFileRole_CLIENT_REALTIME_SENDER { // this sender waits for a person
		l.stall = time.AfterFunc(stallTime,
			func() { l.end(im.Errorf(im.Unavailable, "nothing moved for %v", stallTime)) })
	}
	l.conn = tcp.Prepare(nc, tcp.Options{
		OnFrame:   func(_ *tcp.Conn, h pdu.Header, body []byte) { l.frame(h, body) },
		Heartbeat: t.files.config.Heartbeat, WriteTimeout: writeTime,
		MaxFrame: maxFrame, Buffer: buffer, Logger: t.files.config.Logger,
	})
	l.conn.Start()
	var res pb.IMFileLoginRsp
	err = l.conn.Call(ctx, pb.IMFileLoginReq_builder{UserId: new(t.files.session.UserID()),
		TaskId: new(t.file.Task), FileRole: t.role.Enum()}.Build(), &res)
	if err == nil && res.GetResultCode() != 0 {
		err = im.Errorf(im.Denied,
			"the file server does not allow the transfer: it ended, or is another user's (%d)",
			res.GetResultCode())
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

// end sets the result of the transfer, or the reason why this connection failed. The
// first value is kept.
func (l *link) end(err error) {
	select {
	case l.result <- err:
	default:
	}
}

// settle tells the other side the result when this side determines it, and returns the
// result.
func (l *link) settle(err error) error {
	switch kind := im.KindOf(err); {
	case err == nil && l.t.role == pb.ClientFileRole_CLIENT_REALTIME_RECVER:
		return l.tell(pb.ClientFileState_CLIENT_FILE_DONE)
	case err != nil && l.t.role != pb.ClientFileRole_CLIENT_OFFLINE_DOWNLOAD &&
		(kind == im.Internal || kind == im.Malformed):
		// A failed write ends the connection, which tells the same.
		_ = l.tell(pb.ClientFileState_CLIENT_FILE_CANCEL)
	}
	return err
}

// tell sends the last state and waits until the server has received it.
func (l *link) tell(state pb.ClientFileState) error {
	t := l.t
	err := l.conn.Send(pb.IMFileState_builder{State: state.Enum(), TaskId: new(t.file.Task),
		UserId: new(t.files.session.UserID())}.Build(), l.next())
	if err != nil {
		return err
	}
	half, ok := l.nc.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return nil
	}
	timer := time.NewTimer(tellTime)
	defer timer.Stop()
	select {
	case <-l.conn.Done(): // the server has read to the end and closed
	case <-timer.C:
	}
	return nil
}

// close ends the connection and waits for the end of its goroutine.
func (l *link) close() {
	if l.stall != nil {
		l.stall.Stop()
	}
	_ = l.conn.Close()
	<-l.conn.Done()
}

// next returns the seq of the next frame.
func (l *link) next() uint16 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seq++
	return l.seq
}

// frame handles a frame from the server. The goroutine that reads calls it. After Cancel
// all frames are dropped.
func (l *link) frame(h pdu.Header, body []byte) {
	if l.t.quitting() {
		return
	}
	m, err := pdu.Decode(h.Command, body)
	if err != nil {
		l.end(im.WithKind(im.Malformed, "file server", err))
		return
	}
	if l.stall != nil {
		l.stall.Reset(stallTime)
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

// state handles a state from the other side or the server.
func (l *link) state(s pb.ClientFileState) {
	t := l.t
	switch s {
	case pb.ClientFileState_CLIENT_FILE_CANCEL:
		l.end(ErrCancelled)
	case pb.ClientFileState_CLIENT_FILE_REFUSE:
		l.end(ErrRefused)
	case pb.ClientFileState_CLIENT_FILE_PEER_READY:
		if t.role == pb.ClientFileRole_CLIENT_REALTIME_RECVER && t.dst != nil {
			l.mu.Lock()
			l.asked = t.Moved() // a sender that reconnects has no requests yet
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
