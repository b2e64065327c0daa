package cert

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Peers is what the servers of a deployment prove themselves with to each other: a
// certificate of a private CA. Any goroutine.
type Peers struct {
	files *Files
	ca    string
	roots atomic.Pointer[x509.CertPool]
	root  atomic.Pointer[x509.Certificate] // the CA that signed the own certificate
}

// errNoPeer is the answer to a peer without a certificate.
var errNoPeer = errors.New("the peer has no certificate")

// LoadPeers reads the certificate that o names, and the certificates of the CA. The
// certificate must be one of that CA.
func LoadPeers(ca string, o Options) (*Peers, error) {
	reg := o.Registerer
	o.Registerer = nil
	p := &Peers{files: &Files{opt: o}, ca: ca}
	if err := p.Reload(); err != nil {
		return nil, err
	}
	if reg != nil {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "teamtalk_servers_certificate_end_seconds",
			Help: "Time at which the certificate of the links between servers ends, in seconds " +
				"since 1970.",
		}, func() float64 { return float64(p.files.End().Unix()) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "teamtalk_servers_ca_end_seconds",
				Help: "Time at which the certificate of the CA that signed it ends, in seconds " +
					"since 1970.",
			}, func() float64 { return float64(p.root.Load().NotAfter.Unix()) }))
	}
	return p, nil
}

// Reload reads the files again. After an error, what was read before stays. The log says whether
// a certificate ends soon, and whether the own one is that of a CA.
func (p *Peers) Reload() error {
	use, err := p.Prepare()
	if err == nil {
		use()
	}
	return err
}

// Prepare reads the files again, and returns the function that uses what was read, as Reload does.
func (p *Peers) Prepare() (use func(), err error) {
	own, err := p.files.read()
	if err != nil {
		return nil, err
	}
	roots, root, err := p.readCA(own)
	if err != nil {
		return nil, err
	}
	return func() {
		p.files.current.Store(own)
		p.roots.Store(roots)
		p.root.Store(root)
		p.WarnEnds(time.Now())
		p.files.warnAuthority(own.Leaf)
	}, nil
}

// readCA reads the CA, and checks the own certificate: a peer would refuse a wrong one. root is the
// certificate of the CA that signed the own one.
func (p *Peers) readCA(own *tls.Certificate) (roots *x509.CertPool, root *x509.Certificate,
	err error) {
	pem, err := os.ReadFile(p.ca)
	if err != nil {
		return nil, nil, err
	}
	roots = x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, nil, fmt.Errorf("%s holds no certificate in PEM form", p.ca)
	}
	var chains [][]*x509.Certificate
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth,
		x509.ExtKeyUsageClientAuth} {
		if chains, err = verify(roots, chain(own), usage); err != nil {
			if ca := ended(err, own.Leaf); ca != nil {
				return nil, nil, fmt.Errorf("the CA %q in %s ended at %s, and with it all its "+
					"certificates: make a CA and certificates anew (teamtalk cert)",
					ca.Subject.CommonName, p.ca, text(ca.NotAfter))
			}
			return nil, nil, fmt.Errorf("certificate %s with the CA %s: %w",
				p.files.opt.Certificate, p.ca, err)
		}
	}
	return roots, lastRoot(chains), nil
}

// ended returns the certificate, other than own, whose end is the reason for err; nil for another
// reason.
func ended(err error, own *x509.Certificate) *x509.Certificate {
	var invalid x509.CertificateInvalidError
	if !errors.As(err, &invalid) || invalid.Reason != x509.Expired || invalid.Cert.Equal(own) {
		return nil
	}
	return invalid.Cert
}

// lastRoot returns the root that ends last. A CA that was renewed with its old key has two.
func lastRoot(chains [][]*x509.Certificate) *x509.Certificate {
	var last *x509.Certificate
	for _, c := range chains {
		if root := c[len(c)-1]; last == nil || root.NotAfter.After(last.NotAfter) {
			last = root
		}
	}
	return last
}

// chain returns the certificates of c, the own one first.
func chain(c *tls.Certificate) []*x509.Certificate {
	all := []*x509.Certificate{c.Leaf}
	for _, der := range c.Certificate[1:] {
		if next, err := x509.ParseCertificate(der); err == nil {
			all = append(all, next)
		}
	}
	return all
}

// verify checks that the first certificate is one of the CA. It returns the chains from it to
// certificates of the CA.
func verify(roots *x509.CertPool, certs []*x509.Certificate, usage x509.ExtKeyUsage) (
	[][]*x509.Certificate, error) {
	if len(certs) == 0 {
		return nil, errNoPeer
	}
	between := x509.NewCertPool()
	for _, c := range certs[1:] {
		between.AddCert(c)
	}
	return certs[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between,
		KeyUsages: []x509.ExtKeyUsage{usage}})
}

// Accepting returns the configuration of a port for servers: the peer must show a
// certificate of the CA. A session is never resumed, so each connection is checked against
// the CA that was read last.
func (p *Peers) Accepting() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return &tls.Config{
				MinVersion:   tls.VersionTLS13,
				Certificates: []tls.Certificate{*p.files.current.Load()},
				ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: p.roots.Load(),
				SessionTicketsDisabled: true, DynamicRecordSizingDisabled: true,
			}, nil
		}}
}

// Dialing returns the configuration of a link to another server.
func (p *Peers) Dialing() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, DynamicRecordSizingDisabled: true,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return p.files.current.Load(), nil
		},
		// Servers are addressed by IP, and move. Only servers have a certificate of the
		// private CA, so the chain is the proof, and the name says nothing more.
		// VerifyConnection replaces the check that InsecureSkipVerify turns off.
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			_, err := verify(p.roots.Load(), s.PeerCertificates, x509.ExtKeyUsageServerAuth)
			return err
		},
	}
}

// End returns the time at which the certificate ends.
func (p *Peers) End() string { return text(p.files.End()) }
