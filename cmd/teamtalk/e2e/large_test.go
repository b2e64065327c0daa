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

// companySize is the number of users of the large company.
const companySize = 25_000

// allUsers requests all users and returns the body of the answer.
func (w *wire) allUsers(seq uint16) []byte {
	w.t.Helper()
	w.send(seq, pb.IMAllUserReq_builder{UserId: new(uint32(0)),
		LatestUpdateTime: new(uint32(0))}.Build())
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

// TestFirstSync lets thirty clients of a company of 25,000 users log in and request all
// users at once. Each receives all of them, in one frame of megabytes, although a frame
// between servers has one megabyte. The servers still serve other requests.
func TestFirstSync(t *testing.T) {
	t.Parallel()
	s := settings{users: companySize, heavy: true,
		flags: []string{"--link.max_frame", "1MiB", "--msg.max_frame", "1MiB"}}
	forEachShape(t, s, func(t *testing.T, sys *deployment) {
		clients := make([]*wire, 30)
		ids := make([]uint32, len(clients))
		for i := range clients {
			clients[i], ids[i] = loggedIn(t, sys.msgAddr[i%2], fmt.Sprintf("u%05d", i+1), ios)
		}
		bodies := make([][]byte, len(clients))
		atOnce(clients, func(i int, w *wire) { bodies[i] = w.allUsers(uint16(i + 1)) })
		latest := checkDirectory(t, bodies[0])
		checkSameDirectory(t, bodies, ids)
		// Requests with the time of the answer before get no user again, once the second
		// in which all users were added has passed.
		untilSettled(t, func() bool {
			var n int
			n, latest = clients[0].usersSince(latest)
			return n == 0
		})
		for _, w := range clients {
			w.alive()
		}
		inParts := sys.msg[0].metric("teamtalk_link_answers_in_parts_total", `"dbproxy"`)
		if sys.separate && inParts == 0 {
			t.Error("the answer came in one frame")
		}
		for _, s := range sys.servers {
			for _, bad := range []string{"teamtalk_session_slow_closed_total",
				"teamtalk_session_large_refused_total", "teamtalk_session_panics_total"} {
				if n := s.metric(bad, "listener"); n != 0 {
					t.Errorf("%s: %s is %v", s.name, bad, n)
				}
			}
		}
	})
}

// checkDirectory checks that an answer has all users, and returns its time.
func checkDirectory(t *testing.T, body []byte) (latest uint32) {
	t.Helper()
	var all pb.IMAllUserRsp
	if err := all.ParseBody(body); err != nil {
		t.Fatal(err)
	}
	got := make([]uint32, 0, companySize)
	for _, u := range all.GetUserList() {
		got = append(got, u.GetUserId())
	}
	slices.Sort(got)
	latest = all.GetLatestUpdateTime()
	if len(got) != companySize || len(slices.Compact(got)) != companySize || latest == 0 ||
		all.HasAttachData() {
		t.Fatalf("%d users, latest time %d", len(got), latest)
	}
	return latest
}

// checkSameDirectory checks that all clients received the same answer, each with its
// user's id.
func checkSameDirectory(t *testing.T, bodies [][]byte, ids []uint32) {
	t.Helper()
	first, err := pb.ParseEncoded(pb.CmdAllUserRsp, bodies[0])
	if err != nil {
		t.Fatal(err)
	}
	for i, body := range bodies {
		e, err := pb.ParseEncoded(pb.CmdAllUserRsp, body)
		if err != nil || e.HasAttachData() || !bytes.Equal(e.Shared(), first.Shared()) {
			t.Errorf("client %d received another answer: %v", i, err)
		}
		if want := first.ForUser(ids[i]); !bytes.Equal(e.AppendHead(nil), want.AppendHead(nil)) {
			t.Errorf("client %d received the answer to another user", i)
		}
	}
}

// usersSince requests the users that changed since a time. It returns their number and
// the time of the answer, which is neither before since nor ahead of the clock.
func (w *wire) usersSince(since uint32) (n int, latest uint32) {
	w.t.Helper()
	w.send(7, pb.IMAllUserReq_builder{
		UserId: new(uint32(0)), LatestUpdateTime: new(since),
	}.Build())
	var rsp pb.IMAllUserRsp
	w.expectSeq(7, &rsp)
	latest = rsp.GetLatestUpdateTime()
	if now := uint32(time.Now().Unix()); latest < since || latest > now {
		w.t.Fatalf("time %d after %d, at %d", latest, since, now)
	}
	return len(rsp.GetUserList()), latest
}

// androidFrame is the longest frame that Android reads.
const androidFrame = 400 << 10

// TestAndroidSync logs in a phone that drops frames above 400 KiB, in a company of 10,000
// users with long texts and with a history of sounds. The phone receives all users and,
// page by page, all messages.
func TestAndroidSync(t *testing.T) {
	t.Parallel()
	const users, sounds = 10_000, 20
	s := settings{csv: longUsers(t, users), heavy: true,
		flags: []string{"--msg.rate", "0", "--msg.ack", "stored"}}
	forEachShape(t, s, func(t *testing.T, sys *deployment) {
		from, _ := loggedIn(t, sys.msgAddr[0], "u00002", ios)
		longest := from.sendSounds(sounds)
		w, _ := loggedIn(t, sys.msgAddr[0], "u00001", android)
		w.readDirectory(users)
		w.readSounds(sounds, longest)
		w.alive()
	})
}

// longUsers writes a file of users with long texts, and returns its path.
func longUsers(t *testing.T, users int) string {
	t.Helper()
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
	return csv
}

// sendSounds sends n sounds to u00001. It returns the id of the one that fits no frame of
// Android.
func (w *wire) sendSounds(n int) (longest uint32) {
	w.t.Helper()
	for i := range n {
		size := 60_000
		if i == n/2 {
			size = im.MaxAudio
		}
		w.send(uint16(i+2), &pb.MsgData{ToSessionID: 1, Type: pb.MsgType_MSG_TYPE_SINGLE_AUDIO,
			Data: append([]byte{0, 0, 0, 9}, make([]byte, size)...)})
		if id := w.acked(uint16(i+2), 1); size == im.MaxAudio {
			longest = id
		}
	}
	return longest
}

// expectShort reads the next frame as expectSeq does. Android must be able to read the
// frame.
func (w *wire) expectShort(seq uint16, m pb.Message) {
	w.t.Helper()
	f := w.next()
	if f.Length > androidFrame || f.Seq != seq || f.Command != m.Command() {
		w.t.Fatalf("%s of %d bytes, seq %d", f.Command, f.Length, f.Seq)
	}
	if err := m.ParseBody(f.body); err != nil {
		w.t.Fatal(err)
	}
}

// readDirectory requests all users. The answer has several frames, with the same time.
func (w *wire) readDirectory(users int) {
	w.t.Helper()
	w.send(2, pb.IMAllUserReq_builder{
		UserId: new(uint32(0)), LatestUpdateTime: new(uint32(0)),
	}.Build())
	got, times, frames := map[uint32]bool{}, map[uint32]bool{}, 0
	for ; len(got) < users; frames++ {
		var rsp pb.IMAllUserRsp
		w.expectShort(2, &rsp)
		times[rsp.GetLatestUpdateTime()] = true
		for _, u := range rsp.GetUserList() {
			got[u.GetUserId()] = true
		}
	}
	if len(times) != 1 || frames < 20 {
		w.t.Errorf("%d frames with the times %v", frames, times)
	}
}

// readSounds reads the history with u00002, page by page. It has all sounds, and a text
// in place of the longest.
func (w *wire) readSounds(sounds, longest uint32) {
	w.t.Helper()
	for begin, next := uint32(0), sounds; next > 0; begin = next {
		w.send(3, pb.IMGetMsgListReq_builder{UserId: new(uint32(0)),
			SessionType: pb.SessionType_SESSION_TYPE_SINGLE.Enum(), SessionId: new(uint32(2)),
			MsgIdBegin: &begin, MsgCnt: &sounds}.Build())
		var rsp pb.IMGetMsgListRsp
		w.expectShort(3, &rsp)
		if len(rsp.GetMsgList()) == 0 {
			w.t.Fatalf("no messages from %d on", begin)
		}
		for _, m := range rsp.GetMsgList() {
			want := pb.MsgType_MSG_TYPE_SINGLE_AUDIO
			if m.GetMsgId() == longest {
				want = pb.MsgType_MSG_TYPE_SINGLE_TEXT
			}
			if m.GetMsgId() != next || m.GetMsgType() != want {
				w.t.Errorf("message %d of type %s, want %d, %s", m.GetMsgId(), m.GetMsgType(),
					next, want)
			}
			next--
		}
	}
}

// BenchmarkFirstSync lets fifty clients request 25,000 users at once. It measures the
// effect on another client, which only sends heartbeats: the longest and the median time
// until the echo.
func BenchmarkFirstSync(b *testing.B) {
	for _, shape := range []string{allInOne, separate} {
		b.Run(shape, func(b *testing.B) {
			deploy := deployAllInOne
			if shape == separate {
				deploy = deploySeparate
			}
			benchFirstSync(b, deploy(b, settings{users: companySize}))
		})
	}
}

// benchFirstSync measures one deployment.
func benchFirstSync(b *testing.B, sys *deployment) {
	clients := make([]*wire, 50)
	for i := range clients {
		clients[i], _ = loggedIn(b, sys.msgAddr[0], fmt.Sprintf("u%05d", i+1), ios)
	}
	other, _ := loggedIn(b, sys.msgAddr[0], "u00100", ios)
	var echoes []time.Duration
	clients[0].allUsers(1) // loads the users into the memory of the server
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
}
