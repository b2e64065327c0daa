//go:build linux

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// companySize is how many users the large company has.
const companySize = 20_000

// allUsers asks for the whole directory and returns the answer's body.
func (w *wire) allUsers(seq uint16) []byte {
	w.t.Helper()
	w.send(seq, pb.IMAllUserReq_builder{UserId: new(uint32(0)), LatestUpdateTime: new(uint32(0))}.Build())
	f := w.next()
	if f.Command != pb.CmdAllUserRsp || f.Seq != seq {
		w.t.Fatalf("got %s, seq %d", f.Command, f.Seq)
	}
	return f.body
}

// atOnce runs f for each client at the same time.
func atOnce[T any](clients []T, f func(i int, c T)) {
	var wg sync.WaitGroup
	for i, c := range clients {
		wg.Go(func() { f(i, c) })
	}
	wg.Wait()
}

// TestFirstSync: fifty clients of a company of 20,000 log in and ask for everybody at once: each gets all of it, in one frame of megabytes, and
// whoever does something else meanwhile is served too.
func TestFirstSync(t *testing.T) {
	t.Parallel()
	forEachShape(t, settings{users: companySize, heavy: true}, func(t *testing.T, sys *deployment) {
		clients := make([]*wire, 50)
		ids := make([]uint32, len(clients))
		for i := range clients {
			clients[i], ids[i] = loggedIn(t, sys.msgAddr[i%2], fmt.Sprintf("u%05d", i+1), ios)
		}
		bodies := make([][]byte, len(clients))
		atOnce(clients, func(i int, w *wire) { bodies[i] = w.allUsers(uint16(i + 1)) })
		var all pb.IMAllUserRsp
		if err := all.ParseBody(bodies[0]); err != nil {
			t.Fatal(err)
		}
		got := make([]uint32, 0, companySize)
		for _, u := range all.GetUserList() {
			got = append(got, u.GetUserId())
		}
		if slices.Sort(got); len(got) != companySize || len(slices.Compact(got)) != companySize || all.GetLatestUpdateTime() == 0 || all.HasAttachData() {
			t.Fatalf("%d users, newest %d", len(got), all.GetLatestUpdateTime())
		}
		first, err := pb.ParseEncoded(pb.CmdAllUserRsp, bodies[0])
		if err != nil {
			t.Fatal(err)
		}
		for i, body := range bodies {
			e, err := pb.ParseEncoded(pb.CmdAllUserRsp, body)
			if err != nil || e.HasAttachData() || !bytes.Equal(e.Shared(), first.Shared()) {
				t.Errorf("client %d got something else: %v", i, err)
			}
			if want := first.ForUser(ids[i]); !bytes.Equal(e.AppendHead(nil), want.AppendHead(nil)) {
				t.Errorf("client %d got the answer of another user", i)
			}
		}
		// What has not changed is not sent again: three requests in a row, each with the time that
		// the answer before gave, once the second in which all were added has settled.
		told := all.GetLatestUpdateTime()
		untilSettled(t, func() bool {
			var rsp pb.IMAllUserRsp
			clients[0].send(7, pb.IMAllUserReq_builder{UserId: new(uint32(0)),
				LatestUpdateTime: new(told)}.Build())
			clients[0].expectSeq(7, &rsp)
			if now := uint32(time.Now().Unix()); rsp.GetLatestUpdateTime() < told ||
				rsp.GetLatestUpdateTime() > now {
				t.Fatalf("told %d after %d, at %d", rsp.GetLatestUpdateTime(), told, now)
			}
			told = rsp.GetLatestUpdateTime()
			return len(rsp.GetUserList()) == 0
		})
		for _, w := range clients {
			w.alive()
		}
		for _, s := range sys.servers {
			for _, bad := range []string{"teamtalk_session_slow_closed_total", "teamtalk_session_large_refused_total", "teamtalk_session_panics_total"} {
				if n := s.metric(bad, "listener"); n != 0 {
					t.Errorf("%s: %s is %v", s.name, bad, n)
				}
			}
		}
	})
}

