package dbtest

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"teamtalk/core/cert"
	"teamtalk/core/porttest"
)

// Certificates are the files of a private CA, of a server at 127.0.0.1, and of a client.
type Certificates struct {
	CA, Server, ServerKey, Client, ClientKey string
	issuer                                   *cert.Authority
}

// NewCertificates makes a CA and certificates.
func NewCertificates(tb testing.TB) Certificates {
	tb.Helper()
	c, err := makeCertificates(tb.TempDir())
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// Renew replaces the certificate of the server with another one of the same CA.
func (c Certificates) Renew(tb testing.TB) {
	tb.Helper()
	pair, err := c.issuer.Issue([]string{"127.0.0.1"}, time.Hour)
	if err == nil {
		err = pair.Write(c.Server+".new", c.ServerKey+".new")
	}
	for _, name := range []string{c.Server, c.ServerKey} {
		if err == nil {
			err = os.Rename(name+".new", name)
		}
	}
	if err != nil {
		tb.Fatal(err)
	}
}

// makeCertificates makes a CA and certificates in a folder.
func makeCertificates(dir string) (Certificates, error) {
	at := func(name string) string { return filepath.Join(dir, name) }
	c := Certificates{CA: at("ca.pem"), Server: at("server.pem"), ServerKey: at("server.key"),
		Client: at("client.pem"), ClientKey: at("client.key")}
	ca, pair, err := cert.NewAuthority("test", time.Hour)
	c.issuer = ca
	if err == nil {
		err = os.WriteFile(c.CA, pair.Certificate, 0o600)
	}
	for _, p := range [][3]string{{"127.0.0.1", c.Server, c.ServerKey},
		{"client", c.Client, c.ClientKey}} {
		if err == nil {
			pair, err = ca.Issue([]string{p[0]}, time.Hour)
		}
		if err == nil {
			err = pair.Write(p[1], p[2])
		}
	}
	return c, err
}

// RedisTLS starts a Redis server, or a Redis Cluster of one node, with a further port for TLS,
// on which clients must have a certificate. options are further options of the program.
func RedisTLS(tb testing.TB, c Certificates, cluster bool,
	options ...string) (r *RedisServer, addr string) {
	tb.Helper()
	port, release, err := reserve(cluster) // the bus of a node with TLS goes by this port
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(release)
	number := strconv.Itoa(port)
	addr = net.JoinHostPort("127.0.0.1", number)
	r = newRedis(tb, cluster, append(options, "--tls-port", number, "--tls-cert-file", c.Server,
		"--tls-key-file", c.ServerKey, "--tls-ca-cert-file", c.CA, "--tls-auth-clients", "yes",
		// A certificate is for an address.
		"--tls-cluster", "yes", "--cluster-announce-ip", "127.0.0.1")...)
	r.tls = port
	if cluster {
		r.Do("CLUSTER ADDSLOTSRANGE 0 16383")
		for deadline := time.Now().Add(startTimeout); !strings.Contains(r.Do("CLUSTER INFO"),
			"cluster_state:ok"); {
			if time.Now().After(deadline) {
				tb.Fatal("the Redis Cluster did not become ready")
			}
			time.Sleep(10 * time.Millisecond) // polls another process, which sends no event
		}
	}
	return r, addr
}

// SentinelTLS starts a Sentinel with TLS that watches a master at addr, which has TLS.
func SentinelTLS(tb testing.TB, c Certificates, addr string) string {
	tb.Helper()
	_, addr = startSentinelTLS(tb, c, addr)
	return addr
}

// startSentinelTLS is SentinelTLS. It returns the server as well. The Sentinel replaces no
// master that dies.
func startSentinelTLS(tb testing.TB, c Certificates, addr string) (*RedisServer, string) {
	tb.Helper()
	port, release, err := porttest.Hold(0)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(release)
	dir, err := tempDir("sentinel")
	if err != nil {
		tb.Fatal(err)
	}
	_, master, _ := net.SplitHostPort(addr)
	s := &RedisServer{tb: tb, dir: dir, watch: fmt.Sprintf("sentinel monitor %s 127.0.0.1 %s 1\n"+
		"sentinel down-after-milliseconds %[1]s 3600000\n", SentinelMaster, master) +
		fmt.Sprintf("tls-port %d\ntls-replication yes\ntls-cert-file "+
			"%s\ntls-key-file %s\ntls-ca-cert-file %s\n", port, c.Server, c.ServerKey, c.CA)}
	s.begin()
	return s, net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

// RedisSentinelTLS is RedisSentinelOf with TLS between all of them. It returns the address of
// the Sentinel for clients with TLS.
func RedisSentinelTLS(tb testing.TB, c Certificates) (*RedisSentinel, string) {
	tb.Helper()
	s := &RedisSentinel{tb: tb}
	master, addr := RedisTLS(tb, c, false, "--repl-diskless-sync-delay", "0",
		"--tls-replication", "yes")
	replica, _ := RedisTLS(tb, c, false, "--repl-diskless-sync-delay", "0",
		"--tls-replication", "yes", "--replicaof", "127.0.0.1", strconv.Itoa(master.tls))
	s.Servers = []*RedisServer{master, replica}
	s.Await("the replica to follow", s.follows)
	s.Sentinel, addr = startSentinelTLS(tb, c, addr)
	return s, addr
}
