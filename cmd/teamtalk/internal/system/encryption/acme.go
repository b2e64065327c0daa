package encryption

import (
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/cmd/teamtalk/internal/open"
	"teamtalk/core/acme"
	"teamtalk/core/config"
)

// openACME opens the certificate of the section tls.acme, which may not exist yet.
func openACME(cfg *config.Config, log *slog.Logger, reg *prometheus.Registry) (
	*acme.Manager, error) {
	a := &cfg.TLS.ACME
	roots, err := ACMERoots(a)
	if err != nil {
		return nil, err
	}
	return acme.Open(acme.Options{Domains: a.Domains, Email: a.Email, Directory: a.Directory,
		Folder: open.Folder(cfg, a.Folder, "acme"), Roots: roots, Challenge: a.Challenge, Log: log,
		Registerer: reg})
}

// ACMERoots returns the certificates that prove the CA; nil for those of the system.
func ACMERoots(a *config.ACME) (*x509.CertPool, error) {
	if a.DirectoryCA == "" {
		return nil, nil
	}
	text, err := os.ReadFile(a.DirectoryCA)
	if err != nil {
		return nil, fmt.Errorf("directory_ca: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("directory_ca: %s holds no certificate in PEM form", a.DirectoryCA)
	}
	return roots, nil
}
