package persona

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// State is where a client is between connections and logins.
type State int

const (
	// Connecting has no login, and tries to get one.
	Connecting State = iota
	// Online is logged in, and all requests after login are answered.
	Online
	// Syncing is logged in.
	Syncing
	// Stopped waits for the user to log in: after a refusal, a kick or an end that the persona
	// does not recover from.
	Stopped
	// Closed is over.
	Closed
)

// Stats count what happened to a Client.
type Stats struct {
	Dials       int // connections attempted
	Connections int // connections made
	Logins      int // login requests sent
	Refusals    int // logins refused
	Kicks       int // IMKickUser received
	Pushed      int // messages delivered
	Repeated    int // deliveries of a message that was delivered before
	Disordered  int // deliveries of a message older than one delivered before
	Resent      int // messages sent again
	Dropped     int // frames longer than the persona reads
	LateParts   int // parts of user lists that the persona does not hear
	ReadAcks    int // read acks sent
	ReadNotify  int // read notifies received
	Echoes      int // heartbeats of the server
}

// device is what the parts of a Client share: the connection, the requests that wait for
// their answers, and the record of what happened.
type device struct {
	row Persona
	opt Options
	ctx context.Context

	mu      sync.Mutex    // guards the following fields, and those of the parts
	changed chan struct{} // closed and replaced with every change
	state   State
	conn    *conn // nil without one
	seq     uint16
	pending []*request
	refused *pb.IMLoginRes
	stats   Stats
	faults  []string
	self    *pb.UserInfo
}

// conn is one connection.
type conn struct {
	net.Conn
	once     sync.Once
	gone     chan struct{} // closed by close
	heard    time.Time     // last frame
	beat     time.Time     // last heartbeat
	owed     bool          // the echo of that heartbeat
	ended    bool          // the stream ended, unnoticed
	loggedIn bool
}

func (c *conn) close() { c.once.Do(func() { close(c.gone); c.Conn.Close() }) }

// Await waits until ok, which is called with a consistent client. It reports whether that
// happened before ctx ended.
func (d *device) Await(ctx context.Context, ok func() bool) bool {
	for {
		d.mu.Lock()
		changed := d.changed
		d.mu.Unlock()
		if ok() {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ok()
		}
	}
}

// State returns where the client is.
func (d *device) State() State {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state
}

// Addr returns the message server's end of the connection, "" without one. The client may not
// have noticed that the connection has ended.
func (d *device) Addr() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conn == nil {
		return ""
	}
	return d.conn.RemoteAddr().String()
}

// Persona returns the row that the client interprets.
func (d *device) Persona() Persona { return d.row }

// Name returns the persona and the user.
func (d *device) Name() string { return d.row.Name + " of " + d.opt.User }

// Self returns the user's id, 0 before the first login.
func (d *device) Self() uint32 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.self.GetUserId()
}

// Stats returns what happened so far.
func (d *device) Stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stats
}

// Faults lists what the real client would have misread or lost.
func (d *device) Faults() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.faults...)
}

// Refusal returns the last answer to a refused login, nil when there was none.
func (d *device) Refusal() *pb.IMLoginRes {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.refused
}

func (d *device) fault(format string, args ...any) {
	d.faults = append(d.faults, fmt.Sprintf(format, args...))
}

// setState and changes wake Await. The caller holds mu.
func (d *device) setState(s State) {
	if d.state != Closed {
		d.state = s
	}
	d.changes()
}

func (d *device) changes() {
	close(d.changed)
	d.changed = make(chan struct{})
}

func (d *device) scaled(t time.Duration) time.Duration {
	if t == AtOnce {
		return t
	}
	return time.Duration(float64(t) * d.opt.Idle)
}

// write sends a frame. Without a connection, or on one whose end is unnoticed, it is lost, as
// it is for the real clients. The caller holds mu.
func (d *device) write(seq uint16, m pb.Message) {
	k := d.conn
	if k == nil {
		return
	}
	if k.ended {
		if d.row.EndSeen == EndAtWrite {
			k.close()
		}
		return
	}
	b, err := pdu.Append(nil, seq, m)
	if err != nil {
		d.fault("encode %s: %v", m.Command(), err)
		return
	}
	_ = k.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := k.Write(b); err != nil && d.row.EndSeen == EndAtOnce {
		k.close()
	}
}

func (d *device) nextSeq() uint16 {
	if d.seq >= d.row.LastSeq || d.seq < d.row.FirstSeq-1 {
		d.seq = d.row.FirstSeq - 1
	}
	d.seq++
	return d.seq
}

// ask sends a request. got takes the answer. The caller holds mu.
func (d *device) ask(m pb.Message, want pb.Command, got func(pb.Message)) *request {
	r := &request{seq: d.nextSeq(), want: want, got: got}
	d.pending = append(d.pending, r)
	d.write(r.seq, m)
	return r
}

// Ask sends a request of the user and returns the answer that the persona takes for it.
func (d *device) Ask(ctx context.Context, m pb.Message, want pb.Command) (pb.Message, error) {
	answer := make(chan pb.Message, 1)
	d.mu.Lock()
	d.ask(m, want, func(m pb.Message) { answer <- m })
	d.mu.Unlock()
	select {
	case m := <-answer:
		return m, nil
	case <-ctx.Done():
	}
	select {
	case m := <-answer: // both came
		return m, nil
	default:
		return nil, ErrNoAnswer
	}
}

// Tell sends a message that has no answer.
func (d *device) Tell(m pb.Message) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.write(d.nextSeq(), m)
}
