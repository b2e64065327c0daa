package dbproxy_test

import (
	"fmt"
	"net/netip"
	"testing"

	"teamtalk/handlers/dbproxy/lockout"
	"teamtalk/proto/pb"
)

// loginFrom logs in as a client at an address and returns the result code of the answer.
func (p *peer) loginFrom(t *testing.T, addr, name, password string) uint32 {
	t.Helper()
	req := validateReq(name, password).(*pb.IMValidateReq)
	if addr != "" {
		req.SetClientAddress(netip.MustParseAddr(addr).AsSlice())
	}
	return ask[*pb.IMValidateRsp](p, 9, req).GetResultCode()
}

// TestWrongPasswordsLockTheirNetwork tries passwords from one network. The name stays open
// for others.
func TestWrongPasswordsLockTheirNetwork(t *testing.T) {
	h := open(t, options{})
	p := h.dial()
	for i := range 10 {
		p.loginFrom(t, "203.0.113.7", "u00001", fmt.Sprint("guess ", i))
	}
	for _, c := range []struct {
		addr string
		want uint32
	}{
		{"203.0.113.7", 6}, {"203.0.113.99", 6}, {"::ffff:203.0.113.7", 6},
		{"203.0.114.7", 0}, {"2001:db8::1", 0}, {"", 0},
	} {
		if got := p.loginFrom(t, c.addr, "u00001", "pw"); got != c.want {
			t.Errorf("login from %q: result %d, want %d", c.addr, got, c.want)
		}
	}
	if got := p.loginFrom(t, "203.0.113.7", "u00002", "pw"); got != 0 {
		t.Errorf("login of another user: result %d", got)
	}
	m := validateReq("u00001", "pw").(*pb.IMValidateReq)
	m.SetClientAddress(netip.MustParseAddr("203.0.113.7").AsSlice())
	if got := ask[*pb.IMValidateRsp](p, 9, m).GetLock(); got != string(lockout.Name) {
		t.Errorf("the answer names the lock %q", got)
	}
	m.ClearTellFailure()
	if got := ask[*pb.IMValidateRsp](p, 9, m); got.GetResultCode() != 6 || got.HasLock() {
		t.Errorf("the answer to a C++ message server: %v", got)
	}
}

// TestSpellingsOfANameAreLockedTogether tries passwords with one spelling of a name. Whether
// others are locked must not show whether the name exists.
func TestSpellingsOfANameAreLockedTogether(t *testing.T) {
	h := open(t, options{})
	p := h.dial()
	for _, name := range []string{"u00001", "nobody"} {
		for i := range 10 {
			p.loginFrom(t, "", name+" ", fmt.Sprint("guess ", i))
		}
		for _, spelling := range []string{name, name + "  ", "N" + name[1:], name} {
			if spelling[0] == 'N' && name[0] != 'n' {
				continue
			}
			if got := p.loginFrom(t, "", spelling, "pw"); got != 6 {
				t.Errorf("login as %q: result %d, want 6", spelling, got)
			}
		}
	}
}
