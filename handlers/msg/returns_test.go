package msg

import (
	"testing"
	"time"

	"teamtalk/proto/pb"
)

// TestReturnsAreRated: a user that logs in, leaves and comes back in a loop waits for each
// further login. Its devices of the other class do not, nor do other users. Each connection
// has messages and requests that it may send at once, so the loop would have no rate.
func TestReturnsAreRated(t *testing.T) {
	for _, policy := range []DevicePolicy{DeviceClass, KeepFirst} {
		t.Run(string(policy), func(t *testing.T) {
			inWorld(t, Options{Policy: policy, LoginDeadline: time.Second}, func(w *world) {
				begin, logins := time.Now(), 0
				for time.Since(begin) < 20*time.Second {
					d := w.connect(logins % 2)
					d.send(1, loginReq(1, win))
					if _, code := d.answeredAfter(); code != 0 {
						t.Fatalf("login %d: %v", logins, code)
					}
					d.hangUp()
					logins++
				}
				if logins < 65 || logins > 71 {
					t.Errorf("%d logins in 20 s, want 30 at once and two a second", logins)
				}
				w.user(0, 1, ios)
				w.user(0, 2, win)
				if n := w.counted("logins_held_total", "rate"); n < 35 {
					t.Errorf("%v logins counted as held", n)
				}
				time.Sleep(time.Minute)
				w.user(0, 1, win)
			})
		})
	}
}

// TestManyReturnsAtOnce: many connections of one user that log in at the same time get no more
// than its rate, and each gets its turn. The others of a shared account are not slowed where
// the policy lets a user have them.
func TestManyReturnsAtOnce(t *testing.T) {
	for policy, want := range map[DevicePolicy]int{OneClient: 49, Unlimited: 60} {
		inWorld(t, Options{Policy: policy}, func(w *world) {
			var list []*device
			for i := range 60 {
				d := w.connect(i % 2)
				d.send(1, loginReq(1, win))
				list = append(list, d)
			}
			count := func() (n int) {
				for _, d := range list {
					if code, ok := d.loginResult(); ok && code == pb.ResultType_REFUSE_REASON_NONE {
						n++
					}
				}
				return n
			}
			time.Sleep(9*time.Second + 500*time.Millisecond)
			in := count()
			if policy == Unlimited && in != want || in > want {
				t.Errorf("%s: %d logins after 9.5 s, want at most %d", policy, in, want)
			}
		})
	}
}
