package transfer

import (
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"teamtalk/proto/pb"
)

// A notify of a file that is passed on directly may be lost with a route server, with a
// message server, or with the connection of the receiver. The file server, at which the
// sender waits, repeats it. Stock clients show a repeated notify as a second file. So this
// server remembers which sessions it told. A session that it did not tell gets the repeated
// notify if no session here was told, and it began before the transfer. A later session of
// the same client, which was perhaps told elsewhere, gets it only if the client recognises a
// repeated one.

const (
	// toldKept is how long it is remembered which sessions were told: longer than the file
	// server repeats a notify. maxTold bounds the transfers remembered.
	toldKept = 2 * time.Minute
	maxTold  = 1 << 14
)

// told records for each transfer the sessions that were told of it.
type told struct {
	repeated *prometheus.CounterVec

	mu   sync.Mutex // guards the following fields
	list []toldTask // oldest first
	of   map[string][]uint64
	// forgotten is when the last of the transfers was made that were forgotten early.
	forgotten time.Time
}

type toldTask struct {
	id string
	at time.Time
}

// add remembers that a session was told of a transfer. With mu held.
func (t *told) add(task string, session uint64, now time.Time) {
	if _, known := t.of[task]; !known {
		for len(t.list) >= maxTold || len(t.list) > 0 && now.Sub(t.list[0].at) > toldKept {
			if now.Sub(t.list[0].at) <= toldKept {
				t.forgotten = t.list[0].at
			}
			delete(t.of, t.list[0].id)
			t.list[0] = toldTask{}
			t.list = t.list[1:]
		}
		if t.of == nil {
			t.of = map[string][]uint64{}
		}
		t.list = append(t.list, toldTask{task, now})
	}
	t.of[task] = append(t.of[task], session)
}

// tellPCs sends m to the PC clients that a user has here. Any goroutine.
func (h *Handler) tellPCs(m *pb.IMFileNotify, user uint32) {
	once := m.GetTransMode() == pb.TransferFileType_FILE_TYPE_ONLINE
	age := time.Duration(m.GetAge()) * time.Millisecond
	repeated := m.HasAge()
	if repeated {
		m = proto.CloneOf(m) // other servers in this process have it, too
		m.ClearAge()
	}
	h.told.mu.Lock()
	defer h.told.mu.Unlock()
	now, task := h.opt.Now(), m.GetTaskId()
	sessions := h.told.of[task]
	for _, o := range h.opt.Online.Of(user) {
		if o.ClientType.IsMobile() {
			continue
		}
		result := "delivered"
		if once {
			later := o.LoginAge(now) < age || !now.Add(-age).After(h.told.forgotten)
			switch {
			case slices.Contains(sessions, o.ID()):
				result = "known"
			case repeated && (later || len(sessions) > 0) && !h.opt.Repeats(o):
				result = "later"
			}
		}
		if repeated {
			h.told.repeated.WithLabelValues(result).Inc()
		}
		if result == "delivered" {
			if once {
				h.told.add(task, o.ID(), now)
			}
			_ = o.Push(0, m) // a full mailbox closes the session
		}
	}
}
