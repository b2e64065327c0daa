package msg

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"testing/synctest"

	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// device is one client connection.
type device struct {
	w    *world
	loop *testLoop
	s    *session.Client

	mu     sync.Mutex
	half   []byte // of a frame that is not whole yet
	frames []received
	closed atomic.Bool
	ended  atomic.Bool  // the server closed its direction
	unread atomic.Int64 // bytes that have arrived and that the server did not read
	// stuck says that the client does not read: what is written is counted in buffered.
	stuck    atomic.Bool
	buffered atomic.Int64
}

type received struct {
	seq uint16
	m   pb.Message
}

// connect makes a connection on one of the loops.
func (w *world) connect(loop int) *device {
	w.t.Helper()
	return w.connectFrom(loop, netip.AddrPort{})
}

// connectFrom makes a connection from an address.
func (w *world) connectFrom(loop int, from netip.AddrPort) *device {
	w.t.Helper()
	d := &device{w: w, loop: w.loops[loop]}
	d.on(func() {
		d.s = d.loop.AddClient(from, d)
		if err := w.h.Open(d.s); err != nil {
			w.t.Error(err)
		}
	})
	return d
}

// on runs f on the device's loop, within a turn, and waits until everything it started
// has settled.
func (d *device) on(f func()) {
	d.loop.do <- func() {
		d.loop.Begin()
		f()
		d.loop.End()
	}
	synctest.Wait()
}

// Write keeps the frames. A large one comes in pieces.
func (d *device) Write(p []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stuck.Load() {
		d.buffered.Add(int64(len(p)))
	}
	d.half = append(d.half, p...)
	for {
		h, body, n, err := pdu.Next(d.half, pdu.MaxServerFrame)
		if err != nil {
			d.w.t.Errorf("server wrote what is no frame: %v", err)
			return nil
		}
		if n == 0 {
			return nil
		}
		m, err := pdu.Decode(h.Command, body)
		if err != nil {
			d.w.t.Errorf("server wrote what does not decode: %v", err)
			return nil
		}
		d.frames = append(d.frames, received{h.Seq, m})
		d.half = d.half[n:]
	}
}

// Buffered is nothing.
// Buffered returns the bytes that a stuck client has not read.
func (d *device) Buffered() int { return int(d.buffered.Load()) }

// CloseWrite records the end of the server's direction.
func (d *device) CloseWrite() { d.ended.Store(true) }

// Unread returns what the test says.
func (d *device) Unread() int { return int(d.unread.Load()) }

// Close ends the connection, as the engine does.
func (d *device) Close() {
	if d.closed.Swap(true) {
		return
	}
	d.loop.Ended(&d.s.Conn, nil)
}

// send has the server handle a frame, and waits until it is done.
func (d *device) send(seq uint16, m pb.Message) {
	d.w.t.Helper()
	frame, err := pdu.Append(nil, seq, m)
	if err != nil {
		d.w.t.Fatal(err)
	}
	d.sendFrame(seq, frame)
}

// sendFrame sends an encoded frame with another sequence number.
func (d *device) sendFrame(seq uint16, frame []byte) {
	h := pdu.ParseHeader(frame)
	h.Seq = seq
	d.on(func() {
		if !d.closed.Load() {
			d.loop.Deliver(&d.s.Conn, h, frame[pdu.HeaderLen:])
		}
	})
}

// got takes everything received since the last call.
func (d *device) got() []received {
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.frames
	d.frames = nil
	return f
}

// want checks what was received since the last call, by command, and returns it.
func (d *device) want(cmds ...pb.Command) []received {
	d.w.t.Helper()
	got := d.got()
	same := len(got) == len(cmds)
	for i := 0; same && i < len(got); i++ {
		same = got[i].m.Command() == cmds[i]
	}
	if !same {
		var names []string
		for _, g := range got {
			names = append(names, g.m.Command().String())
		}
		d.w.t.Fatalf("received %v, want %v", names, cmds)
	}
	return got
}

// isClosed reports whether the server closed the connection.
func (d *device) isClosed() bool {
	synctest.Wait()
	return d.closed.Load()
}

// isOver reports whether the session has ended for the server, closed or not.
func (d *device) isOver() (over bool) {
	d.on(func() { over = d.s.IsClosed() })
	return over
}

// hangUp closes the connection, as a client does.
func (d *device) hangUp() { d.on(d.Close) }

func loginReq(user uint32, client pb.ClientType) *pb.IMLoginReq {
	m := &pb.IMLoginReq{}
	m.SetUserName(userName(user))
	m.SetPassword("right")
	m.SetOnlineStatus(pb.UserStatType_USER_STATUS_ONLINE)
	m.SetClientType(client)
	return m
}

func userName(user uint32) string { return string(rune('a' + user)) }

// user connects and logs in.
func (w *world) user(loop int, user uint32, client pb.ClientType) *device {
	w.t.Helper()
	d := w.connect(loop)
	d.send(1, loginReq(user, client))
	got := d.got()
	if len(got) == 0 || got[0].m.Command() != pb.CmdLoginRes ||
		got[0].m.(*pb.IMLoginRes).GetResultCode() != 0 {
		w.t.Fatalf("login failed: %v", got)
	}
	return d
}

func text(to uint32, body string) *pb.MsgData {
	return &pb.MsgData{FromUserID: 99, ToSessionID: to, Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT,
		Data: []byte(body)}
}
