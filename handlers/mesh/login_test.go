package mesh

import (
	"testing"
	"time"

	"teamtalk/core/whereabouts/whereaboutstest"
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
