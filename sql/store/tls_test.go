package store

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

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

// TestSentinelFailoverTLS lets a Sentinel make the replica the master, and back, with TLS
// between all of them. The client follows.
func TestSentinelFailoverTLS(t *testing.T) {
	t.Parallel()
	c := dbtest.NewCertificates(t)
	r, sentinel := dbtest.RedisSentinelTLS(t, c)
	client := redisconn.Connect(Instance{Addrs: []string{sentinel},
		MasterName: dbtest.SentinelMaster, TLS: loadClient(t, "redis", c.CA, c.Client,
			c.ClientKey)}, 2)
	defer client.Close()
	for n := range 3 {
		// A connection to the former master may refuse a write.
		r.Await("the client to follow", func() bool {
			return client.Incr(t.Context(), "n").Err() == nil
		})
		if got, err := client.Get(t.Context(), "n").Int(); err != nil || got != n+1 {
			t.Fatalf("after %d failovers: %d, %v", n, got, err)
		}
		if n < 2 {
			r.Failover()
		}
	}
}

// TestRenewedCertificates renews the certificates of the databases. Another one of the same CA
// is used at the next connection. One of another CA is refused until the store is opened with
// it, and a file may hold both.
func TestRenewedCertificates(t *testing.T) {
	t.Parallel()
	c, next := dbtest.NewCertificates(t), dbtest.NewCertificates(t)
	server, addr := dbtest.RedisTLS(t, c, false)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	putTogether(t, ca, c.CA)
	connect := func() redis.UniversalClient {
		client := redisconn.Connect(Instance{Addrs: []string{addr},
			TLS: loadClient(t, "redis", ca, c.Client, c.ClientKey)}, 1)
		t.Cleanup(func() { client.Close() })
		return client
	}
	serve := func(s dbtest.Certificates) {
		t.Helper()
		server.Do("CONFIG SET tls-cert-file " + s.Server + " tls-key-file " + s.ServerKey)
		server.Do("CLIENT KILL TYPE normal SKIPME yes")
	}
	// A connection that was killed fails at its next command.
	ping := func(client redis.UniversalClient) (err error) {
		for range 2 {
			if err = client.Ping(t.Context()).Err(); err == nil || cert.IsHandshake(err) {
				break
			}
		}
		return err
	}
	client := connect()
	if err := ping(client); err != nil {
		t.Fatal(err)
	}
	before := serial(t, addr, c)
	c.Renew(t)
	serve(c)
	if err := ping(client); err != nil {
		t.Errorf("another certificate of the CA: %v", err)
	}
	if after := serial(t, addr, c); after == before {
		t.Errorf("the server still has certificate %s", before)
	}
	putTogether(t, ca, c.CA, next.CA)
	both := connect()
	if err := ping(both); err != nil {
		t.Errorf("two CAs: %v", err)
	}
	serve(next)
	if err := ping(client); err == nil || !strings.Contains(err.Error(), "setting redis.ca") {
		t.Errorf("opened before the CA was in the file: %v", err)
	}
	if err := ping(both); err != nil {
		t.Errorf("opened with both CAs: %v", err)
	}
}

// putTogether writes the contents of files to a file.
func putTogether(t *testing.T, to string, from ...string) {
	t.Helper()
	var all []byte
	for _, name := range from {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, text...)
	}
	if err := os.WriteFile(to, all, 0o600); err != nil {
		t.Fatal(err)
	}
}

// serial returns the serial number of a server's certificate.
func serial(t *testing.T, addr string, c dbtest.Certificates) string {
	t.Helper()
	conn, err := tls.Dial("tcp", addr, loadClient(t, "redis", c.CA, c.Client,
		c.ClientKey).Config())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
}
