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

// TestFailuresDoNotFloodTheLog: what fails by the thousand is logged once a second and kind, with how many were kept back.
func TestFailuresDoNotFloodTheLog(t *testing.T) {
	var log bytes.Buffer
	now := time.Unix(1_700_000_000, 0)
	s := New(Options{Log: slog.New(slog.NewTextHandler(&log, nil)), Now: func() time.Time { return now }})
	rq := &request{session: linkSession(), cmd: pb.CmdUnreadMsgCntReq}
	gone := im.WithKind(im.Unavailable, "count", errors.New("connection refused"))
	for range 100 {
		s.logFailure(rq, gone)
	}
	s.logFailure(rq, im.Errorf(im.Busy, "queue full")) // another kind has its own line
	if n := strings.Count(log.String(), "request failed"); n != 2 {
		t.Errorf("%d lines, want 2: %s", n, log.String())
	}
	now = now.Add(time.Second)
	log.Reset()
	s.logFailure(rq, gone)
	if !strings.Contains(log.String(), "held=99") {
		t.Errorf("the next second's line does not say how many were held back: %s", log.String())
	}

	log.Reset()
	for range 100 {
		p := &Pending{request: request{session: linkSession(), cmd: pb.CmdMsgData}, msg: &pb.MsgData{}}
		s.open.Add(1)
		s.FailBatch([]*Pending{p}, gone)
	}
	if n := strings.Count(log.String(), "messages not stored"); n != 1 {
		t.Errorf("%d lines for 100 failed batches within a second, want 1", n)
	}
}

// linkSession is a session whose link is gone: what is answered on it goes nowhere.
func linkSession() *session.Session {
	return session.NewLink(session.NextID(), "msg", goneCarrier{})
}

type goneCarrier struct{}

func (goneCarrier) SendMessage(uint16, pb.Message) error { return im.Errorf(im.Closed, "gone") }
func (goneCarrier) Close(error)                          {}
