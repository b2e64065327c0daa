// Package acme obtains the certificate of the TLS ports from a CA with the ACME protocol (RFC
// 8555), such as Let's Encrypt or a private step-ca, and renews it.
//
// A handshake never waits for the CA: it shows the certificate that was read last. One goroutine
// orders and renews (Run).
//
// All state is in a folder: the key of the account, the certificate, and the answers to the
// challenges of an order. Processes that share the folder share the certificate. A lock lets one
// of them order at a time, the others find its result, and each of them can answer the CA.
package acme

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/backoff"
	"teamtalk/core/obs"
)

// The challenges: what the CA asks for to see that a domain leads here.
const (
	// HTTP01 is a request to port 80 of the domain, which Handler answers.
	HTTP01 = "http-01"
	// TLSALPN01 is a TLS handshake on port 443 of the domain, which Config answers.
	TLSALPN01 = "tls-alpn-01"
)

// Options configure a Manager. All but Email, Roots and Registerer are required.
type Options struct {
	// Domains are the names that the certificate holds.
	Domains []string
	// Email is where the CA reports problems. Default: none.
	Email string
	// Directory is the URL of the CA's directory.
	Directory string
	// Roots are the CAs that may have signed the certificate of Directory. Default: those of
	// the system.
	Roots *x509.CertPool
	// Folder holds the state. It is made when missing, and only its owner may read it.
	Folder string
	// Challenge is HTTP01 or TLSALPN01.
	Challenge string
	// Log gets the results of orders.
	Log *slog.Logger
	// Registerer gets the metrics. Default: none.
	Registerer prometheus.Registerer
}

// Manager is a certificate from a CA. Any goroutine.
type Manager struct {
	opt     Options
	dir     folder
	current atomic.Pointer[tls.Certificate] // nil: none yet
	wake    chan struct{}
	orders  *prometheus.CounterVec

	mu     sync.Mutex
	read   string // state of the certificate's file that was read last
	failed error  // of the last order; nil after one that succeeded
}

// Open reads the certificate from the folder, which may have none yet. Run gets one then.
func Open(o Options) (*Manager, error) {
	dir, err := openFolder(o.Folder, o.Directory)
	if err != nil {
		return nil, err
	}
	m := &Manager{opt: o, dir: dir, wake: make(chan struct{}, 1),
		orders: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "teamtalk_tls_acme_orders_total",
			Help: "Certificates that were ordered from the CA, by result.",
		}, []string{"result"})}
	if err := m.look(); err != nil {
		o.Log.Warn("certificate in the folder not usable, a new one will be ordered", "err", err)
	}
	if o.Registerer != nil {
		o.Registerer.MustRegister(m.orders, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "teamtalk_tls_certificate_end_seconds",
			Help: "Time at which the certificate of the TLS ports ends, in seconds since 1970; " +
				"0 without one.",
		}, func() float64 {
			if c := m.current.Load(); c != nil {
				return float64(c.Leaf.NotAfter.Unix())
			}
			return 0
		}))
	}
	return m, nil
}

// errNone is the end of a handshake before the first certificate.
var errNone = errors.New("acme: no certificate yet")

// Config returns the configuration of a server that shows the certificate, and that answers the
// challenge TLSALPN01. min is the oldest version that clients may use.
func (m *Manager) Config(min uint16) *tls.Config {
	return &tls.Config{MinVersion: min,
		GetConfigForClient: m.challenged,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			if c := m.current.Load(); c != nil {
				return c, nil
			}
			return nil, errNone
		}}
}

// End returns the time at which the certificate ends; zero without one.
func (m *Manager) End() (end time.Time) {
	if c := m.current.Load(); c != nil {
		end = c.Leaf.NotAfter
	}
	return end
}

// Reload reads the folder, and lets Run order at once what it would order after a pause.
func (m *Manager) Reload() error {
	select {
	case m.wake <- struct{}{}:
	default: // it will wake
	}
	return m.look()
}

// Prepare returns a function that does what Reload does, and logs an error. The certificate in the
// folder is the CA's, and no setting.
func (m *Manager) Prepare() (use func(), err error) {
	return func() {
		if err := m.Reload(); err != nil {
			m.opt.Log.Error("certificate not read again, the one before stays", "err", err)
		}
	}, nil
}

// Ready returns the reason why TLS does not work: there is no certificate yet. An order that
// failed is no reason while there is one.
func (m *Manager) Ready(context.Context) error {
	m.mu.Lock()
	failed := m.failed
	m.mu.Unlock()
	switch {
	case m.current.Load() != nil:
		return obs.Degraded(failed)
	case failed != nil:
		return failed
	}
	return fmt.Errorf("no certificate from %s yet", m.opt.Directory)
}

