package store

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"teamtalk/core/cert"
	"teamtalk/core/cert/certtest"
	"teamtalk/sql/dbtest"
	"teamtalk/sql/store/redisconn"
)

// loadClient reads the files of a client.
func loadClient(t *testing.T, section, ca, certificate, key string) *cert.Client {
	t.Helper()
	c, err := cert.LoadClient(section, ca, certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestTLS runs a store on MariaDB and Redis with TLS, whose users must have a certificate.
// Errors say which setting is missing or wrong.
func TestTLS(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	server := dbtest.MariaDB(t)
	c := server.Certificates
	_, addr := dbtest.RedisTLS(t, c, false)
	name := "tls_" + e.dsn[strings.LastIndexByte(e.dsn, '/')+1:]
	for _, q := range []string{"CREATE USER %s REQUIRE X509", "GRANT ALL ON *.* TO %s"} {
		if _, err := server.Admin().Exec(fmt.Sprintf(q, name)); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if _, err := server.Admin().Exec("DROP USER " + name); err != nil {
			t.Error(err)
		}
	})
	mysql := strings.Replace(e.dsn, "root@", name+"@", 1)
	over := Instance{Addrs: []string{addr},
		TLS: loadClient(t, "redis", c.CA, c.Client, c.ClientKey)}
	e.o.Master, e.o.TLS = mysql, loadClient(t, "mysql", c.CA, c.Client, c.ClientKey)
	e.o.Redis.Unread = over
	s := e.store(t)
	u := users(t, s, 2)
	send(t, s, text(u[0], u[1], "secret"))
	if got := unreadOf(t, s, u[1], u[0]); got != 1 {
		t.Errorf("%d unread", got)
	}
	wantTLSErrors(t, e.o, over)
}

// wantTLSErrors opens stores with wrong settings. o are right ones.
func wantTLSErrors(t *testing.T, o Options, over Instance) {
	t.Helper()
	c, mysql, addr := dbtest.MariaDB(t).Certificates, o.Master, over.Addrs[0]
	other := certtest.Write(t, t.TempDir(), certtest.Options{}).Certificate
	for _, x := range []struct {
		name    string
		dsn     string
		mysql   *cert.Client
		redis   Instance
		wantErr []string
	}{
		{"CA of MySQL", mysql, loadClient(t, "mysql", other, "", ""), over,
			[]string{"unknown authority", "mysql.ca", other}},
		{"CA of the system", mysql + "?tls=true", nil, over, []string{"unknown authority",
			"setting mysql.ca"}},
		{"contradiction", mysql + "?tls=skip-verify", o.TLS, over,
			[]string{"tls=skip-verify contradicts mysql.ca"}},
		{"no TLS", mysql, loadClient(t, "mysql", "", c.Client, c.ClientKey), over,
			[]string{"mysql.certificate is not used"}},
		{"host of MySQL", strings.Replace(mysql, "127.0.0.1", "localhost", 1), o.TLS, over,
			[]string{"not valid for any names", "localhost", "section mysql"}},
		{"CA of Redis", mysql, o.TLS, Instance{Addrs: over.Addrs,
			TLS: loadClient(t, "redis", other, "", "")},
			[]string{"unknown authority", "redis.ca", other}},
		{"host of Redis", mysql, o.TLS, Instance{Addrs: []string{strings.Replace(addr,
			"127.0.0.1", "localhost", 1)}, TLS: over.TLS},
			[]string{"not valid for any names", "localhost", "section redis"}},
		{"Redis without TLS", mysql, o.TLS, Instance{Addrs: []string{plainServer(t)},
			TLS: over.TLS},
			[]string{"turn TLS on"}},
	} {
		o := o
		o.Master, o.TLS, o.Redis.Unread = x.dsn, x.mysql, x.redis
		s, err := Open(t.Context(), o)
		if err == nil {
			t.Errorf("%s: no error", x.name)
			s.Close()
			continue
		}
		t.Log(err)
		for _, want := range x.wantErr {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: no %q in %v", x.name, want, err)
			}
		}
	}
}

// plainServer answers a handshake as a Redis without TLS does.
func plainServer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var answers sync.WaitGroup
	answers.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			answers.Go(func() {
				defer conn.Close()
				io.WriteString(conn, "-ERR unknown command\r\n")
				io.Copy(io.Discard, conn) // until the client ends
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		answers.Wait()
	})
	return l.Addr().String()
}

// TestRedisTLS reaches a cluster, and a master through a Sentinel, with TLS and the user of an
// access list.
func TestRedisTLS(t *testing.T) {
	t.Parallel()
	c := dbtest.MariaDB(t).Certificates
	over := loadClient(t, "redis", c.CA, c.Client, c.ClientKey)
	node, cluster := dbtest.RedisTLS(t, c, true)
	server, master := dbtest.RedisTLS(t, c, false)
	for _, r := range []*dbtest.RedisServer{node, server} {
		r.Do("ACL SETUSER tester on >secret allkeys allcommands")
	}
	sentinel := dbtest.SentinelTLS(t, c, master)
	for _, i := range []Instance{{Addrs: []string{cluster}, Cluster: true},
		{Addrs: []string{sentinel}, MasterName: dbtest.SentinelMaster}} {
		i.TLS, i.Username, i.Password = over, "tester", "secret"
		client := redisconn.Connect(i, 2)
		if err := client.Set(t.Context(), "k", "v", 0).Err(); err != nil {
			t.Errorf("%+v: %v", i, err)
		}
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	}
}
