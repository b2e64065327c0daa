package msg

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/link"
	"teamtalk/proto/pb"
)

// desk is a db_proxy whose check of a password takes a while. One check runs at a time, and a
// login that finds no place is refused as busy.
type desk struct {
	each          time.Duration // of a check
	places        int
	until         time.Time     // when the last one ends
	wait          time.Duration // of the login that asked last
	checked, busy int
}

// validate answers a login. With the lock of the stand.
func (k *desk) validate(req pb.Message) (pb.Message, error) {
	m, ok := req.(*pb.IMValidateReq)
	if k.wait = 0; !ok {
		return nil, nil
	}
	now := time.Now()
	if k.until.Before(now) {
		k.until = now
	}
	if k.until.Sub(now) >= time.Duration(k.places)*k.each {
		k.busy++
		return nil, im.WithKind(im.Busy, "refused", &link.Refusal{Reason: "busy"})
	}
	k.until = k.until.Add(k.each)
	k.wait = k.until.Sub(now)
	k.checked++
	return pb.IMValidateRsp_builder{UserName: proto.String(m.GetUserName()),
		ResultCode: proto.Uint32(0), UserInfo: userInfo(uint32(k.checked))}.Build(), nil
}

// late returns when the last login is answered.
func (k *desk) late(pb.Message) time.Duration { return k.wait }

// TestStormOfBusyLogins lets many clients log in at a db_proxy that can check 50 logins a
// second. All get in as fast as it can check them. It refuses the first login of each client,
// and about one for each that it checks, however often the clients connect again.
func TestStormOfBusyLogins(t *testing.T) {
	const users = 1500
	inWorld(t, Options{}, func(w *world) {
		k := &desk{each: 20 * time.Millisecond, places: 40}
		w.db.also, w.db.late = k.validate, k.late
		connections := 0
		logIn := func(i int) *device {
			connections++
			d := w.connectFrom(i%2, netip.MustParseAddrPort("10.0.0.1:1"))
			m := loginReq(1, win)
			m.SetUserName(fmt.Sprint("user ", i))
			d.send(1, m)
			return d
		}
		clients := map[int]*device{}
		for i := range users {
			clients[i] = logIn(i)
		}
		begun := time.Now()
		for len(clients) > 0 {
			time.Sleep(100 * time.Millisecond)
			for i, d := range clients {
				switch code, answered := d.loginResult(); {
				case !answered:
				case code == 0:
					delete(clients, i)
				default:
					clients[i] = logIn(i)
				}
			}
			if time.Since(begun) > time.Hour {
				t.Fatalf("%d clients did not get in", len(clients))
			}
		}
		took := time.Since(begun)
		if most := users*k.each + time.Second; took > most {
			t.Errorf("all are in after %v, want %v at most", took, most)
		}
		if most := 5 * users / 2; k.busy > most {
			t.Errorf("%d logins were refused as busy, want %d at most", k.busy, most)
		}
		if most := users * 5; connections > most {
			t.Errorf("%d connections, want %d at most", connections, most)
		}
		t.Logf("%d clients in after %v, %d connections, %d logins checked, %d busy", users, took,
			connections, k.checked, k.busy)
	})
}

// TestBusyLoginWaits: the first login that db_proxy is too busy to check is not refused at
// once. It is checked again as soon as db_proxy can.
func TestBusyLoginWaits(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		k := &desk{each: time.Second, places: 0}
		w.db.also, w.db.late = k.validate, k.late
		for range 2 {
			took, code := w.tryFrom(0, "10.0.0.1", 1, "right").answeredAfter()
			if code != pb.ResultType_REFUSE_REASON_NO_DB_SERVER || took != 5*time.Second {
				t.Errorf("answer %v after %v, want it after 5 s", code, took)
			}
		}
		d := w.tryFrom(0, "10.0.0.1", 1, "right")
		d.on(func() { k.places = 1 })
		if took, code := d.answeredAfter(); code != 0 || took > 2*time.Second {
			t.Errorf("answer %v after %v, want it in", code, took)
		}
	})
}

// loginResult returns the answer to the login, once there is one.
func (d *device) loginResult() (pb.ResultType, bool) {
	for _, f := range d.got() {
		if res, ok := f.m.(*pb.IMLoginRes); ok {
			return res.GetResultCode(), true
		}
	}
	return 0, false
}
