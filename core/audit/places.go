package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"log/syslog"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/obs"
)

// place is where lines go. Each has a queue and a goroutine of its own, so that a syslog that
// does not answer holds up no file.
type place struct {
	name  string
	w     io.WriteCloser
	lines chan []byte
	ended chan struct{}

	log  *slog.Logger
	now  func() time.Time
	lost *prometheus.CounterVec // by place and reason

	full, failed obs.Often
	fault        atomic.Pointer[error] // why lines are lost now; nil: they are written
	missing      atomic.Int64          // lines lost since they were written last
}

func newPlace(name string, w io.WriteCloser, o *Options, lost *prometheus.CounterVec) *place {
	return &place{name: name, w: w, lines: make(chan []byte, o.Queue), ended: make(chan struct{}),
		log: o.Log.With("place", name), now: o.Now, lost: lost}
}

// take queues a line.
func (p *place) take(line []byte, closed bool) {
	if closed {
		p.lost.WithLabelValues(p.name, "closed").Inc()
		return
	}
	select {
	case p.lines <- line:
	default:
		p.fail(fmt.Errorf("%d lines wait to be written, and more are lost", cap(p.lines)))
		p.lost.WithLabelValues(p.name, "queue").Inc()
		p.full.Warn(p.log, p.now(), "audit log: lines lost, because too many wait",
			"queue", cap(p.lines))
	}
}

// run writes the lines until close.
func (p *place) run() {
	defer close(p.ended)
	for line := range p.lines {
		if _, err := p.w.Write(line); err != nil {
			p.lost.WithLabelValues(p.name, "write").Inc()
			p.failed.Warn(p.log, p.now(), "audit log: line lost", "err", err)
			p.fail(err)
		} else if len(p.lines) <= cap(p.lines)/2 { // a queue that stays full loses lines
			p.recover()
		}
	}
}

// recover forgets why lines were lost, and logs that they are written again.
func (p *place) recover() {
	if p.fault.Load() == nil {
		return
	}
	p.fault.Store(nil)
	p.log.Info("audit log: lines are written again", "lost", p.missing.Swap(0))
}

// fail stores why a line was lost.
func (p *place) fail(err error) {
	p.missing.Add(1)
	err = fmt.Errorf("%s: %w", p.name, err)
	p.fault.Store(&err)
}

// failing returns why lines are lost now; nil when they are written.
func (p *place) failing() error {
	if err := p.fault.Load(); err != nil {
		return *err
	}
	return nil
}

// gauge returns the metric that says whether lines are lost now.
func (p *place) gauge() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "teamtalk_audit_failing",
		Help: "1 while lines for the audit log are lost, by place (file, syslog): the last one " +
			"could not be written, or too many wait.",
		ConstLabels: prometheus.Labels{"place": p.name},
	}, func() float64 {
		if p.failing() != nil {
			return 1
		}
		return 0
	})
}

// close writes the lines that wait, unless ctx ends first. No take may follow.
func (p *place) close(ctx context.Context) error {
	close(p.lines)
	select {
	case <-p.ended:
		return p.w.Close()
	case <-ctx.Done():
		return fmt.Errorf("audit log: %d lines to the %s are not written: %w", len(p.lines), p.name,
			ctx.Err())
	}
}

// file is a file that lines are added to.
type file struct {
	path  string
	mu    sync.Mutex
	f     *os.File
	doubt bool // the last line in the file may be a part of one
}

// openFile opens or makes a file. It is readable for its owner alone: it has addresses.
func openFile(path string) (*file, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	return &file{path: path, f: f, doubt: true}, nil
}

// Write adds a line. A full disk can leave a part of one, also of an earlier process: the
// next line does not continue it.
func (f *file) Write(line []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.doubt && endsInLine(f.path) {
		line = append([]byte("\n"), line...)
	}
	n, err := f.f.Write(line)
	f.doubt = err != nil
	return n, err
}

// endsInLine reports whether the last byte of a file is not the end of a line. It returns
// false for an empty file, and for what is no regular file.
func endsInLine(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return false
	}
	var last [1]byte
	_, err = f.ReadAt(last[:], info.Size()-1)
	return err == nil && last[0] != '\n'
}

// reopen opens the file of that name, which may be another one now.
func (f *file) reopen() error {
	now, err := openFile(f.path)
	if err != nil {
		return err
	}
	f.mu.Lock()
	old := f.f
	f.f, f.doubt = now.f, true
	f.mu.Unlock()
	return old.Close()
}

// Close closes the file.
func (f *file) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.f.Close()
}

// TrySyslog connects to the syslog of this machine and returns the error, if a value of
// Options.Syslog names that one. It connects to no other machine.
func TrySyslog(where string) error {
	if network, _, err := syslogAddr(where); err != nil || network != "" {
		return err
	}
	w, err := dialSyslog(where)
	if err != nil {
		return err
	}
	return w.Close()
}

// CheckSyslog returns the fault of a value of Options.Syslog.
func CheckSyslog(where string) error {
	_, _, err := syslogAddr(where)
	return err
}

// syslogAddr splits a value of Options.Syslog. network is empty for this machine's.
func syslogAddr(where string) (network, addr string, err error) {
	if where == "local" {
		return "", "", nil
	}
	u, err := url.Parse(where)
	if err != nil || u.Scheme != "udp" && u.Scheme != "tcp" || u.Hostname() == "" ||
		u.Port() == "" || u.Path != "" {
		// A URL may hold a password, so it is not quoted.
		return "", "", errors.New("want local, or a URL such as udp://10.0.0.9:514")
	}
	return u.Scheme, u.Host, nil
}

// dialSyslog connects to a syslog, in the form of RFC 3164, with the facility for security
// messages. It connects again by itself when the connection is lost.
func dialSyslog(where string) (io.WriteCloser, error) {
	network, addr, err := syslogAddr(where)
	if err != nil {
		return nil, err
	}
	w, err := syslog.Dial(network, addr, syslog.LOG_AUTHPRIV|syslog.LOG_INFO, "teamtalk")
	if err != nil {
		return nil, fmt.Errorf("syslog %s: %w", where, err)
	}
	return w, nil
}
