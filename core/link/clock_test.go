package link

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// TestFullQueueRefuses fills a queue whose writer is blocked, by frames and by bytes.
func TestFullQueueRefuses(t *testing.T) {
	frame, err := pdu.Append(nil, 0, text(1, strings.Repeat("x", 1000)))
	if err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]Options{
		"frames": {MaxQueueItems: 3}, "bytes": {MaxQueueBytes: 4*len(frame) - 1}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, peer := pipeRemote(o)
				synctest.Wait()
				m := text(1, strings.Repeat("x", 1000))
				for range 1 + 3 { // the pipe blocks the write of the first, three wait
					if err := r.Send(1, 0, m); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
				}
				wantKind(t, r.Send(1, 0, m), im.Busy)
				wantKind(t, (<-ask(nil, r, 1, 0, m)).err, im.Busy)
				if n := testutil.ToFloat64(r.metrics.busy); n != 2 {
					t.Errorf("%v refusals counted, want 2", n)
				}
				if n := testutil.ToFloat64(r.metrics.pending); n != 0 {
					t.Error("a refused call is still open")
				}
				w := newWire(t, <-peer)
				for range 4 {
					w.read()
				}
				if err := r.Send(1, 0, m); err != nil { // after the queue was written
					t.Error(err)
				}
				go io.Copy(io.Discard, w.nc)
				r.Close()
			})
		})
	}
}

// pipeRemote returns a Remote over net.Pipe, and the channel for the other ends.
func pipeRemote(o Options) (*Remote, chan net.Conn) {
	peer := make(chan net.Conn, 10)
	o.Dial = func(context.Context, string) (net.Conn, error) {
		here, there := net.Pipe()
		peer <- there
		return here, nil
	}
	return startRemote(o), peer
}

func TestHeartbeatsOnlyOnAQuietConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, peer := pipeRemote(Options{})
		w := newWire(t, <-peer)
		start := time.Now()
		for i := range 3 {
			h, body, err := w.fr.Next()
			if err != nil || h.Command != pb.CmdHeartBeat || len(body) != 0 {
				t.Fatalf("got %v %v", h, err)
			}
			if at := time.Since(start); at < 5*time.Second || at > 6*time.Second {
				t.Errorf("heartbeat %d after %v", i, at)
			}
			w.write(pdu.AppendHeader(nil, pb.CmdHeartBeat, 0)) // keeps the connection open
			start = time.Now()
		}
		// A connection with other frames needs no heartbeats.
		for range 10 {
			time.Sleep(4 * time.Second)
			if err := r.Send(1, 7, text(1, "x")); err != nil {
				t.Fatal(err)
			}
			if seq, _ := w.read(); seq != 7 {
				t.Errorf("heartbeat on a busy connection")
			}
			w.write(pdu.AppendHeader(nil, pb.CmdHeartBeat, 0))
		}
		r.Close()
	})
}

// TestHeartbeatsOfLinksShareMoments: after the first one of each link they are due together,
// although the connections began at different times.
func TestHeartbeatsOfLinksShareMoments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		moments, beats := map[time.Time]bool{}, 0
		settled := time.Now().Add(20 * time.Second)
		for range 3 {
			time.Sleep(1300 * time.Millisecond)
			r, peer := pipeRemote(Options{IdleLimit: time.Hour})
			nc := <-peer
			var reading sync.WaitGroup
			reading.Go(func() {
				w := newWire(t, nc)
				for {
					if _, _, err := w.fr.Next(); err != nil {
						return
					}
					mu.Lock()
					if now := time.Now(); now.After(settled) {
						moments[now] = true
						beats++
					}
					mu.Unlock()
				}
			})
			defer func() { r.Close(); reading.Wait() }()
		}
		time.Sleep(time.Until(settled) + time.Minute + time.Second)
		mu.Lock()
		defer mu.Unlock()
		if len(moments) != 12 || beats != 36 {
			t.Errorf("%d heartbeats at %d moments in a minute, want 36 at 12", beats, len(moments))
		}
	})
}

func TestSilentPeerIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newRecorder()
		r, peer := pipeRemote(Options{Handler: h})
		nc := <-peer
		go io.Copy(io.Discard, nc)
		start := time.Now()
		if err := <-h.closed; !errors.Is(err, session.ErrIdle) {
			t.Errorf("closed with %v", err)
		}
		if at := time.Since(start); at < 30*time.Second || at > 31*time.Second {
			t.Errorf("dropped after %v of silence", at)
		}
		go io.Copy(io.Discard, <-peer) // the next connection
		r.Close()
	})
}

// TestPeerThatDoesNotReadIsDropped checks a peer that sends heartbeats and never reads.
func TestPeerThatDoesNotReadIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newRecorder()
		r, peer := pipeRemote(Options{Handler: h})
		nc := <-peer
		<-h.opened
		var beats sync.WaitGroup
		beats.Go(func() {
			for {
				if _, err := nc.Write(pdu.AppendHeader(nil, pb.CmdHeartBeat, 0)); err != nil {
					return
				}
				time.Sleep(5 * time.Second)
			}
		})
		if err := r.Send(1, 0, text(1, "x")); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		time.Sleep(29 * time.Second)
		c := r.conn.Load()
		c.mu.Lock()
		if len(c.out.Waiting) > pdu.HeaderLen {
			t.Errorf("%d bytes of heartbeats wait for the peer", len(c.out.Waiting))
		}
		c.mu.Unlock()
		var ne net.Error
		if err := <-h.closed; !errors.As(err, &ne) || !ne.Timeout() {
			t.Errorf("closed with %v", err)
		}
		if at := time.Since(start); at != 30*time.Second {
			t.Errorf("given up after %v", at)
		}
		go io.Copy(io.Discard, <-peer)
		r.Close()
		beats.Wait()
	})
}

