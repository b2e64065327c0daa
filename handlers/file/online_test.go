package file_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/session"
	"teamtalk/handlers/file"
	"teamtalk/proto/pb"
)

// directory is a route server's list of online users.
type directory struct {
	mu     sync.Mutex
	online map[uint32]bool
	err    error
	asked  int
	times  []time.Time // of the questions
	cpp    bool        // ignores the scope of a request
}

func (d *directory) Call(l *session.Loop, _ uint64, _ uint16, req pb.Attachment,
	done func(pb.Message, error)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	d.times = append(d.times, l.Now())
	m := req.(*pb.IMUsersStatReq)
	var list []*pb.UserStat
	for _, u := range m.GetUserIdList() {
		st := pb.UserStatType_USER_STATUS_OFFLINE
		if d.online[u] {
			st = pb.UserStatType_USER_STATUS_ONLINE
		}
		list = append(list, pb.UserStat_builder{UserId: &u, Status: &st}.Build())
	}
	rsp := pb.IMUsersStatRsp_builder{UserId: new(m.GetUserId()), UserStatList: list}.Build()
	if m.HasScope() && !d.cpp {
		rsp.SetScope(m.GetScope())
	}
	l.PostResult(done, rsp, d.err)
}

// TestOnlineOnly: with a route server, the task's id and the user's id do not suffice for
// a login.
func TestOnlineOnly(t *testing.T) {
	d := &directory{online: map[uint32]bool{1: true}}
	h := open(t, file.Options{Online: d, OnlineWait: time.Millisecond})
	id := h.task(1, 2, 100, online)
	h.in(1, id, sender)
	refused := func(what string, code pb.FileServerError) {
		p := h.dial()
		p.login(2, id, receiver)
		if rsp := next[*pb.IMFileLoginRsp](p); rsp.GetResultCode() != uint32(code) {
			t.Errorf("%s: %v", what, rsp)
		}
		p.closed(what)
	}
	refused("not online", pb.FileServerError_FILE_SERVER_ERRNO_INVALID_USER_FOR_TASK)
	d.mu.Lock()
	d.online[2], d.err = true, im.Errorf(im.Unavailable, "no route server")
	d.mu.Unlock()
	refused("nobody to ask", pb.FileServerError_FILE_SERVER_ERRNO_LOGIN_INVALID_TOKEN)
	d.mu.Lock()
	d.err = nil
	d.mu.Unlock()
	h.in(2, id, receiver)
}

// TestNobodyToAsk: while there is no route server at all, the task's id and the user's id suffice.
func TestNobodyToAsk(t *testing.T) {
	var some atomic.Bool
	d := &directory{online: map[uint32]bool{}}
	h := open(t, file.Options{Online: d, OnlineWait: time.Millisecond,
		Unchecked: func() bool { return !some.Load() }})
	id := h.task(1, 2, 100, online)
	h.in(1, id, sender)
	some.Store(true)
	p := h.dial()
	p.login(2, id, receiver)
	if rsp := next[*pb.IMFileLoginRsp](p); rsp.GetResultCode() != uint32(
		pb.FileServerError_FILE_SERVER_ERRNO_INVALID_USER_FOR_TASK) {
		t.Errorf("with a route server: %v", rsp)
	}
}

// TestOnlineBehindCpp: a C++ route server reports users with only a phone as offline.
// They may log in.
func TestOnlineBehindCpp(t *testing.T) {
	h := open(t, file.Options{Online: &directory{cpp: true}, OnlineWait: time.Millisecond})
	h.in(1, h.task(1, 2, 100, online), sender)
}

// TestOnlineLater: a login while no route server is reachable waits for one. Until then
// the client is not logged in, and a second login on the connection is ignored.
func TestOnlineLater(t *testing.T) {
	d := &directory{online: map[uint32]bool{1: true, 2: true},
		err: im.Errorf(im.Unavailable, "no route server")}
	h := open(t, file.Options{Online: d, OnlineWait: patience, LoginDeadline: 2 * patience})
	id := h.task(1, 2, 100, online)
	p := h.dial()
	p.login(1, id, sender)
	p.login(1, id, sender)
	p.send(5, state(id, 1, pb.ClientFileState_CLIENT_FILE_CANCEL))
	h.until("the route server to be asked again within a second", func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		// The first pause ends at a tick.
		return d.asked > 2 && d.times[d.asked-1].Sub(d.times[d.asked-2]) < time.Second
	})
	d.mu.Lock()
	d.err = nil
	d.mu.Unlock()
	if rsp := next[*pb.IMFileLoginRsp](p); rsp.GetResultCode() != 0 {
		t.Errorf("login: %v", rsp)
	}
	if st := next[*pb.IMFileState](h.in(2, id,
		receiver)); st.GetState() != pb.ClientFileState_CLIENT_FILE_PEER_READY {
		t.Errorf("the receiver got %v instead of the sender", st)
	}
}

// TestAbandoned: a transfer between two clients expires when no client logs in to it,
// also when it has ended and the other side does not log in to learn of it.
func TestAbandoned(t *testing.T) {
	h := open(t, file.Options{TaskTimeout: time.Millisecond})
	for range 5 {
		h.task(1, 2, 10, online)
	}
	id := h.task(1, 2, 10, online)
	p := h.in(2, id, receiver)
	p.send(3, state(id, 2, pb.ClientFileState_CLIENT_FILE_REFUSE))
	p.Close()
	ctx, cancel := context.WithCancel(context.Background())
	end := make(chan struct{})
	go func() {
		defer close(end)
		h.server.RunSweep(ctx, time.Millisecond)
	}()
	h.until("the tasks to be gone", func() bool { return h.metric("teamtalk_file_tasks") == 0 })
	cancel()
	<-end
}
