package msfs

import (
	"net/http"
	"net/netip"
	"testing"

	"teamtalk/core/origin"
	"teamtalk/core/web"
)

// slotsRig starts a server with 8 slots, whose uploads stay in them until the test ends or
// begin's caller ends them.
type slotsRig struct {
	*rig
	store   *blocked
	answers chan uploaded
	running int
}

func newSlotsRig(t *testing.T, trusted origin.Networks) *slotsRig {
	s := &slotsRig{answers: make(chan uploaded),
		store: &blocked{entered: make(chan struct{}), leave: make(chan struct{})}}
	s.rig = newRigOn(t, func(o *Options) {
		s.store.Store, o.Store, o.MaxUploads = o.Store, s.store, 8
		o.Budget.Trusted = trusted
	}, web.Options{Forwarders: origin.Networks{netip.MustParsePrefix("127.0.0.0/8")}})
	t.Cleanup(func() {
		for ; s.running > 0; s.running-- {
			s.end()
		}
	})
	return s
}

// begin begins an upload of a client behind a proxy, and reports whether it has a slot.
func (s *slotsRig) begin(addr string) bool {
	s.Helper()
	go func() { s.answers <- s.sendAs(addr) }()
	select {
	case <-s.store.entered:
		s.running++
		return true
	case u := <-s.answers:
		if u.Code != 9 || u.Text == "" || u.URL != "" {
			s.Errorf("an upload without a slot: %+v", u)
		}
		return false
	}
}

// beginAll begins uploads until one has no slot, and returns the number of those with one.
func (s *slotsRig) beginAll(addr string) int {
	s.Helper()
	n := 0
	for s.begin(addr) {
		n++
	}
	return n
}

// end ends one of the uploads that run.
func (s *slotsRig) end() {
	s.Helper()
	s.store.leave <- struct{}{}
	if u := <-s.answers; u.Code != 0 {
		s.Errorf("an upload in a slot: %+v", u)
	}
}

// sendAs uploads a byte. A proxy names the client's address.
func (s *slotsRig) sendAs(addr string) uploaded {
	body, kind := form(s.T, "file", "a.jpg", []byte("x"))
	rsp, err := http.DefaultClient.Do(request(s.url, kind, body, addr))
	return s.answerOf(rsp, err)
}

// TestAbuseSlots: an address fills slots with uploads that do not end. It leaves slots to
// others, and those leave some too.
func TestAbuseSlots(t *testing.T) {
	s := newSlotsRig(t, nil)
	for _, c := range []struct {
		addr string
		want int
	}{
		{"2001:db8::1", 4}, {"2001:db8::2", 0},
		{"192.0.2.1", 2}, {"192.0.2.2", 1}, {"192.0.2.3", 1},
	} {
		if n := s.beginAll(c.addr); n != c.want {
			t.Errorf("%s has %d slots, want %d", c.addr, n, c.want)
		}
	}
	if share, busy := s.results("share"), s.results("busy"); share != 4 || busy != 1 {
		t.Errorf("refused because of the share: %v, because of no free slot: %v", share, busy)
	}
}

// TestSlotsReturn: the slots of uploads that have ended are free for every address, and no
// address is remembered.
func TestSlotsReturn(t *testing.T) {
	s := newSlotsRig(t, nil)
	for range 3 {
		if n := s.beginAll("192.0.2.1"); n != 4 {
			t.Errorf("%d slots, want 4", n)
		}
		for ; s.running > 0; s.running-- {
			s.end()
		}
	}
	slots := s.server.slots
	slots.mu.Lock()
	defer slots.mu.Unlock()
	if len(slots.held) != 0 || slots.free != 8 {
		t.Errorf("%d addresses have slots, %d slots are free", len(slots.held), slots.free)
	}
}

// TestSlotsOfTrustedNetworks: trusted networks may fill all slots.
func TestSlotsOfTrustedNetworks(t *testing.T) {
	s := newSlotsRig(t, origin.Networks{netip.MustParsePrefix("10.0.0.0/8")})
	if n := s.beginAll("10.0.0.1"); n != 8 {
		t.Errorf("%d slots, want 8", n)
	}
	if busy := s.results("busy"); busy != 1 {
		t.Errorf("%v refused because of no free slot", busy)
	}
}
