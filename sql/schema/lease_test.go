package schema

import (
	"errors"
	"testing"
	"time"

	"teamtalk/core/im"
	"teamtalk/sql/dbtest"
)

// TestLease takes a lease, loses it to another holder, and finds that out.
func TestLease(t *testing.T) {
	db := database(t, "")
	migrate(t, db)
	take := func() *Lease {
		l, err := TakeLease(t.Context(), db, "work", 20*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	first := take()
	if first == nil {
		t.Fatal("a free lease was not given")
	}
	if take() != nil {
		t.Fatal("a lease has two holders")
	}
	if err := first.Renew(t.Context()); err != nil {
		t.Errorf("renew: %v", err)
	}
	exec(t, db, "UPDATE IMLease SET until=UNIX_TIMESTAMP()") // its time has passed
	second := take()
	if second == nil || second.Epoch() != first.Epoch()+1 {
		t.Fatalf("after the end of epoch %d: %+v", first.Epoch(), second)
	}
	if err := first.Renew(t.Context()); !errors.Is(err, ErrLeaseLost) {
		t.Errorf("renewing a lost lease: %v", err)
	}
	if err := first.Release(t.Context()); err != nil {
		t.Errorf("releasing a lost lease: %v", err)
	}
	if take() != nil {
		t.Error("the old holder released the lease of the new one")
	}
	if err := second.Release(t.Context()); err != nil {
		t.Error(err)
	}
	if take() == nil {
		t.Error("a released lease was not given")
	}
}

// TestLeaseAfterAStepOfTheClock: a lease of a holder that was killed ends although the
// clock of the database steps back by an hour.
func TestLeaseAfterAStepOfTheClock(t *testing.T) {
	db := database(t, "")
	migrate(t, db)
	const ttl = 20 * time.Second
	if l, err := TakeLease(t.Context(), db, "work", ttl); l == nil || err != nil {
		t.Fatal(l, err)
	}
	for _, c := range []struct {
		ahead int
		free  bool
	}{{60, false}, {3600, true}} {
		exec(t, db, "UPDATE IMLease SET until=UNIX_TIMESTAMP()+? WHERE name='work'", c.ahead)
		l, err := TakeLease(t.Context(), db, "work", ttl)
		if err != nil || (l != nil) != c.free {
			t.Errorf("a lease that ends in %d s: %+v, %v", c.ahead, l, err)
		}
	}
}

// TestConcurrentMigrateOnTwoNodes migrates one database through two nodes of a cluster.
func TestConcurrentMigrateOnTwoNodes(t *testing.T) {
	c := dbtest.Galera(t)
	dsns := c.NewDatabase(t)
	one, two := c.Nodes[0].Open(t, dsns[0]), c.Nodes[1].Open(t, dsns[1])
	in, out := make(chan struct{}), make(chan error)
	steps := 0
	go func() {
		out <- Migrate(t.Context(), one, Options{Progress: func(string) {
			if steps++; steps == 2 { // the first one makes the table of leases
				in <- struct{}{}
				<-in
			}
		}})
	}()
	<-in
	if err := Migrate(t.Context(), two, Options{}); im.KindOf(err) != im.Busy {
		t.Errorf("a concurrent Migrate on another node: %v, want an error of kind Busy", err)
	}
	in <- struct{}{}
	if err := <-out; err != nil {
		t.Error(err)
	}
}

// TestMigrateAfterAKill requires that a migration waits for the lease of one that was
// killed.
func TestMigrateAfterAKill(t *testing.T) {
	db := database(t, "")
	migrate(t, db)
	l, err := TakeLease(t.Context(), db, migrationLease, 2*time.Second)
	if l == nil || err != nil {
		t.Fatalf("%v, %v", l, err)
	}
	migrate(t, db)
	if err := l.Renew(t.Context()); !errors.Is(err, ErrLeaseLost) {
		t.Errorf("the migration ran beside the holder of the lease: %v", err)
	}
}