// TestCloseWaitsNoLongerThanLingerTime checks a peer that neither reads nor closes.
func TestCloseWaitsNoLongerThanLingerTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newRecorder()
		r, peer := pipeRemote(Options{Handler: h})
		nc := <-peer
		<-h.opened
		if err := r.Send(1, 0, text(1, "x")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // the write is blocked
		start := time.Now()
		r.Close()
		if d := time.Since(start); d != lingerTime {
			t.Errorf("Close took %v", d)
		}
		if err := <-h.closed; !errors.Is(err, session.ErrShutdown) {
			t.Errorf("closed with %v", err)
		}
		nc.Close()
	})
}

func TestCallsExpireInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newRecorder()
		r, peer := pipeRemote(Options{Handler: h})
		w := newWire(t, <-peer)
		<-h.opened
		start := time.Now()
		first := ask(nil, r, 1, 1, statReq(1))
		_, m := w.read()
		time.Sleep(3 * time.Second)
		second := ask(nil, r, 1, 1, statReq(2))
		w.read()
		go io.Copy(io.Discard, w.nc)
		wantKind(t, (<-first).err, im.Unavailable)
		if at := time.Since(start); at < 10*time.Second || at > 11*time.Second {
			t.Errorf("the first call was given up after %v", at)
		}
		wantKind(t, (<-second).err, im.Unavailable)
		if at := time.Since(start); at < 13*time.Second || at > 14*time.Second {
			t.Errorf("the second call was given up after %v", at)
		}
		w.send(1, statRsp(m))
		synctest.Wait()
		if n := testutil.ToFloat64(r.metrics.late); n != 1 {
			t.Errorf("%v late answers", n)
		}
		r.Close()
	})
}

func TestPausesBetweenAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Duration
		start := time.Now()
		done := make(chan struct{})
		r := startRemote(Options{
			Dial: func(context.Context, string) (net.Conn, error) {
				at = append(at, time.Since(start))
				start = time.Now()
				switch len(at) {
				case 9: // open long enough to count as working
					here, there := net.Pipe()
					go func() { time.Sleep(6 * time.Second); there.Close() }()
					go io.Copy(io.Discard, there)
					return here, nil
				case 11: // accepts and closes
					here, there := net.Pipe()
					there.Close()
					return here, nil
				case 13:
					close(done)
				}
				return nil, errors.New("refused")
			},
			Rand: func() uint64 { return 0 }, // the longest pauses
		})
		<-done
		r.Close()
		// The eleventh pause follows a connection that worked. The twelfth follows one
		// that was accepted and closed: it counts as a failure like those around it.
		for i, want := range []time.Duration{
			0, 50, 100, 200, 400, 400, 400, 400, 400, 6050, 100, 200, 400} {
			if want *= time.Millisecond; at[i] != want {
				t.Errorf("pause %d: %v, want %v", i, at[i], want)
			}
		}
	})
}

// TestPausesGrowWithTheOutage counts the attempts to reach a peer that stays away: many
// in the first half minute, few later.
func TestPausesGrowWithTheOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var attempts atomic.Int64
		r := startRemote(Options{Dial: func(context.Context, string) (net.Conn, error) {
			attempts.Add(1)
			return nil, errors.New("refused")
		}})
		for _, c := range []struct {
			until       time.Duration
			least, most int64
		}{{30 * time.Second, 75, 160}, {5 * time.Minute, 10, 40}, {time.Hour, 40, 120}} {
			time.Sleep(c.until)
			if n := attempts.Swap(0); n < c.least || n > c.most {
				t.Errorf("%d attempts in %v, want %d to %d", n, c.until, c.least, c.most)
			}
		}
		r.Close()
	})
}

func TestCloseEndsAnAttempt(t *testing.T) {
	r := startRemote(Options{Dial: func(ctx context.Context, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	if r.Up() {
		t.Error("up")
	}
	wantKind(t, r.Send(1, 0, text(1, "x")), im.Unavailable)
	r.Close()
}

// TestCloseEndsALateConnection checks an attempt that succeeds at the moment of Close.
func TestCloseEndsALateConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newRecorder()
		r := startRemote(Options{Handler: h, Dial: func(
			ctx context.Context, _ string,
		) (net.Conn, error) {
			<-ctx.Done()
			here, there := net.Pipe()
			go io.Copy(io.Discard, there)
			return here, nil
		}})
		synctest.Wait()
		start := time.Now()
		r.Close()
		if d := time.Since(start); d != 0 {
			t.Errorf("Close took %v", d)
		}
		if err := <-h.closed; !errors.Is(err, session.ErrShutdown) {
			t.Errorf("closed with %v", err)
		}
	})
}
