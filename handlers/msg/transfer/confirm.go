package transfer

import (
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/link"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// confirmation asks file servers whether one of them has a file that a client reports as
// uploaded.
type confirmation struct {
	h    *Handler
	s    *session.Client
	to   uint32
	task string // the sender's id
	left []*Link
	down bool // a server did not answer
}

// ask asks the next file server. Loop only.
func (c *confirmation) ask() error {
	if len(c.left) == 0 {
		if c.down {
			return c.h.drop("file")
		}
		return c.h.drop("unconfirmed")
	}
	l := c.left[0]
	c.left = c.left[1:]
	req := pb.IMFileConfirmReq_builder{FromUserId: proto.Uint32(c.s.User),
		ToUserId: proto.Uint32(c.to), TaskId: proto.String(c.task)}.Build()
	l.peer.Call(c.s.Loop(), uint64(c.s.User), 0, req, func(rsp pb.Message, err error) {
		m, err := link.Answer[*pb.IMFileConfirmRsp](rsp, err)
		switch {
		case err != nil:
			c.down = true
			c.h.often.Warn(c.h.opt.Log, c.h.opt.Now(),
				"file not listed yet: its file server did not confirm it",
				"conn", c.s.ID(), "user", c.s.User, "err", err)
		case m.GetConfirmed() && im.ValidTaskID(m.GetTaskId()):
			c.h.list(c.s, handedTask{to: c.to, task: m.GetTaskId(),
				name: im.CleanFileName(m.GetFileName()), size: m.GetFileSize()})
			return
		}
		_ = c.ask() // counted
	})
	return nil
}

// handedTask is the task of an offline file, as its sender was told it.
type handedTask struct {
	to   uint32
	task string
	name string
	size uint32
	at   time.Time
}

// A file server of the first implementation confirms nothing. For its files the message
// server remembers which tasks it handed out, to which sender and for which receiver. A
// sender that reports a file to another message server, or after more than handedFor, is
// not believed: its receiver was told of the file when the upload began, and finds it by
// that message only.
const (
	handedFor   = 24 * time.Hour
	handedEach  = 200    // tasks of one sender; the oldest are forgotten
	handedUsers = 20_000 // senders
)

// handedTasks are the tasks of file servers that confirm nothing, by sender. The zero value
// is ready. Any goroutine.
type handedTasks struct {
	mu sync.Mutex
	of map[uint32][]handedTask // oldest first
}

// add remembers a task.
func (h *handedTasks) add(sender uint32, t handedTask) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.of == nil {
		h.of = make(map[uint32][]handedTask)
	}
	list := h.of[sender]
	if list == nil && len(h.of) >= handedUsers {
		h.forget(t.at)
	}
	if len(list) >= handedEach {
		list = slices.Delete(list, 0, 1)
	}
	h.of[sender] = append(list, t)
}

// forget removes the senders whose last task is too old, or one sender if there are none.
func (h *handedTasks) forget(now time.Time) {
	recent, found := uint32(0), false
	for sender, list := range h.of {
		if now.Sub(list[len(list)-1].at) >= handedFor {
			delete(h.of, sender)
			found = true
		} else {
			recent = sender
		}
	}
	if !found {
		delete(h.of, recent)
	}
}

// find returns the task that a sender was told for a receiver.
func (h *handedTasks) find(sender, to uint32, task string, now time.Time) (handedTask, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range h.of[sender] {
		if t.to == to && t.task == task && now.Sub(t.at) < handedFor {
			return t, true
		}
	}
	return handedTask{}, false
}
