package tlsconn

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
)

// Reason says in a few words, for metrics, why a peer that must show a certificate was
// refused.
func Reason(err error) string {
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var other *tls.CertificateVerificationError
	switch {
	case errors.Is(err, ErrHello):
		return "plaintext"
	case errors.Is(err, ErrCrowd):
		return "silent"
	case errors.As(err, &unknown):
		return "certificate of another CA"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "expired certificate"
	case errors.As(err, &other):
		return "wrong certificate"
	case err != nil && strings.Contains(err.Error(), "didn't provide a certificate"):
		return "no certificate" // crypto/tls has no type for it
	}
	return "failed handshake"
}
