package cert

import (
	"bytes"
	"crypto/tls"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"teamtalk/core/cert/certtest"
)

// options writes a certificate and returns the options that name it.
func options(t *testing.T, o certtest.Options) Options {
	t.Helper()
	dir := t.TempDir()
	c := certtest.Write(t, dir, o)
	return Options{Certificate: c.Certificate, Key: c.Key, Log: slog.New(slog.DiscardHandler)}
}

// TestLoad reads certificates with and without faults.
func TestLoad(t *testing.T) {
	now := time.Now()
	tests := []struct {
		name   string
		cert   certtest.Options
		change func(o *Options) error
		want   string
	}{
		{"valid", certtest.Options{}, nil, ""},
		{"ended", certtest.Options{Begin: now.Add(-2 * time.Hour), End: now.Add(-time.Hour)}, nil,
			"ended at"},
		{"not begun", certtest.Options{Begin: now.Add(time.Hour), End: now.Add(2 * time.Hour)}, nil,
			"begins at"},
		{"no file", certtest.Options{}, func(o *Options) error { return os.Remove(o.Certificate) },
			"no such file"},
		{"open key", certtest.Options{}, func(o *Options) error { return os.Chmod(o.Key, 0o644) },
			"chmod o-r"},
		{"other key", certtest.Options{}, func(o *Options) error {
			o.Key = certtest.Write(t, t.TempDir(), certtest.Options{}).Key
			return nil
		}, "does not match"},
		{"no key", certtest.Options{}, func(o *Options) error { return os.Truncate(o.Key, 0) },
			"PEM"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			o := options(t, test.cert)
			if test.change != nil {
				if err := test.change(&o); err != nil {
					t.Fatal(err)
				}
			}
			_, err := Load(o)
			if test.want == "" && err != nil ||
				test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

// TestReload replaces the files. A broken certificate does not replace the one before.
func TestReload(t *testing.T) {
	o := options(t, certtest.Options{})
	f, err := Load(o)
	if err != nil {
		t.Fatal(err)
	}
	show := func() *tls.Certificate {
		c, err := f.Config(tls.VersionTLS12).GetCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	first := show()
	if err := os.WriteFile(o.Certificate, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.Reload(); err == nil {
		t.Error("a broken file was read")
	}
	if show() != first {
		t.Error("the certificate is gone after an error")
	}
	certtest.Write(t, filepath.Dir(o.Certificate), certtest.Options{})
	if err := f.Reload(); err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(show().Certificate[0], first.Certificate[0]) {
		t.Error("the certificate before is still shown")
	}
}

// TestPeersReload replaces the files: what does not fit together leaves what was read before.
func TestPeersReload(t *testing.T) {
	o := options(t, certtest.Options{})
	ca := filepath.Join(t.TempDir(), "ca.pem")
	copyFile(t, ca, o.Certificate)
	p, err := LoadPeers(ca, o)
	if err != nil {
		t.Fatal(err)
	}
	before := p.Dialing()
	own := p.files.current.Load()
	proof := tls.ConnectionState{PeerCertificates: chain(own)}
	other := options(t, certtest.Options{})
	copyFile(t, ca, other.Certificate)
	if err := p.Reload(); err == nil || !strings.Contains(err.Error(), "with the CA") {
		t.Errorf("a CA without the own certificate: %v", err)
	}
	if err := before.VerifyConnection(proof); err != nil {
		t.Errorf("after a failed reload: %v", err)
	}
	copyFile(t, o.Certificate, other.Certificate)
	copyFile(t, o.Key, other.Key)
	if err := p.Reload(); err != nil {
		t.Fatal(err)
	}
	if err := before.VerifyConnection(proof); err == nil {
		t.Error("a certificate of the replaced CA is accepted")
	}
	if err := before.VerifyConnection(tls.ConnectionState{}); err == nil {
		t.Error("a peer without a certificate is accepted")
	}
}

// copyFile copies a file over another one.
func copyFile(t *testing.T, to, from string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
