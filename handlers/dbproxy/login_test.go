package dbproxy_test

import (
	"fmt"
	"testing"
	"time"

	"teamtalk/core/im"
	"teamtalk/handlers/dbproxy"
	"teamtalk/handlers/dbproxy/lockout"
	"teamtalk/proto/pb"
)

// TestLoginLock: ten different wrong passwords within half an hour lock a name until the
// oldest is older than that. A successful login resets the count.
func TestLoginLock(t *testing.T) {
	h := open(t, options{users: 5})
	if err := h.store.SetUserStatus(t.Context(), 5, im.StatusDeparted); err != nil {
		t.Fatal(err)
	}
	p := h.dial()
	expect := func(t *testing.T, what, name, password string, want uint32) {
		t.Helper()
		if got := p.login(t, name, password); got != want {
			t.Errorf("%s: result %d, want %d", what, got, want)
		}
	}
	guesses := 0
	guess := func() string { guesses++; return fmt.Sprint("guess ", guesses) }
	t.Run("nine wrong passwords do not lock", func(t *testing.T) {
		for range 9 {
			expect(t, "wrong", "u00001", guess(), 1)
			h.clock.Add(time.Minute)
		}
		expect(t, "right after nine", "u00001", "pw", 0)
	})
	t.Run("ten lock the name", func(t *testing.T) {
		for range 9 { // the right password has reset the count
			bad := guess()
			for range 30 { // a client repeats its password
				expect(t, "wrong", "u00001", bad, 1)
			}
			h.clock.Add(time.Minute)
		}
		expect(t, "tenth", "U00001", guess(), 1) // upper and lower case are the same name
		expect(t, "locked", "u00001", "pw", 6)
		expect(t, "locked in upper case", "U00001", "pw", 6)
		expect(t, "another user", "u00002", "pw", 0)
	})
	t.Run("the oldest expires", func(t *testing.T) {
		h.clock.Add(21*time.Minute - time.Second) // the oldest is 29:59 old
		expect(t, "still locked", "u00001", "pw", 6)
		h.clock.Add(time.Second)
		expect(t, "one over, wrong again", "u00001", guess(), 1)
		expect(t, "locked again", "u00001", "pw", 6)
		h.clock.Add(time.Minute)
		expect(t, "next one over", "u00001", "pw", 0)
	})
	t.Run("unknown names", func(t *testing.T) {
		for range 10 {
			expect(t, "nobody", "nobody", guess(), 1)
		}
		expect(t, "unknown name is locked too", "NOBODY", "pw", 6)
	})
	t.Run("names that cannot log in", func(t *testing.T) {
		expect(t, "departed", "u00005", "pw", 1)
		expect(t, "no name", "", "pw", 1)
		expect(t, "name that cannot be", string(make([]byte, 1000)), "pw", 1)
	})
}

// login logs in and returns the result code of the answer.
func (p *peer) login(t *testing.T, name, password string) uint32 {
	t.Helper()
	rsp := ask[*pb.IMValidateRsp](p, 9, validateReq(name, password))
	if rsp.GetUserName() != name || rsp.HasUserInfo() != (rsp.GetResultCode() == 0) {
		t.Errorf("%s: %v", name, rsp)
	}
	return rsp.GetResultCode()
}

func TestLoginNeverLocks(t *testing.T) {
	h := open(t, options{db: dbproxy.Options{Lock: lockout.Limits{Attempts: -1}}})
	p := h.dial()
	for i := range 30 {
		ask[*pb.IMValidateRsp](p, 1, validateReq("u00001", fmt.Sprint("guess ", i)))
	}
	if rsp := ask[*pb.IMValidateRsp](p, 1, validateReq("u00001", "pw")); rsp.GetResultCode() != 0 {
		t.Errorf("locked: %v", rsp)
	}
}
