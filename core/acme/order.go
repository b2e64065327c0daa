package acme

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/acme"
)

// obtain orders a certificate, unless another process has done so meanwhile.
func (m *Manager) obtain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, orderTimeout)
	defer cancel()
	unlock, err := m.dir.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := m.look(); err == nil && time.Now().Before(m.due()) {
		return nil
	}
	if err := m.order(ctx); err != nil {
		return fmt.Errorf("order at %s: %w", m.opt.Directory, err)
	}
	m.orders.WithLabelValues("done").Inc()
	if err := m.look(); err != nil {
		return err
	}
	return m.fresh()
}

// order orders a certificate and writes it into the folder.
func (m *Manager) order(ctx context.Context) error {
	client, err := m.client(ctx)
	if err != nil {
		return err
	}
	m.dir.remove(httpPrefix, alpnPrefix, newPrefix) // of orders that a crash ended
	defer m.dir.remove(httpPrefix, alpnPrefix)
	order, err := client.AuthorizeOrder(ctx, acme.DomainIDs(m.opt.Domains...))
	if err != nil {
		return err
	}
	for _, url := range order.AuthzURLs {
		if err := m.authorize(ctx, client, url); err != nil {
			return err
		}
	}
	if order, err = client.WaitOrder(ctx, order.URI); err != nil {
		return err
	}
	key, err := newKey()
	if err != nil {
		return err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader,
		&x509.CertificateRequest{DNSNames: m.opt.Domains}, key)
	if err != nil {
		return err
	}
	chain, _, err := client.CreateCertFromOrder(ctx, order, csr, true)
	if err != nil {
		return err
	}
	return m.dir.writePair(certificateFile, key, chain)
}

// client returns a client of the CA that has an account there.
func (m *Manager) client(ctx context.Context) (*acme.Client, error) {
	key, err := m.dir.account()
	if err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: m.opt.Roots}
	transport.DisableKeepAlives = true // there are some requests in two months
	c := &acme.Client{Key: key, DirectoryURL: m.opt.Directory, UserAgent: "teamtalk",
		HTTPClient: &http.Client{Transport: transport, Timeout: time.Minute}}
	account := &acme.Account{}
	if m.opt.Email != "" {
		account.Contact = []string{"mailto:" + m.opt.Email}
	}
	// The settings agree to the terms.
	_, err = c.Register(ctx, account, acme.AcceptTOS)
	if err != nil && !errors.Is(err, acme.ErrAccountAlreadyExists) {
		return nil, fmt.Errorf("account: %w", err)
	}
	return c, nil
}

// authorize proves that a domain leads here.
func (m *Manager) authorize(ctx context.Context, client *acme.Client, url string) error {
	z, err := client.GetAuthorization(ctx, url)
	if err != nil {
		return err
	}
	if z.Status == acme.StatusValid {
		return nil // an earlier order has proved it
	}
	domain := z.Identifier.Value
	var offered []string
	for _, c := range z.Challenges {
		offered = append(offered, c.Type)
	}
	i := slices.Index(offered, m.opt.Challenge)
	if i < 0 {
		return fmt.Errorf("domain %s: the CA offers no %s, but %v (tls.acme.challenge)", domain,
			m.opt.Challenge, offered)
	}
	if err := m.prepare(client, z.Challenges[i], domain); err != nil {
		return fmt.Errorf("domain %s: %w", domain, err)
	}
	if _, err := client.Accept(ctx, z.Challenges[i]); err != nil {
		return fmt.Errorf("domain %s: %w", domain, err)
	}
	if _, err := client.WaitAuthorization(ctx, z.URI); err != nil {
		return fmt.Errorf("domain %s: %w", domain, err)
	}
	return nil
}

// prepare writes the answer to a challenge into the folder, where every process finds it.
func (m *Manager) prepare(client *acme.Client, c *acme.Challenge, domain string) error {
	if !named(c.Token) || !named(domain) {
		return fmt.Errorf("the CA sent the token %q", c.Token)
	}
	if c.Type == HTTP01 {
		text, err := client.HTTP01ChallengeResponse(c.Token)
		if err != nil {
			return err
		}
		return m.dir.write(httpPrefix+c.Token, []byte(text))
	}
	pair, err := client.TLSALPN01ChallengeCert(c.Token, domain)
	if err != nil {
		return err
	}
	return m.dir.writePair(alpnPrefix+domain, pair.PrivateKey, pair.Certificate)
}

// challengePath begins the path of a request of the challenge HTTP01 (RFC 8555, section 8.3).
const challengePath = "/.well-known/acme-challenge/"

// Handler answers the challenge HTTP01, and everything else with status 404.
func (m *Manager) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, ok := strings.CutPrefix(r.URL.Path, challengePath)
		if !ok || !named(token) {
			http.NotFound(w, r)
			return
		}
		text, err := os.ReadFile(m.dir.path(httpPrefix + token))
		if err != nil {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(text) // the CA asks again
	})
}

// challenged returns the configuration that answers the challenge TLSALPN01 (RFC 8737); nil for
// the handshake of a client.
func (m *Manager) challenged(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if len(hello.SupportedProtos) != 1 || hello.SupportedProtos[0] != acme.ALPNProto {
		return nil, nil
	}
	domain := strings.ToLower(hello.ServerName)
	if !slices.Contains(m.opt.Domains, domain) {
		return nil, fmt.Errorf("acme: no challenge for %q", hello.ServerName)
	}
	pair, err := m.dir.pair(alpnPrefix + domain)
	if err != nil {
		return nil, fmt.Errorf("acme: no challenge for %s", domain)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{acme.ALPNProto},
		Certificates: []tls.Certificate{*pair}}, nil
}
