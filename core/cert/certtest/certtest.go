// Package certtest makes certificates for tests.
package certtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// Options describe a certificate. Zero times mean an hour ago and in a year.
type Options struct {
	Begin, End time.Time
}

// Cert is a certificate for localhost and the loopback addresses, which signs itself.
type Cert struct {
	Certificate, Key string // files
	Pair             tls.Certificate
	Roots            *x509.CertPool
}

// Write makes a certificate and writes cert.pem and key.pem into dir.
func Write(t testing.TB, dir string, o Options) Cert {
	t.Helper()
	c, key, err := generate(o)
	if err != nil {
		t.Fatal(err)
	}
	c.Certificate, c.Key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for _, f := range []struct {
		name, kind string
		der        []byte
	}{{c.Certificate, "CERTIFICATE", c.Pair.Certificate[0]}, {c.Key, "PRIVATE KEY", key}} {
		p := pem.EncodeToMemory(&pem.Block{Type: f.kind, Bytes: f.der})
		if err := os.WriteFile(f.name, p, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// Shared returns a certificate without files that all tests of a process share.
var Shared = sync.OnceValue(func() Cert {
	c, _, err := generate(Options{})
	if err != nil {
		panic(err)
	}
	return c
})

// generate makes a certificate and its key in PKCS 8 form.
func generate(o Options) (c Cert, keyDER []byte, err error) {
	if o.Begin.IsZero() {
		o.Begin = time.Now().Add(-time.Hour)
	}
	if o.End.IsZero() {
		o.End = time.Now().AddDate(1, 0, 0)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return c, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return c, nil, err
	}
	template := &x509.Certificate{SerialNumber: serial, DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		Subject:     pkix.Name{CommonName: "test"}, NotBefore: o.Begin, NotAfter: o.End,
		IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return c, nil, err
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		return c, nil, err
	}
	c = Cert{Pair: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: root},
		Roots: x509.NewCertPool()}
	c.Roots.AddCert(root)
	keyDER, err = x509.MarshalPKCS8PrivateKey(key)
	return c, keyDER, err
}
