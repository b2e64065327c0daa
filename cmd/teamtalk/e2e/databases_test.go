//go:build linux

package e2e

import (
	"bufio"
	"bytes"
	"database/sql"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/go-sql-driver/mysql"

	"teamtalk/core/dbprog"
	"teamtalk/sql/dbtest"
)

// TestGaleraBehindHAProxy puts HAProxy with the configuration of the example between the servers
// and three Galera nodes. When the node in use loses the others, the servers get another one, and
// no text is lost. They keep it when the first node is back.
func TestGaleraBehindHAProxy(t *testing.T) {
	t.Parallel()
	program(t)
	haproxyProgram(t)
	nodes := galeraNodes(t)
	front := reserve(t)
	pairs := []string{"127.0.0.1:3307", front,
		"/etc/haproxy/galera-check", checkScript(t, nodes[0])}
	for i, n := range nodes {
		pairs = append(pairs, fmt.Sprintf("10.0.0.2%d:3306", 1+i), n.config.Addr)
	}
	haproxy(t, "databases/haproxy.cfg", pairs...)
	dsn := *nodes[0].config
	dsn.Addr = front
	until(t, "HAProxy to have a node", func() bool {
		code, _, _ := command(t, "migrate", "--mysql.master", dsn.FormatDSN())
		return code == 0
	})
	sys := deployOn(t, settings{users: 2}, "--store", "mysql", "--mysql.master", dsn.FormatDSN(),
		"--redis.addrs", dbtest.Redis(t).Addr())
	a, b := newTalker(t, "u00001", where{login: sys.url()}), newTalker(t, "u00002",
		where{login: sys.url()})
	online(t, a, b)
	talk(a, b)
	awaitTalk(t, a, b, 20)

	lost := used(t, nodes)
	back := lost.isolate(t)
	until(t, "another node to be used", func() bool {
		n := used(t, nodes)
		return n != nil && n != lost
	})
	awaitTalk(t, a, b, 20)
	next := used(t, nodes)
	back()
	awaitTalk(t, a, b, 20)
	// A node that is back may for a moment have threads of the connections that it lost. Servers
	// that had left a node that serves would not return to it.
	until(t, "the servers to use the same node as before", func() bool {
		return used(t, nodes) == next
	})
	hush(t, a, b)
	check(t, a, b, true) // a transaction that ends with the node has used up its ids
}

// galeraNode is a node of a Galera cluster.
type galeraNode struct {
	config *mysql.Config // of an empty database
	db     *sql.DB       // directly
}

// galeraNodes returns the nodes of a cluster with an empty database.
func galeraNodes(t *testing.T) (nodes []*galeraNode) {
	t.Helper()
	for _, dsn := range dbtest.Galera(t).NewDatabase(t) {
		cfg, err := mysql.ParseDSN(dsn)
		if err != nil {
			t.Fatal(err)
		}
		db, err := sql.Open("mysql", dsn)
		if err != nil {
			t.Fatal(err)
		}
		db.SetMaxOpenConns(1)
		t.Cleanup(func() { db.Close() })
		nodes = append(nodes, &galeraNode{cfg, db})
	}
	return nodes
}

// checkScript returns the path of the script of the example, with an account of the node's cluster.
func checkScript(t *testing.T, n *galeraNode) string {
	t.Helper()
	text, err := os.ReadFile("../example/databases/galera-check")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	script, account := filepath.Join(dir, "galera-check"), filepath.Join(dir, "galera-check.cnf")
	err = os.WriteFile(account, fmt.Appendf(nil, "[client]\nuser = %s\npassword = %s\n",
		n.config.User, n.config.Passwd), 0o600)
	if err == nil {
		err = os.WriteFile(script, bytes.ReplaceAll(text, []byte("/etc/haproxy/galera-check.cnf"),
			[]byte(account)), 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
	return script
}

// used returns the node with most connections to the database, and nil when no node has one besides
// that of the test.
func used(t *testing.T, nodes []*galeraNode) (most *galeraNode) {
	t.Helper()
	max := 1
	for _, n := range nodes {
		var open int
		err := n.db.QueryRow("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE DB = ?",
			n.config.DBName).Scan(&open)
		if err == nil && open > max { // a node without the others answers with an error
			most, max = n, open
		}
	}
	return most
}

// isolate makes the node leave its cluster, as when it loses the others. back ends that.
func (n *galeraNode) isolate(t *testing.T) (back func()) {
	t.Helper()
	var name, cluster string
	if err := n.db.QueryRow("SHOW GLOBAL VARIABLES LIKE 'wsrep_cluster_address'").Scan(&name,
		&cluster); err != nil {
		t.Fatal(err)
	}
	set := func(address string) {
		if _, err := n.db.Exec("SET GLOBAL wsrep_cluster_address='" + address + "'"); err != nil {
			t.Error(err)
		}
	}
	set("")
	return func() { set(cluster) }
}

// TestDatabaseFiles checks that MariaDB and Redis take the configurations of the examples.
func TestDatabaseFiles(t *testing.T) {
	t.Parallel()
	const dir = "../example/databases/"
	dbtest.MariaDB(t) // it and Redis are installed
	server := dbprog.Find("mariadbd")
	for _, file := range []string{"primary.cnf", "galera.cnf"} {
		out, err := exec.Command(server, "--defaults-file="+dir+file, "--verbose",
			"--help").CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%.2000s", file, err, out)
		}
	}
	dbtest.Redis(t)
	for file, args := range map[string][]string{"redis.conf": nil, "redis-cluster.conf": nil,
		"sentinel.conf": {"--sentinel"}} {
		text, err := os.ReadFile(dir + file)
		if err != nil {
			t.Fatal(err)
		}
		home := t.TempDir()
		own := filepath.Join(home, file) // a Sentinel writes to it
		if err := os.WriteFile(own, text, 0o600); err != nil {
			t.Fatal(err)
		}
		addr := reserve(t)
		_, port, _ := net.SplitHostPort(addr) // reserve made the address
		cmd := exec.Command(dbprog.Find("redis-server"), append([]string{own, "--port", port,
			"--dir", home}, args...)...)
		cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
		if err := startBound(cmd); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
		until(t, file+" to be served", func() bool { return pongs(addr) })
	}
}

// pongs reports whether a Redis answers at an address.
func pongs(addr string) bool {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return false
	}
	defer c.Close()
	if _, err := io.WriteString(c, "PING\r\n"); err != nil {
		return false
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	return err == nil && line == "+PONG\r\n"
}
