package replica

import (
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
)

// TestPositionIsReadAfterTheCall requires that calls during a question do not get its
// answer, which may lack what was committed before them, and that they share the next one.
func TestPositionIsReadAfterTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		answer := make(chan bool)
		p := positions{read: func() (position, error) {
			asked++
			n := asked
			<-answer
			return position{gtid: strconv.Itoa(n)}, nil
		}}
		var calls sync.WaitGroup
		call := func(want string) {
			calls.Go(func() {
				if at, err := p.get(t.Context()); err != nil || at.gtid != want {
					t.Errorf("position %v, %v, want that of question %s", at, err, want)
				}
			})
			synctest.Wait()
		}
		call("1")
		for range 10 {
			call("2")
		}
		answer <- true
		synctest.Wait()
		call("3")
		answer <- true
		answer <- true
		calls.Wait()
		if asked != 3 {
			t.Errorf("%d questions for three moments", asked)
		}
	})
}