// TestAndroidSync: in a company of 10,000 users with full rows, and with a history of sounds, a
// phone that drops frames above 400 KiB gets everybody and, page by page, every message.
func TestAndroidSync(t *testing.T) {
	t.Parallel()
	const users, sounds = 10_000, 20
	var rows bytes.Buffer
	rows.WriteString("name,password,nick,domain,gender,phone,email,avatar\n")
	long := func(n int) string { return strings.Repeat("长", n) }
	for i := range users {
		fmt.Fprintf(&rows, "u%05d,pw,%s,%s,f,13800000000,%s,%s\n", i+1, long(32), long(32),
			long(64), long(255))
	}
	csv := filepath.Join(t.TempDir(), "staff.csv")
	if err := os.WriteFile(csv, rows.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	s := settings{csv: csv, heavy: true, flags: []string{"--msg.rate", "0", "--msg.ack", "stored"}}
	forEachShape(t, s, func(t *testing.T, sys *deployment) {
		from, _ := loggedIn(t, sys.msgAddr[0], "u00002", ios)
		var longest uint32
		for i := range sounds {
			size := 60_000
			if i == sounds/2 {
				size = im.MaxAudio
			}
			from.send(uint16(i+2), &pb.MsgData{ToSessionID: 1,
				Type: pb.MsgType_MSG_TYPE_SINGLE_AUDIO, Data: append([]byte{0, 0, 0, 9},
					make([]byte, size)...)})
			if id := from.acked(uint16(i+2), 1); size == im.MaxAudio {
				longest = id
			}
		}
		w, _ := loggedIn(t, sys.msgAddr[0], "u00001", android)
		read := func(seq uint16, m pb.Message) {
			t.Helper()
			f := w.next()
			if f.Length > 400<<10 || f.Seq != seq || f.Command != m.Command() {
				t.Fatalf("%s of %d bytes, seq %d", f.Command, f.Length, f.Seq)
			}
			if err := m.ParseBody(f.body); err != nil {
				t.Fatal(err)
			}
		}
		w.send(2, pb.IMAllUserReq_builder{UserId: new(uint32(0)),
			LatestUpdateTime: new(uint32(0))}.Build())
		got, told, frames := map[uint32]bool{}, map[uint32]bool{}, 0
		for ; len(got) < users; frames++ {
			var rsp pb.IMAllUserRsp
			read(2, &rsp)
			told[rsp.GetLatestUpdateTime()] = true
			for _, u := range rsp.GetUserList() {
				got[u.GetUserId()] = true
			}
		}
		if len(told) != 1 || frames < 20 {
			t.Errorf("%d frames with the times %v", frames, told)
		}
		for begin, next := uint32(0), uint32(sounds); next > 0; begin = next {
			w.send(3, pb.IMGetMsgListReq_builder{UserId: new(uint32(0)),
				SessionType: pb.SessionType_SESSION_TYPE_SINGLE.Enum(), SessionId: new(uint32(2)),
				MsgIdBegin: &begin, MsgCnt: new(uint32(sounds))}.Build())
			var rsp pb.IMGetMsgListRsp
			read(3, &rsp)
			if len(rsp.GetMsgList()) == 0 {
				t.Fatalf("nothing from %d on", begin)
			}
			for _, m := range rsp.GetMsgList() {
				want := pb.MsgType_MSG_TYPE_SINGLE_AUDIO
				if m.GetMsgId() == longest { // it fits no frame
					want = pb.MsgType_MSG_TYPE_SINGLE_TEXT
				}
				if m.GetMsgId() != next || m.GetMsgType() != want {
					t.Errorf("message %d of type %s, want %d, %s", m.GetMsgId(), m.GetMsgType(),
						next, want)
				}
				next--
			}
		}
		w.alive()
	})
}

// BenchmarkFirstSync has fifty clients ask for a directory of 20,000 at once, and measures what that is for another client, which only sends
// heartbeats: the longest and the middle time until the echo.
func BenchmarkFirstSync(b *testing.B) {
	for _, shape := range []string{allInOne, separate} {
		b.Run(shape, func(b *testing.B) {
			deploy := deployAllInOne
			if shape == separate {
				deploy = deploySeparate
			}
			sys := deploy(b, settings{users: companySize})
			clients := make([]*wire, 50)
			for i := range clients {
				clients[i], _ = loggedIn(b, sys.msgAddr[0], fmt.Sprintf("u%05d", i+1), ios)
			}
			other, _ := loggedIn(b, sys.msgAddr[0], "u00100", ios)
			var echoes []time.Duration
			clients[0].allUsers(1) // the directory is in memory
			for b.Loop() {
				quit, done := make(chan struct{}), make(chan struct{})
				go func() {
					defer close(done)
					for {
						began := time.Now()
						other.alive()
						echoes = append(echoes, time.Since(began))
						select {
						case <-quit:
							return
						default:
						}
					}
				}()
				atOnce(clients, func(i int, w *wire) { w.allUsers(uint16(i + 1)) })
				close(quit)
				<-done
			}
			slices.Sort(echoes)
			b.ReportMetric(float64(echoes[len(echoes)-1].Microseconds())/1000, "echo-max-ms")
			b.ReportMetric(float64(echoes[len(echoes)*99/100].Microseconds())/1000, "echo-p99-ms")
			b.ReportMetric(float64(echoes[len(echoes)/2].Microseconds())/1000, "echo-p50-ms")
		})
	}
}
