package mesh

import (
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/registry"
	"teamtalk/core/whereabouts/whereaboutstest"
	"teamtalk/proto/pb"
)

// loginRace is how two logins at the same time meet: the delays of the calls to the store before
// and after they take effect, and whether their first answers are lost.
type loginRace struct {
	start  time.Duration // of the second login
	delays [4]time.Duration
	lost   [2]bool
}

// races returns all combinations.
func races() (list []loginRace) {
	times := []time.Duration{0, 3 * time.Millisecond, 10 * time.Millisecond}
	for _, start := range times {
		for i := range 81 {
			for lost := range 4 {
				list = append(list, loginRace{start: start, delays: [4]time.Duration{times[i%3],
					times[i/3%3], times[i/9%3], times[i/27]},
					lost: [2]bool{lost&1 > 0, lost&2 > 0}})
			}
		}
	}
	return list
}

// hook returns the faults of the race, for the nodes a and b.
func (r loginRace) hook() hook {
	lost := r.lost
	return func(by string, call whereaboutstest.Operation, after bool) error {
		if call != whereaboutstest.Apply {
			return nil
		}
		node, i := 0, 0
		if by == "b" {
			node, i = 1, 2
		}
		if after {
			i++
		}
		time.Sleep(r.delays[i])
		if after && lost[node] {
			lost[node] = false
			return errStoreAway
		}
		return nil
	}
}

// TestOneOfTwoLoginsStays lets two clients of a user log in at the same time on two message
// servers, in all orders of the calls to the store. The one that the store saw later stays.
func TestOneOfTwoLoginsStays(t *testing.T) {
	inCluster(t, func(c *cluster, nodes []*node) {
		a, b := nodes[0], nodes[1]
		for user, race := range races() {
			c.setHook(race.hook())
			first := a.login(uint32(user+1), windows)
			time.Sleep(race.start)
			second := b.login(uint32(user+1), windows)
			settle()
			if one, two := a.state(first), b.state(second); (one == "in") == (two == "in") {
				t.Errorf("%+v: the first is %s, the second is %s", race, one, two)
			}
			c.setHook(nil)
		}
	}, "a", "b")
}

// TestFirstOfTwoLoginsStays does the same with the policy keep_first: the login that the store saw
// first stays. Both may be refused when an answer of the store was lost.
func TestFirstOfTwoLoginsStays(t *testing.T) {
	inCluster(t, func(c *cluster, nodes []*node) {
		a, b := nodes[0], nodes[1]
		c.keeps = true
		for user, race := range races() {
			c.setHook(race.hook())
			first := a.login(uint32(user+1), windows)
			time.Sleep(race.start)
			second := b.login(uint32(user+1), windows)
			settle()
			stay := 0
			for _, state := range []string{a.state(first), b.state(second)} {
				if state == "in" {
					stay++
				}
			}
			if lost := race.lost[0] || race.lost[1]; stay > 1 || stay == 0 && !lost {
				t.Errorf("%+v: %d stay", race, stay)
			}
			c.setHook(nil)
			settle() // the one that is refused is taken back
			third := b.login(uint32(user+1), windows)
			settle()
			if (b.state(third) == "in") == (a.state(first) == "in") {
				t.Errorf("%+v: another login is %s beside the first, which is %s", race,
					b.state(third), a.state(first))
			}
		}
	}, "a", "b")
}

// TestNoTextIsMissed lets a client log in while a text for it is stored and forwarded, with all
// delays of the calls to the store. The client reads the history when its login is answered. The
// text is in it, or it arrives live.
func TestNoTextIsMissed(t *testing.T) {
	times := []time.Duration{0, 2 * time.Millisecond, 5 * time.Millisecond}
	inCluster(t, func(c *cluster, nodes []*node) {
		a, b := nodes[0], nodes[1]
		user, live, read := uint32(100), 0, 0
		for i := range 81 {
			delays := map[whereaboutstest.Operation][2]time.Duration{
				whereaboutstest.Apply:  {times[i%3], times[i/3%3]},
				whereaboutstest.Lookup: {times[i/9%3], times[i/27]}}
			for stored := range 14 {
				user++
				c.setHook(func(_ string, call whereaboutstest.Operation, after bool) error {
					d := delays[call][0]
					if after {
						d = delays[call][1]
					}
					time.Sleep(d)
					return nil
				})
				s := b.login(user, windows)
				time.Sleep(time.Duration(stored) * time.Millisecond)
				committed := time.Now()
				a.send(text(1, user, user))
				settle()
				c.setHook(nil)
				b.mu.Lock()
				inHistory := !s.at.Before(committed) // it is read after the answer
				b.mu.Unlock()
				arrived := false
				for _, at := range b.arrivals(user) {
					arrived = arrived || !at.Before(s.at)
				}
				if !inHistory && !arrived {
					t.Errorf("delays %v: the text of %d ms is missed", delays, stored)
				}
				if inHistory {
					read++
				} else {
					live++
				}
				b.logout(s)
				settle()
				b.all()
			}
		}
		if live == 0 || read == 0 {
			t.Errorf("%d texts arrived live, %d were in the history", live, read)
		}
	}, "a", "b")
}

