package cert

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestAuthority makes a CA and a certificate in files, and uses the certificate on both ends of
// a connection.
func TestAuthority(t *testing.T) {
	dir := t.TempDir()
	caFile, caKey := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca.key")
	_, root, err := NewAuthority("ring", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := root.Write(caFile, caKey); err != nil {
		t.Fatal(err)
	}
	ca, err := LoadAuthority(caFile, caKey)
	if err != nil {
		t.Fatal(err)
	}
	issued, err := ca.Issue([]string{"db1.example", "192.0.2.7"}, 1000*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(issued.Certificate, issued.Key)
	if err != nil {
		t.Fatal(err)
	}
	if pair.Leaf.NotAfter.After(ca.cert.NotAfter) {
		t.Error("the certificate ends after that of its CA")
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	for name, good := range map[string]bool{"db1.example": true, "192.0.2.7": true, "db2": false} {
		server, client := net.Pipe()
		go func() {
			defer server.Close()
			_ = tls.Server(server, &tls.Config{Certificates: []tls.Certificate{pair},
				ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert}).Handshake()
		}()
		err := tls.Client(client, &tls.Config{RootCAs: roots, ServerName: name,
			Certificates: []tls.Certificate{pair}, MaxVersion: tls.VersionTLS12}).Handshake()
		if (err == nil) != good { // TLS 1.2: the handshake covers the client's certificate
			t.Errorf("%s: %v", name, err)
		}
		client.Close()
	}
	if _, err := LoadAuthority(caFile, dir+"/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a CA without key: %v", err)
	}
	if err := os.Chmod(caKey, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadAuthority(caFile, caKey); err == nil {
		t.Error("loaded a key that everybody may read")
	}
}

// TestPairWrite writes files that only their owner may read, and overwrites none.
func TestPairWrite(t *testing.T) {
	dir := t.TempDir()
	c, k := filepath.Join(dir, "c"), filepath.Join(dir, "k")
	old := []byte("old")
	if err := os.WriteFile(c, old, 0o644); err != nil {
		t.Fatal(err)
	}
	p := Pair{[]byte("certificate"), []byte("key")}
	if err := p.Write(c, k); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over an old file: %v", err)
	}
	if _, err := os.Stat(k); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the key stayed behind")
	}
	if b, err := os.ReadFile(c); err != nil || string(b) != "old" {
		t.Errorf("the old file holds %q, %v", b, err)
	}
	if err := os.Remove(c); err != nil {
		t.Fatal(err)
	}
	if err := p.Write(c, k); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{c, k} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if err := p.Write(filepath.Join(dir, "other"), k); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over an old key: %v", err)
	}
}
