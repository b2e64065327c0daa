package store

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"

	"teamtalk/core/cert"
	"teamtalk/core/im"
	"teamtalk/sql/dbtest"
)

// TestRenewedCertificateOfMySQL renews the certificate of MariaDB while the pool has connections.
// Those that are open stay, and new ones accept the new certificate. With one of another CA open
// connections stay, new ones are refused with the setting to change, and the pool recovers once
// the right one is back. No other test runs meanwhile: the server belongs to all.
func TestRenewedCertificateOfMySQL(t *testing.T) {
	e := newEnv(t)
	server := dbtest.MariaDB(t)
	c := server.Certificates
	name := "renew_" + e.dsn[strings.LastIndexByte(e.dsn, '/')+1:]
	e.execute(t, "CREATE USER "+name+" REQUIRE SSL", "GRANT ALL ON *.* TO "+name)
	t.Cleanup(func() { e.execute(t, "DROP USER "+name) })
	e.o.Master = strings.Replace(e.dsn, "root@", name+"@", 1)
	e.o.TLS = loadClient(t, "mysql", c.CA, "", "")
	s := e.store(t)
	u := users(t, s, 2)
	first := mysqlSerial(t, e.o.Master, c.CA)

	c.Renew(t)
	e.execute(t, "FLUSH SSL")
	if got := mysqlSerial(t, e.o.Master, c.CA); got == first {
		t.Fatalf("the server still has certificate %s", first)
	}
	before := e.connections(t, name)
	send(t, s, text(u[0], u[1], "on a connection from before"))
	if after := e.connections(t, name); len(before) == 0 || !overlap(before, after) {
		t.Errorf("connections %v became %v, want those that were open to stay", before, after)
	}
	e.kill(t, name)
	send(t, s, text(u[0], u[1], "on a new connection"))

	other := dbtest.NewCertificates(t)
	putTogether(t, c.Server, other.Server)
	putTogether(t, c.ServerKey, other.ServerKey)
	t.Cleanup(func() { // also when the test fails
		c.Renew(t)
		e.execute(t, "FLUSH SSL")
	})
	e.execute(t, "FLUSH SSL")
	// Periodic work may use the connection from before at this moment, and a new one is refused.
	stored := uint32(3)
	early := text(u[0], u[1], "on a connection from before")
	if s.AppendMessages(t.Context(), []*im.Message{early}); early.Err == nil {
		stored++
	} else if !cert.IsHandshake(early.Err) {
		t.Errorf("on a connection from before: %v", early.Err)
	}
	e.kill(t, name)
	m := text(u[0], u[1], "refused")
	s.AppendMessages(t.Context(), []*im.Message{m})
	if !cert.IsHandshake(m.Err) || !strings.Contains(m.Err.Error(), "setting mysql.ca") {
		t.Errorf("with a certificate of another CA: %v, want the setting mysql.ca", m.Err)
	}

	c.Renew(t)
	e.execute(t, "FLUSH SSL")
	send(t, s, text(u[0], u[1], "after the mistake"))
	if got := unreadOf(t, s, u[1], u[0]); uint32(got) != stored {
		t.Errorf("%d unread, want %d", got, stored)
	}
}

// execute runs statements of an administrator.
func (e *env) execute(t *testing.T, statements ...string) {
	t.Helper()
	for _, q := range statements {
		if _, err := e.db.Exec(q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
}

// connections returns the numbers of a user's connections.
func (e *env) connections(t *testing.T, user string) (ids []int64) {
	t.Helper()
	rows, err := e.db.Query("SELECT id FROM information_schema.processlist WHERE user = ?", user)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return ids
}

// kill ends a user's connections, which have nothing to do, and waits until they have ended.
func (e *env) kill(t *testing.T, user string) {
	t.Helper()
	for _, id := range e.connections(t, user) {
		e.execute(t, fmt.Sprintf("KILL HARD CONNECTION %d", id))
	}
	for t.Context().Err() == nil && len(e.connections(t, user)) > 0 {
	}
}

// overlap reports whether two lists have a number in common.
func overlap(a, b []int64) bool {
	return slices.ContainsFunc(a, func(id int64) bool { return slices.Contains(b, id) })
}

// mysqlSerial returns the serial number of the certificate that a new connection sees.
func mysqlSerial(t *testing.T, dsn, ca string) (serial string) {
	t.Helper()
	text, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	cfg.TLS = &tls.Config{RootCAs: roots, ServerName: "127.0.0.1",
		VerifyConnection: func(s tls.ConnectionState) error {
			serial = s.PeerCertificates[0].SerialNumber.String()
			return nil
		}}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := connector.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close() // nothing was asked
	return serial
}
