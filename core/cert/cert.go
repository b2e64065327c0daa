// Package cert holds the certificate of a server's TLS ports: it reads the files, and reads
// them again while the server runs. It also makes a private CA and certificates of servers.
package cert

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/access"
)

// Options configure Files.
type Options struct {
	// Certificate is the file with the certificate and those between it and the root, in
	// PEM form, and Key the file with its private key. Required.
	Certificate, Key string
	// Log gets a warning when a certificate ends soon. Required.
	Log *slog.Logger
	// Registerer gets the metric. Default: none.
	Registerer prometheus.Registerer
}

// Files is a certificate that is read from files. Any goroutine.
type Files struct {
	opt     Options
	current atomic.Pointer[tls.Certificate]
}

// Load reads the files. The error names the file and what is wrong with it. The log says whether
// a certificate ends soon.
func Load(o Options) (*Files, error) {
	f := &Files{opt: o}
	if err := f.Reload(); err != nil {
		return nil, err
	}
	if o.Registerer != nil {
		o.Registerer.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "teamtalk_tls_certificate_end_seconds",
			Help: "Time at which the certificate of the TLS ports ends, in seconds since 1970.",
		}, func() float64 { return float64(f.End().Unix()) }))
	}
	return f, nil
}

// Reload reads the files again. After an error the certificate that was read before stays.
// Connections that are open keep theirs. The log says whether a certificate ends soon, and whether
// it is that of a CA.
func (f *Files) Reload() error {
	use, err := f.Prepare()
	if err == nil {
		use()
	}
	return err
}

// Prepare reads the files again, and returns the function that uses what was read, as Reload does.
func (f *Files) Prepare() (use func(), err error) {
	c, err := f.read()
	if err != nil {
		return nil, err
	}
	return func() {
		f.current.Store(c)
		f.WarnEnds(time.Now())
		// A certificate that signs itself may be one of a CA without that usage.
		if c.Leaf.KeyUsage&x509.KeyUsageCertSign != 0 {
			f.warnAuthority(c.Leaf)
		}
	}, nil
}

// warnAuthority logs a warning when a certificate is that of a CA. A server needs one of its own:
// with the key of the CA, everybody that copies it from a server can make more servers.
func (f *Files) warnAuthority(leaf *x509.Certificate) {
	if leaf.IsCA {
		f.opt.Log.Warn("the certificate of this server is that of a CA, and its key can sign "+
			"certificates that others trust: keep that key off the servers, and make a "+
			"certificate for this one: teamtalk cert server NAME", "file", f.opt.Certificate,
			"name", leaf.Subject.CommonName)
	}
}

// read reads the files.
func (f *Files) read() (*tls.Certificate, error) {
	if err := checkMode(f.opt.Key); err != nil {
		return nil, err
	}
	c, err := tls.LoadX509KeyPair(f.opt.Certificate, f.opt.Key)
	if err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", f.opt.Certificate, f.opt.Key, err)
	}
	now := time.Now()
	switch end := c.Leaf.NotAfter; {
	case now.After(end):
		return nil, fmt.Errorf("certificate %s ended at %s", f.opt.Certificate, text(end))
	case now.Before(c.Leaf.NotBefore):
		return nil, fmt.Errorf("certificate %s begins at %s", f.opt.Certificate,
			text(c.Leaf.NotBefore))
	}
	return &c, nil
}

// checkMode refuses a private key that every user of the machine may read.
func checkMode(key string) error {
	if access.Everybody(key) {
		return fmt.Errorf("every user of this machine may read the private key %s: chmod o-r it",
			key)
	}
	return nil
}

// text returns a time of a certificate.
func text(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// End returns the time at which the certificate ends.
func (f *Files) End() time.Time { return f.current.Load().Leaf.NotAfter }

// Config returns the configuration of a server that shows the certificate. min is the oldest
// version that clients may use.
func (f *Files) Config(min uint16) *tls.Config {
	return &tls.Config{MinVersion: min,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return f.current.Load(), nil
		}}
}