// WarnEnds logs when the certificate should have been renewed long ago.
func (m *Manager) WarnEnds(now time.Time) {
	c := m.current.Load()
	if c == nil {
		return
	}
	end := c.Leaf.NotAfter
	switch left, life := end.Sub(now), end.Sub(c.Leaf.NotBefore); {
	case left <= 0:
		m.opt.Log.Error("the certificate has ended, and the CA gave no new one", "end", end)
	case left < life/5:
		m.opt.Log.Warn("the certificate ends soon, and the CA gave no new one", "end", end)
	}
}

// The times of Run.
const (
	// lookEvery is the time between two looks into the folder, where another process may have
	// put a certificate.
	lookEvery = time.Minute
	// pause is the least time between two orders.
	pause = 10 * time.Second
	// orderTimeout bounds an order, and the wait for one of another process.
	orderTimeout = 5 * time.Minute
)

// retry has few enough attempts in the first hour for the limits of Let's Encrypt, which allows
// five that fail.
var retry = backoff.Policy{First: 2 * time.Minute, Recent: time.Hour, Fresh: time.Hour,
	Max: time.Hour, Spread: 0.1}

// Run orders a certificate when there is none, and renews it in the last third of its life. It
// returns when ctx ends.
func (m *Manager) Run(ctx context.Context) {
	failures, after := 0, time.Time{} // no order before that time
	for ctx.Err() == nil {
		if err := m.look(); err != nil {
			m.opt.Log.Warn("certificate in the folder not usable", "err", err)
		}
		switch now := time.Now(); {
		case now.Before(m.due()):
			failures = 0
			m.settled() // another process may have ordered it
		case !now.Before(after):
			wait := pause
			if err := m.obtain(ctx); err != nil && ctx.Err() == nil {
				wait = max(pause, retry.Delay(failures, 0, rand.Float64()))
				failures++
				m.note(err, wait)
			} else if err == nil {
				failures = 0
				m.note(nil, 0)
			}
			after = time.Now().Add(wait)
		}
		due := m.due()
		if due.Before(after) {
			due = after
		}
		t := time.NewTimer(min(lookEvery, max(0, time.Until(due))))
		select {
		case <-t.C:
		case <-m.wake:
			after = time.Time{}
		case <-ctx.Done():
		}
		t.Stop()
	}
}

// settled forgets that an order failed: none is needed now.
func (m *Manager) settled() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failed = nil
}

// note keeps and logs the result of an order.
func (m *Manager) note(err error, wait time.Duration) {
	m.mu.Lock()
	m.failed = err
	m.mu.Unlock()
	if err == nil {
		m.opt.Log.Info("certificate of the CA in use", "domains", m.opt.Domains, "end", m.End())
		return
	}
	m.orders.WithLabelValues("failed").Inc()
	if m.current.Load() == nil {
		m.opt.Log.Error("no certificate from the CA (section tls.acme): clients cannot use TLS "+
			"yet. SIGHUP tries again at once", "err", err, "next", wait.Round(time.Second))
		return
	}
	m.opt.Log.Error("no certificate from the CA (section tls.acme); the one before stays. SIGHUP "+
		"tries again at once", "err", err, "next", wait.Round(time.Second), "end", m.End())
}

// due returns the time from which the certificate should be replaced; zero: now.
func (m *Manager) due() time.Time {
	c := m.current.Load()
	if c == nil || slices.ContainsFunc(m.opt.Domains, func(d string) bool {
		return c.Leaf.VerifyHostname(d) != nil
	}) {
		return time.Time{}
	}
	return c.Leaf.NotAfter.Add(-c.Leaf.NotAfter.Sub(c.Leaf.NotBefore) / 3)
}

// fresh returns why the certificate that the CA gave must be replaced at once; nil when it need
// not. Such a result counts as a failure: a clock that is wrong by weeks must not order one
// certificate after the other, since a CA gives only a few of them a week.
func (m *Manager) fresh() error {
	if !time.Now().Before(m.due()) {
		return fmt.Errorf("the new certificate ends at %v, and would have to be renewed already, "+
			"or lacks a domain: look at the clock of this machine", m.End())
	}
	return nil
}

// look reads the certificate in the folder, unless it is the one that was read last.
func (m *Manager) look() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	state, err := m.dir.state(certificateFile)
	if err != nil || state == m.read {
		return err
	}
	c, err := m.dir.pair(certificateFile)
	if err == nil {
		m.current.Store(c)
	}
	// A file that could not be read, such as for want of file descriptors, is read again.
	if !errors.As(err, new(*fs.PathError)) {
		m.read = state
	}
	return err
}
