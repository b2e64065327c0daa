package passwords

import (
	"testing"
	"time"

	"teamtalk/core/im"
)

// busyDesk returns a desk with one worker, whose derivation does not end before the gate is
// closed. A derivation takes 13 ms, and a login waits for 4 s at most.
func busyDesk(t *testing.T) *desk {
	d := newDesk(t, cheap, true)
	d.opt.Wait, d.mean = 4*time.Second, 13*time.Millisecond
	if _, err := d.enqueue(1<<30, "first", false); err != nil {
		t.Fatal(err)
	}
	<-d.began
	return d
}

// flood has different logins of one network wait until one is refused. first is the ID of
// the first user. It returns the number of those that wait.
func (d *desk) flood(first uint32, network string, known bool) int {
	d.t.Helper()
	for n := range uint32(10000) {
		if _, err := d.enqueue(first+n, network, known); err != nil {
			if im.KindOf(err) != im.Busy {
				d.t.Fatal(err)
			}
			return int(n)
		}
	}
	d.t.Fatalf("10000 logins of network %q wait", network)
	return 0
}

// TestEqualLoginsShareADerivation: logins with the same row and password that arrive while
// one waits, or is derived, get its answer. Their number is bounded.
func TestEqualLoginsShareADerivation(t *testing.T) {
	for sent, want := range map[string]Verdict{"right": Right, "wrong": Wrong} {
		d := newDesk(t, cheap, true)
		d.opt.Wait = time.Hour
		d.right.life, d.wrong.life = 0, 0 // nothing is remembered
		answers := make(chan Verdict, 1000)
		a := account(1, cheap)
		ask := func(network string) error {
			l := &Login{Account: a, Name: a.Name, Sent: sent, Network: network}
			return d.Ask(l, func(answer Answer, err error) {
				if err != nil {
					t.Error(err)
				}
				answers <- d.Look(l, answer)
			})
		}
		if _, err := d.enqueue(2, "", false); err != nil {
			t.Fatal(err)
		}
		<-d.began
		for range 16 { // they wait
			if err := ask("n"); err != nil {
				t.Fatal(err)
			}
		}
		d.gate <- struct{}{}
		<-d.began
		for range 16 { // it is derived
			if err := ask("m"); err != nil {
				t.Fatal(err)
			}
		}
		if err := ask("n"); im.KindOf(err) != im.Busy {
			t.Errorf("%s: one more: %v", sent, err)
		}
		close(d.gate)
		for range 32 {
			if got := <-answers; got != want {
				t.Errorf("%s: verdict %d, want %d", sent, got, want)
			}
		}
		if n := d.derived.Load(); n != 2 {
			t.Errorf("%s: %d derivations, want that of another login and one", sent, n)
		}
	}
}

// TestTurnUsesWhatIsRemembered: a login that waits is answered without a derivation when an
// equal one was derived meanwhile, here one of the other class.
func TestTurnUsesWhatIsRemembered(t *testing.T) {
	for sent, want := range map[string]Verdict{"right": Right, "wrong": Wrong} {
		d := busyDesk(t)
		answers := make(chan Verdict, 2)
		a := account(1, cheap)
		for _, known := range []bool{true, false} {
			l := &Login{Account: a, Name: a.Name, Sent: sent, Network: "n", Known: known}
			if err := d.Ask(l, func(answer Answer, err error) {
				if err != nil {
					t.Error(err)
				}
				answers <- d.Look(l, answer)
			}); err != nil {
				t.Fatal(err)
			}
		}
		close(d.gate)
		for range 2 {
			if got := <-answers; got != want {
				t.Errorf("%s: verdict %d, want %d", sent, got, want)
			}
		}
		if n := d.derived.Load(); n != 2 {
			t.Errorf("%s: %d derivations, want that of another login and one", sent, n)
		}
	}
}

// TestNetworksShareTheQueue: in both classes, networks that send all the logins that they
// may leave places to others. Clients of unknown address are one network.
func TestNetworksShareTheQueue(t *testing.T) {
	for _, known := range []bool{false, true} {
		d := busyDesk(t)
		places := d.places(classOf(known))
		if places != 308 {
			t.Errorf("known %v: %d places, want those of 4 s", known, places)
		}
		for i, network := range []string{"", "a", "b", "c"} {
			n := d.flood(uint32(i+1)*10000, network, known)
			if i == 0 && n != places/2 || n == 0 {
				t.Errorf("known %v: %d logins of network %q wait", known, n, network)
			}
		}
		quiet, err := d.enqueue(1, "quiet", known)
		if err != nil {
			t.Errorf("known %v: a network without waiting logins: %v", known, err)
		}
		close(d.gate)
		if err == nil {
			<-quiet
		}
	}
}

// TestUsersShareTheQueue: a user of class known has few places, and one network leaves half
// of them to the user's other networks. Strangers do not use them up.
func TestUsersShareTheQueue(t *testing.T) {
	d := busyDesk(t)
	a := account(1, cheap)
	sent := 0
	ask := func(network string, known bool) error {
		sent++
		return d.Ask(&Login{Account: a, Name: a.Name, Sent: string(rune('a' + sent)),
			Network: network, Known: known}, func(Answer, error) {})
	}
	for range 20 {
		if err := ask("strange", false); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 5 {
		if err := ask("office", true); (err != nil) != (i >= 4) {
			t.Errorf("login %d of the office: %v", i, err)
		}
	}
	for i := range 3 {
		if err := ask("home", true); (err != nil) != (i >= 2) {
			t.Errorf("login %d at home: %v", i, err)
		}
	}
	for i, network := range []string{"n", "o", "p"} {
		if err := ask(network, true); (err != nil) != (i >= 2) {
			t.Errorf("network %s: %v", network, err)
		}
	}
	other, err := d.enqueue(2, "office", true)
	if err != nil {
		t.Fatalf("another user: %v", err)
	}
	close(d.gate)
	<-other
}

// TestPlacesAreReturned: in the end no client holds a place, and no login is open.
func TestPlacesAreReturned(t *testing.T) {
	d := busyDesk(t)
	var waiting []chan error
	for i := range uint32(20) {
		done, err := d.enqueue(i+1, "n", i%2 == 0)
		if err != nil {
			t.Fatal(err)
		}
		waiting = append(waiting, done)
	}
	close(d.gate)
	for _, done := range waiting {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	d.Checker.mu.Lock()
	defer d.Checker.mu.Unlock()
	for _, q := range d.queues {
		if len(q.open)+len(q.held)+len(q.waiting) > 0 {
			t.Errorf("in the end: %+v", q)
		}
	}
}
