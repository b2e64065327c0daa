package cert

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// Authority is a private CA. It signs the certificates with which servers recognise each other.
type Authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Pair is a certificate and its private key in PEM form.
type Pair struct{ Certificate, Key []byte }

// early is the time before the present at which certificates begin. The clocks of servers
// differ.
const early = time.Hour

// NewAuthority makes a CA that is valid for the given time. It signs certificates of servers,
// but none of other authorities.
func NewAuthority(name string, valid time.Duration) (*Authority, Pair, error) {
	key, template, err := prepare(name, valid)
	if err != nil {
		return nil, Pair{}, err
	}
	template.IsCA, template.BasicConstraintsValid = true, true
	template.MaxPathLenZero = true
	template.KeyUsage = x509.KeyUsageCertSign
	return sign(template, key, &Authority{template, key})
}

// LoadAuthority reads a CA from files. The error names the file and what is wrong with it.
func LoadAuthority(certificate, key string) (*Authority, error) {
	if err := checkMode(key); err != nil {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		return nil, fmt.Errorf("CA %s with key %s: %w", certificate, key, err)
	}
	private, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	switch {
	case !ok:
		return nil, fmt.Errorf("CA key %s: want an ECDSA key", key)
	case !pair.Leaf.IsCA:
		return nil, fmt.Errorf("certificate %s is not that of a CA", certificate)
	case time.Now().After(pair.Leaf.NotAfter):
		return nil, fmt.Errorf("CA %s ended at %s", certificate, text(pair.Leaf.NotAfter))
	}
	return &Authority{pair.Leaf, private}, nil
}

// Issue makes a certificate that a server uses on its ports and on its links. names are the
// host names and IP addresses under which other servers reach it. The certificate ends no
// later than that of the CA.
func (a *Authority) Issue(names []string, valid time.Duration) (Pair, error) {
	if len(names) == 0 {
		return Pair{}, errors.New("a certificate needs a host name or an IP address")
	}
	key, template, err := prepare(names[0], valid)
	if err != nil {
		return Pair{}, err
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	if template.NotAfter.After(a.cert.NotAfter) {
		template.NotAfter = a.cert.NotAfter
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth,
		x509.ExtKeyUsageClientAuth}
	_, pair, err := sign(template, key, a)
	return pair, err
}

// prepare makes a key, and the fields that all certificates have.
func prepare(name string, valid time.Duration) (*ecdsa.PrivateKey, *x509.Certificate, error) {
	if valid <= 0 {
		return nil, nil, fmt.Errorf("a certificate cannot be valid for %v", valid)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	now := time.Now()
	// CreateCertificate chooses a random serial number.
	return key, &x509.Certificate{Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-early), NotAfter: now.Add(valid)}, nil
}

// sign signs the certificate of a key by an authority. It returns an Authority of the result.
func sign(template *x509.Certificate, key *ecdsa.PrivateKey, by *Authority,
) (*Authority, Pair, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, by.cert, &key.PublicKey, by.key)
	if err != nil {
		return nil, Pair{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, Pair{}, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, Pair{}, err
	}
	return &Authority{leaf, key}, Pair{
		Certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:         pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	}, nil
}

// Write writes the pair into two new files that only their owner may read. It overwrites no
// file: after an error neither of the two is new.
func (p Pair) Write(certificate, key string) error {
	if err := writeNew(key, p.Key); err != nil {
		return err
	}
	if err := writeNew(certificate, p.Certificate); err != nil {
		return errors.Join(err, os.Remove(key))
	}
	return nil
}

// writeNew writes a new file.
func writeNew(name string, content []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return nil
}
