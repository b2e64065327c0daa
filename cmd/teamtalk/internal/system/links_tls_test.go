package system

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"log/slog"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"teamtalk/core/link"
)

// logged is a log that several goroutines write to.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// await waits for a line with the words.
func (l *logged) await(t *testing.T, server, words string) {
	t.Helper()
	for {
		l.mu.Lock()
		text := l.buf.String()
		l.mu.Unlock()
		if strings.Contains(text, words) {
			return
		}
		if t.Context().Err() != nil {
			t.Fatalf("the log of %s lacks %q:\n%s", server, words, text)
		}
		time.Sleep(time.Millisecond) // no event reports a line
	}
}

// startLogged starts a role and returns the system and its log.
func startLogged(t *testing.T, role string, sets ...map[string]string) (*system, *logged) {
	t.Helper()
	all := map[string]string{"roles": role}
	for _, set := range sets {
		for key, value := range set {
			all[key] = value
		}
	}
	l := &logged{}
	opt := testOptions(t, all)
	opt.Log = slog.New(slog.NewTextHandler(l, nil))
	s, err := start(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Stop(context.WithoutCancel(t.Context())) })
	return s, l
}

// links returns the settings of certificates of f.
func (f checkFiles) links() map[string]string {
	return map[string]string{"link_tls.ca": f.ca, "link_tls.certificate": f.server,
		"link_tls.key": f.serverKey}
}

// TestLinksThatFail links two servers whose settings do not fit: the logs of both say what to
// change.
func TestLinksThatFail(t *testing.T) {
	own, other, none := newCheckFiles(t), newCheckFiles(t), map[string]string{}
	for _, x := range []struct {
		name              string
		accepting, dialed map[string]string // settings of the route server and of the file server
		there, here       string            // in the logs of these
	}{
		{"plaintext to TLS", own.links(), none, "give that server certificates too",
			"if it has the section link_tls, this server needs it too"},
		{"TLS to plaintext", none, own.links(), "the peer begins TLS, and this server has none",
			"that server seems to have no TLS"},
		{"another CA", own.links(), other.links(), "both need certificates of the same CA",
			"make the certificate of that server with the CA of this one"},
	} {
		t.Run(x.name, func(t *testing.T) {
			route, there := startLogged(t, "route", x.accepting)
			_, here := startLogged(t, "file", x.dialed,
				map[string]string{"file.route": route.ports.List()[0].Addr().String()})
			there.await(t, "the route server", x.there)
			here.await(t, "the file server", x.here)
		})
	}
}

// TestServerCertificateAsClient dials with a certificate of the CA that is for servers alone.
func TestServerCertificateAsClient(t *testing.T) {
	f := newCheckFiles(t)
	ca, err := tls.LoadX509KeyPair(f.ca, f.caKey)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(7), NotBefore: ca.Leaf.NotBefore,
		NotAfter: ca.Leaf.NotAfter, Subject: pkix.Name{CommonName: "server only"},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.Leaf, &key.PublicKey,
		ca.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	route, there := startLogged(t, "route", f.links())
	_, err = link.DialTLS(t.Context(),
		showing([]tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}),
		route.ports.List()[0].Addr().String())
	if err == nil || !strings.Contains(err.Error(), "for the usages server and client") {
		t.Errorf("the dialling server reports %v", err)
	}
	there.await(t, "the route server", "give that server one for the usages server and client")
}