// TestLoginGivenUp: the announcement of a client that has gone is taken back, at once when the
// message server says so, and otherwise after some time.
func TestLoginGivenUp(t *testing.T) {
	inCluster(t, func(c *cluster, nodes []*node) {
		a := nodes[0]
		announce := func(user uint32) {
			a.pipe.Call(nil, 0, 0, pb.IMUsersStatReq_builder{UserId: proto.Uint32(user),
				UserIdList: []uint32{user}, Comes: windows.Enum()}.Build(),
				func(_ pb.Message, err error) {
					if err != nil {
						t.Error(err)
					}
				})
		}
		announce(1)
		announce(2)
		settle()
		if users := c.store.Users(); len(users) != 2 {
			t.Errorf("in the store are %v", users)
		}
		m := statusOf(1, windows, off)
		m.SetComes(true)
		a.send(m)
		settle()
		if users := c.store.Users(); len(users) != 1 || users[0] != 2 {
			t.Errorf("in the store are %v", users)
		}
		time.Sleep(comingLasts)
		settle()
		if users := c.store.Users(); len(users) != 0 {
			t.Errorf("in the store are %v", users)
		}
		if n := len(a.mesh.users); n != 0 {
			t.Errorf("%d users are remembered", n)
		}
	}, "a")
}

// TestLapse: a message server whose registration had ended writes its users again, and announces
// them again: the others have counted them as gone.
func TestLapse(t *testing.T) {
	inCluster(t, func(c *cluster, nodes []*node) {
		a, b := nodes[0], nodes[1]
		b.login(2, windows)
		settle()
		a.all()
		b.expire()
		settle()
		if got := notes(a); !slices.Equal(got, []string{"2 offline"}) {
			t.Errorf("at the end of the lease a got %q", got)
		}
		a.send(text(1, 2, 1)) // removes the entry
		settle()
		c.mu.Lock()
		c.all["b"] = b
		c.mu.Unlock()
		c.publish()
		for range 5 {
			settle()
		}
		got := a.all()
		online, asked := slices.Contains(told(got), "2 online"), false
		for _, m := range only[*pb.IMRoleSet](got) {
			asked = asked || m.GetMissed() >= 35_000
		}
		if !online || !asked {
			t.Errorf("when it is back, a got %v", got)
		}
		a.send(text(1, 2, 2))
		settle()
		if got := ids(take[*pb.MsgData](b)); !slices.Equal(got, []uint32{2}) {
			t.Errorf("b got %v", got)
		}
	}, "a", "b")
}

// TestJudge: a kick ends the logins that the policy lets it end, and that are earlier.
func TestJudge(t *testing.T) {
	for _, x := range []struct {
		what   string
		one    bool // the policy is one_client
		user   user
		kicked pb.ClientType
		want   verdict
	}{
		{"an earlier login", false, user{devices: []device{{client: windows, version: 4}}},
			windows, kickNow},
		{"a later login", false, user{devices: []device{{client: windows, version: 6}}},
			windows, kickNever},
		{"a later login of a phone", false, user{devices: []device{{client: windows, version: 4},
			{client: android, version: 6}}}, windows, kickNow},
		{"a later login of a phone, with one client", true, user{devices: []device{
			{client: android, version: 6}}}, windows, kickNever},
		{"a login that is not written", false, user{dirty: true,
			devices: []device{{client: windows}}}, windows, kickLater},
		{"a login that comes", false, user{pending: &pending{coming: []*coming{{
			client: windows, version: 4}}}}, windows, kickLater},
		{"a phone that comes", false, user{pending: &pending{coming: []*coming{{
			client: android}}}}, windows, kickNow},
	} {
		s := New(Options{Nodes: registry.NewView()})
		if x.one {
			s.opt.Replaces = func(pb.ClientType, pb.ClientType) bool { return true }
		}
		kick := kickOf(1, x.kicked)
		kick.SetVersion(5)
		if got := s.judge(&x.user, kick); got != x.want {
			t.Errorf("%s: %v, want %v", x.what, got, x.want)
		}
	}
}
