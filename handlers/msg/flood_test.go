package msg

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"teamtalk/proto/pb"
)

// TestQueriesOfOneConnectionAreBounded: of the queries of a client that asks without end, a
// few are in flight, some wait for their turn, and the rest is dropped.
func TestQueriesOfOneConnectionAreBounded(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		d, other := w.user(0, 1, pb.ClientType_CLIENT_TYPE_WINDOWS),
			w.user(0, 2, pb.ClientType_CLIENT_TYPE_WINDOWS)
		w.db.mu.Lock()
		w.db.hold, w.db.asked = true, nil
		w.db.mu.Unlock()
		req := &pb.IMUnreadMsgCntReq{}
		req.SetUserId(1)
		for i := range maxQueries + 50 {
			d.send(uint16(i+1), req)
		}
		if n := len(w.db.asked); n != maxAsked {
			t.Fatalf("%d queries passed on, want %d", n, maxAsked)
		}
		other.send(1, req)
		if n := len(w.db.asked); n != maxAsked+1 {
			t.Errorf("the query of another connection was not passed on")
		}
		if d.isClosed() {
			t.Error("connection closed")
		}
		w.db.letGo()
		if n := len(w.db.asked); n != maxQueries+1 {
			t.Errorf("%d queries passed on after the answers, want %d", n, maxQueries+1)
		}
		for i, got := range d.got() {
			if got.seq != uint16(i+1) {
				t.Fatalf("answer %d is that to request %d", i+1, got.seq)
			}
		}
		if n := w.counted("queries_failed_total", "too_many"); n != 50 {
			t.Errorf("%v dropped, want 50", n)
		}
		d.send(500, req)
		d.want(pb.CmdUnreadMsgCntRsp)
	})
}

// TestFailuresDoNotFloodTheLog: a db_proxy that stores nothing is said once a second,
// with the number of failures kept back.
func TestFailuresDoNotFloodTheLog(t *testing.T) {
	var log bytes.Buffer
	inWorld(t, Options{Rate: -1, Log: slog.New(slog.NewTextHandler(&log, nil))}, func(w *world) {
		d := w.user(0, 1, pb.ClientType_CLIENT_TYPE_WINDOWS)
		w.db.mu.Lock()
		w.db.fail = true
		w.db.mu.Unlock()
		for i := range 100 {
			d.send(uint16(i+1), text(2, "hello"))
		}
	})
	if n := strings.Count(log.String(), "message not stored"); n != 1 {
		t.Errorf("%d lines for 100 failures within a second, want 1", n)
	}
}

// TestLongMessagesCostMore: of the longest sounds a connection sends one at once, and fewer
// than two a second. As many sounds of a minute are stored as texts.
func TestLongMessagesCostMore(t *testing.T) {
	sound := func(size, i int) *pb.MsgData {
		data := make([]byte, size)
		data[3], data[10], data[11] = 1, byte(i), byte(i>>8)
		m := text(2, string(data))
		m.Type = pb.MsgType_MSG_TYPE_SINGLE_AUDIO
		return m
	}
	for size, want := range map[int]int{60 << 10: 20, 1 << 20: 1} {
		inWorld(t, Options{Rate: 20, RateBurst: 20}, func(w *world) {
			d := w.user(0, 1, win)
			stored := func() int {
				for i := range 40 {
					d.send(uint16(i+2), sound(size, i))
				}
				_, texts, _ := w.ahead()
				return texts
			}
			if n := stored(); n != want {
				t.Errorf("%d of 40 sounds of %d bytes were taken", n, size)
			}
		})
	}
	inWorld(t, Options{Rate: 1, RateBurst: 1}, func(w *world) {
		d := w.user(0, 1, win)
		d.send(2, sound(1<<20, 0))
		if _, n, _ := w.ahead(); n != 1 {
			t.Error("with a burst of 1 no long message passes")
		}
	})
}
