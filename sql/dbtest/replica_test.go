package dbtest

import "testing"

// TestReplicates requires that the replica gets what the master commits, also after it was
// killed, and nothing while its replication is stopped.
func TestReplicates(t *testing.T) {
	p := Replicated(t)
	master, replica := p.NewDatabase(t)
	from, to := p.Master.Open(t, master), p.Replica.Open(t, replica)
	rows := func() (n int) {
		t.Helper()
		if err := to.QueryRow("SELECT COUNT(*) FROM t").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	insert := func(query string) {
		t.Helper()
		if _, err := from.Exec(query); err != nil {
			t.Fatal(err)
		}
	}
	insert("CREATE TABLE t (id INT PRIMARY KEY)")
	insert("INSERT INTO t VALUES (7)")
	p.Sync(t)
	if n := rows(); n != 1 {
		t.Errorf("%d rows on the replica, want 1", n)
	}
	p.Replica.Stop()
	insert("INSERT INTO t VALUES (8)")
	p.Replica.Start(t)
	p.Sync(t)
	if n := rows(); n != 2 {
		t.Errorf("%d rows after a restart, want 2", n)
	}
	p.Replicate(t, false)
	insert("INSERT INTO t VALUES (9)")
	if n := rows(); n != 2 {
		t.Errorf("%d rows while the replication is stopped, want 2", n)
	}
	p.Replicate(t, true)
	p.Sync(t)
	if n := rows(); n != 3 {
		t.Errorf("%d rows after the replication began again, want 3", n)
	}
}
