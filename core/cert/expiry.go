package cert

import (
	"context"
	"crypto/x509"
	"log/slog"
	"time"
)

// soon is the longest time before the end of a certificate in which the log warns. A
// certificate of a short life is renewed later: the log warns in the last third of its life.
const soon = 30 * 24 * time.Hour

// warnEnds logs a warning for each certificate of a file that ends soon, and an error for each
// that has ended.
func warnEnds(log *slog.Logger, file string, certs []*x509.Certificate, now time.Time) {
	for _, c := range certs {
		log := log.With("file", file, "name", c.Subject.CommonName, "end", text(c.NotAfter))
		left := c.NotAfter.Sub(now)
		switch {
		case left <= 0:
			log.Error("a certificate has ended: replace the file and send SIGHUP")
		case left < min(soon, c.NotAfter.Sub(c.NotBefore)/3):
			log.Warn("a certificate ends soon: replace the file and send SIGHUP",
				"days", int(left/(24*time.Hour)))
		}
	}
}

// WarnEnds logs which certificates of the file end soon or have ended at the time now.
func (f *Files) WarnEnds(now time.Time) {
	warnEnds(f.opt.Log, f.opt.Certificate, chain(f.current.Load()), now)
}

// WarnEnds logs which certificates end soon or have ended at the time now: the own one, and that
// of the CA that signed it.
func (p *Peers) WarnEnds(now time.Time) {
	p.files.WarnEnds(now)
	if root := p.root.Load(); !root.Equal(p.files.current.Load().Leaf) {
		warnEnds(p.files.opt.Log, p.ca, []*x509.Certificate{root}, now)
	}
}

// Watch calls WarnEnds of all once a day. It returns when ctx ends.
func Watch(ctx context.Context, all ...interface{ WarnEnds(now time.Time) }) {
	day := time.NewTicker(24 * time.Hour)
	defer day.Stop()
	for {
		select {
		case <-day.C:
		case <-ctx.Done():
			return
		}
		for _, w := range all {
			w.WarnEnds(time.Now())
		}
	}
}
