//go:build linux

package main_test

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

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
	forEachShape(t, settings{users: companySize}, func(t *testing.T, sys *deployment) {
		clients := make([]*wire, 50)
		ids := make([]uint32, len(clients))
		for i := range clients {
			clients[i], ids[i] = loggedIn(t, sys.msgAddr[i%2], fmt.Sprintf("u%05d", i+1), android)
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
		// What has not changed is not sent again.
		clients[0].send(7, pb.IMAllUserReq_builder{UserId: new(uint32(0)), LatestUpdateTime: new(all.GetLatestUpdateTime() + 1)}.Build())
		var none pb.IMAllUserRsp
		clients[0].expectSeq(7, &none)
		if len(none.GetUserList()) != 0 {
			t.Errorf("%d users have changed since the future", len(none.GetUserList()))
		}
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
				clients[i], _ = loggedIn(b, sys.msgAddr[0], fmt.Sprintf("u%05d", i+1), android)
			}
			other, _ := loggedIn(b, sys.msgAddr[0], "u00100", android)
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
