package dbproxy

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// TestFailuresDoNotFloodTheLog: when thousands of requests fail, one line a minute and error is
// logged, with the number of lines left out.
func TestFailuresDoNotFloodTheLog(t *testing.T) {
	var log bytes.Buffer
	now := time.Unix(1_700_000_000, 0)
	s := New(Options{Timeout: time.Second, HistoryLimit: 1, MaxFrame: 1 << 20, MaxAnswer: 1 << 20,
		Log: slog.New(slog.NewTextHandler(&log, nil)), Now: func() time.Time { return now }})
	r := s.requests
	rq := &request{session: linkSession(), cmd: pb.CmdUnreadMsgCntReq}
	gone := im.WithKind(im.Unavailable, "count", errors.New("connection refused"))
	for range 100 {
		r.logFailure(rq, gone)
	}
	r.logFailure(rq, im.Errorf(im.Busy, "queue full")) // a line of its own for another kind
	if n := strings.Count(log.String(), "request failed"); n != 2 {
		t.Errorf("%d lines, want 2: %s", n, log.String())
	}
	log.Reset()
	now = now.Add(59 * time.Second)
	r.logFailure(rq, gone)
	if log.Len() > 0 {
		t.Errorf("a second line within a minute: %s", log.String())
	}
	now = now.Add(time.Second)
	r.logFailure(rq, gone)
	if !strings.Contains(log.String(), "held=100") {
		t.Errorf("the line of the next minute lacks the number of lines left out: %s", log.String())
	}

	log.Reset()
	for range 100 {
		p := &Pending{request: request{session: linkSession(), cmd: pb.CmdMsgData},
			msg: &pb.MsgData{}}
		r.open.Add(1)
		s.FailBatch([]*Pending{p}, gone)
	}
	if n := strings.Count(log.String(), "messages not stored"); n != 1 {
		t.Errorf("%d lines for 100 failed batches within a second, want 1", n)
	}
}

// linkSession returns a session whose link has ended: answers on it are dropped.
func linkSession() *session.Link {
	return session.NewLink(session.NextID(), "msg", goneCarrier{})
}

type goneCarrier struct{}

func (goneCarrier) SendMessage(uint16, pb.Message) error { return im.Errorf(im.Closed, "gone") }
func (goneCarrier) Close(error)                          {}
