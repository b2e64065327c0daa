package conversation

import (
	"slices"
	"sync/atomic"
	"time"

	"teamtalk/core/mono"
	"teamtalk/core/session"
)

// A message that a search of package turns or group finds does not say which session sent
// it. So it goes to no session of its sender with a message that db_proxy may have, and
// has not answered.

// writesFor is how long a message without an answer counts.
const writesFor = time.Minute

// writing is the messages of a client without an answer.
type writing struct {
	open atomic.Int32
	at   atomic.Int64 // when the latest message was taken, by mono.Of
}

// begin counts a message. Loop only.
func (w *writing) begin(now time.Time) {
	if !w.recently(now) {
		w.open.Store(0)
	}
	w.open.Add(1)
	w.at.Store(mono.Of(now))
}

// end counts an answer. Loop only.
func (w *writing) end() {
	if w.open.Load() > 0 {
		w.open.Add(-1)
	}
}

func (w *writing) recently(now time.Time) bool {
	return time.Duration(mono.Of(now)-w.at.Load()) < writesFor
}

// Writes reports whether the client has sent a message that may be stored, and that
// db_proxy has not answered. Any goroutine.
func (c *Client) Writes(now time.Time) bool {
	return c.writing.open.Load() > 0 && c.writing.recently(now)
}

// notWriting returns the sessions whose clients have sent no such message.
func notWriting(sessions []*session.Client, client func(*session.Client) *Client,
	now time.Time) []*session.Client {
	return slices.DeleteFunc(slices.Clone(sessions),
		func(s *session.Client) bool { return client(s).Writes(now) })
}
