package carrier

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// newCarrier makes a Carrier that records what functions panicked with.
func newCarrier(t *testing.T) (c *Carrier, panics chan any) {
	panics = make(chan any, 10)
	c = New(Options{Size: 2, Panicked: func(v any) { panics <- v }})
	t.Cleanup(c.Close)
	return c, panics
}

// wait runs an empty function, and waits for it.
func wait(c *Carrier) {
	done := make(chan struct{})
	c.Go(func() { close(done) })
	<-done
}

// TestPoolIsOpenWhileItIsUsed: work every few seconds opens no pool, much work does, and the
// pool is closed soon after the last of it.
func TestPoolIsOpenWhileItIsUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := newCarrier(t)
		for range 10 {
			wait(c)
			if c.Open() {
				t.Fatal("a single use opened a pool")
			}
			time.Sleep(often)
		}
		for range 3 {
			for range 1000 {
				wait(c)
				time.Sleep(often / 10)
			}
			if !c.Open() {
				t.Error("many uses opened no pool")
			}
			time.Sleep(2*restAfter + time.Second)
			if c.Open() {
				t.Error("the pool is open although nothing uses it")
			}
		}
		c.Close()
	})
}

// TestWithKeepsThePoolOpen: with the pool of another library, which gets it from a variable,
// the pool must not be closed meanwhile.
func TestWithKeepsThePoolOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := newCarrier(t)
		var both sync.WaitGroup
		for i := range 2 {
			both.Go(func() {
				c.With(func() {
					time.Sleep(time.Duration(i+1) * time.Minute)
					if !c.Open() {
						t.Error("closed while it was used")
					}
				})
			})
		}
		both.Wait()
		time.Sleep(2*restAfter + time.Second)
		if c.Open() {
			t.Error("open after the last use")
		}
		c.Close()
		c.With(func() {
			if c.Open() {
				t.Error("a closed Carrier opened a pool")
			}
		})
	})
}

// TestPanicsAreReported: on a goroutine of the pool, and on one outside of it.
func TestPanicsAreReported(t *testing.T) {
	c, panics := newCarrier(t)
	for i, open := range []bool{false, true} {
		if open {
			wait(c)
			wait(c)
		}
		c.Go(func() { panic(i) })
		if v := <-panics; v != i {
			t.Errorf("panicked with %v, want %d", v, i)
		}
	}
}

// TestWorkRunsWhenThePoolIsFullOrClosed: nothing is dropped.
func TestWorkRunsWhenThePoolIsFullOrClosed(t *testing.T) {
	c, _ := newCarrier(t)
	hold := make(chan struct{})
	var all sync.WaitGroup
	for range 10 {
		all.Add(1)
		c.Go(func() { <-hold; all.Done() })
	}
	c.Close()
	wait(c)
	close(hold)
	all.Wait()
}
