package dbtest

import "testing"

func TestGaleraReplicates(t *testing.T) {
	c := Galera(t)
	dsns := c.NewDatabase(t)
	first := c.Nodes[0].Open(t, dsns[0])
	if _, err := first.Exec("CREATE TABLE t (id INT PRIMARY KEY)"); err != nil {
		t.Fatal(err)
	}
	if _, err := first.Exec("INSERT INTO t VALUES (7)"); err != nil {
		t.Fatal(err)
	}
	for i, dsn := range dsns {
		conn, err := c.Nodes[i].Open(t, dsn).Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.ExecContext(t.Context(), "SET wsrep_sync_wait=1"); err != nil {
			t.Fatal(err)
		}
		var id int
		if err := conn.QueryRowContext(t.Context(), "SELECT id FROM t").Scan(&id); err != nil ||
			id != 7 {
			t.Errorf("node %d: id %d, %v, want 7", i, id, err)
		}
	}
}
