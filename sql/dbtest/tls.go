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
type Certificates struct{ CA, Server, ServerKey, Client, ClientKey string }

// makeCertificates makes a CA and certificates in a folder.
func makeCertificates(dir string) (Certificates, error) {
	at := func(name string) string { return filepath.Join(dir, name) }
	c := Certificates{at("ca.pem"), at("server.pem"), at("server.key"), at("client.pem"),
		at("client.key")}
	ca, pair, err := cert.NewAuthority("test", time.Hour)
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
// on which clients must have a certificate.
func RedisTLS(tb testing.TB, c Certificates, cluster bool) (r *RedisServer, addr string) {
	tb.Helper()
	port, release, err := porttest.Hold(0)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(release)
	number := strconv.Itoa(port)
	addr = net.JoinHostPort("127.0.0.1", number)
	r = newRedis(tb, cluster, "--tls-port", number, "--tls-cert-file", c.Server, "--tls-key-file",
		c.ServerKey, "--tls-ca-cert-file", c.CA, "--tls-auth-clients", "yes",
		// A certificate is for an address.
		"--tls-cluster", "yes", "--cluster-announce-ip", "127.0.0.1")
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
	s := &RedisServer{tb: tb, dir: dir, watch: fmt.Sprintf("sentinel monitor %s 127.0.0.1 %s 1\n",
		SentinelMaster, master) + fmt.Sprintf("tls-port %d\ntls-replication yes\ntls-cert-file "+
		"%s\ntls-key-file %s\ntls-ca-cert-file %s\n", port, c.Server, c.ServerKey, c.CA)}
	s.begin()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}
