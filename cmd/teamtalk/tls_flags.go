package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"
)

// tlsFlags are the flags of a client for TLS.
type tlsFlags struct {
	on   bool
	file string // certificates that are trusted beside the system's
	name string // that the certificates must hold; empty: the host of the address
}

// add defines the flags.
func (t *tlsFlags) add(f *pflag.FlagSet) {
	f.BoolVar(&t.on, "tls", false, "connect with TLS; the default when the URL in --server begins "+
		"with https")
	f.StringVar(&t.file, "tls-ca", "", "with TLS: trust the certificates in this PEM file, beside "+
		"those of the system")
	f.StringVar(&t.name, "tls-name", "", "with TLS: the name that the server's certificate must "+
		"hold (default: the host of each address)")
}

// config returns the configuration of TLS; nil: none. server is the URL of the login server.
func (t *tlsFlags) config(server string) (*tls.Config, error) {
	if !t.on && !strings.HasPrefix(server, "https://") {
		return nil, nil
	}
	c := &tls.Config{ServerName: t.name}
	if t.file == "" {
		return c, nil
	}
	pem, err := os.ReadFile(t.file)
	if err != nil {
		return nil, fmt.Errorf("--tls-ca: %w", err)
	}
	if c.RootCAs, err = x509.SystemCertPool(); err != nil {
		c.RootCAs = x509.NewCertPool()
	}
	if !c.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("--tls-ca: %s holds no certificate in PEM form", t.file)
	}
	return c, nil
}
