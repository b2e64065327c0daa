// Package audit writes the audit log: logins with their addresses, refused logins, sessions
// that the server ended, and what administrators and other systems did. It holds no contents
// of messages, no passwords and no keys.
//
// An event is a line of JSON, in a file, in syslog, or in both. Servers hand events to a
// queue, so that a slow disk delays no login. EVENTS.md describes them for operators.
package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/mono"
	"teamtalk/core/obs"
)

// The kinds of events.
const (
	// Login is a login that was admitted, LoginRefused one that was not: Result says why.
	Login        = "login"
	LoginRefused = "login_refused"
	// Logout is the end of a session that its client asked for or whose connection ended.
	Logout = "logout"
	// Kick is the end of a session by the server: Result says why.
	Kick = "kick"
	// Register is a user that registered itself, or tried to.
	Register = "register"
	// Call is a call of another system, through the HTTP API.
	Call = "call"
	// AdminCall is a call of an administrator, through the admin API.
	AdminCall = "admin_call"
	// Command is a command of an administrator, in a shell of the machine.
	Command = "command"
)

// Event is something that was done, or tried. Fields without a value are left out.
type Event struct {
	Kind string `json:"event"`
	// By is the system or the administrator that acts. Empty: the user itself.
	By string `json:"by,omitempty"`
	// User and Name are the user that it is about.
	User uint32 `json:"user,omitempty"`
	Name string `json:"name,omitempty"`
	// From is the address of the client, without its port.
	From string `json:"from,omitempty"`
	// Client is the type of the client, such as pb.ClientType_CLIENT_TYPE_ANDROID.
	Client string `json:"client,omitempty"`
	// Version is what the client calls itself.
	Version string `json:"version,omitempty"`
	// Conn is the number of the connection, as in the log.
	Conn uint64 `json:"conn,omitempty"`
	// What names the call or command, and its subjects.
	What string `json:"what,omitempty"`
	// Result is OK, or the reason why it was not done: one of the constants of this package,
	// which are codes for programs.
	Result string `json:"result"`
	// Detail says more than Result, in English, for people.
	Detail string `json:"detail,omitempty"`
}

// maxText is the length of the longest text in an event, in bytes. The rest is cut off:
// names and versions come from outside. With it a line fits in one write to a file, which
// is whole even if several processes write to the same file.
const maxText = 256

// Options configure a Log.
type Options struct {
	// File is the path of the file that lines are added to. Empty: no file.
	File string
	// Syslog is "local" for the syslog of this machine, or the URL of another one, such as
	// udp://10.0.0.9:514. Empty: none.
	Syslog string
	// Keep is how many of the last events Recent returns, of each class. With it a Log needs
	// no place. Default: none.
	Keep int
	// Queue is how many lines may wait to be written. Default 8192.
	Queue int
	// Now returns the current time. Default mono.Now.
	Now func() time.Time
	// Log gets failures. Required.
	Log *slog.Logger
	// Registerer gets the metrics. Default: none.
	Registerer prometheus.Registerer
}

// Log is an audit log. Methods of a nil Log do nothing. Any goroutine.
type Log struct {
	opt    Options
	file   *file // nil: none
	places []*place
	events *prometheus.CounterVec // by kind
	recent recent

	mu     sync.RWMutex // closed, against sends to places
	closed bool
}

// Open opens the places that lines go to. It returns nil when there are none, and none to keep.
func Open(o Options) (*Log, error) {
	if o.File == "" && o.Syslog == "" && o.Keep <= 0 {
		return nil, nil
	}
	if o.Queue <= 0 {
		o.Queue = 8192
	}
	if o.Now == nil {
		o.Now = mono.Now
	}
	l := &Log{opt: o, events: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "teamtalk_audit_events_total", Help: "Events for the audit log, by kind.",
	}, []string{"event"})}
	l.recent.keep = o.Keep
	lost := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "teamtalk_audit_lost_total",
		Help: "Lines that are missing in the audit log, by place (file, syslog) and reason: " +
			"queue (too many waited), write (writing failed), closed (the process was ending).",
	}, []string{"place", "reason"})
	if err := l.open(lost); err != nil {
		return nil, err
	}
	if o.Registerer != nil {
		o.Registerer.MustRegister(l.events, lost)
		for _, p := range l.places {
			o.Registerer.MustRegister(p.gauge())
		}
	}
	for _, p := range l.places {
		go p.run()
	}
	return l, nil
}

// open opens the file and the connection to syslog.
func (l *Log) open(lost *prometheus.CounterVec) error {
	if l.opt.File != "" {
		f, err := openFile(l.opt.File)
		if err != nil {
			return fmt.Errorf("audit log: %w (setting audit.file)", err)
		}
		l.file = f
		l.places = append(l.places, newPlace("file", f, &l.opt, lost))
	}
	if l.opt.Syslog != "" {
		w, err := dialSyslog(l.opt.Syslog)
		if err != nil {
			if l.file != nil {
				_ = l.file.Close()
			}
			return fmt.Errorf("audit log: %w (setting audit.syslog)", err)
		}
		l.places = append(l.places, newPlace("syslog", w, &l.opt, lost))
	}
	return nil
}

// Line is what is written for an event.
type Line struct {
	Time string `json:"time"` // RFC 3339, UTC
	Event
}

// Record writes an event. It does not block: a line that finds a full queue is lost and
// counted.
func (l *Log) Record(e Event) {
	if l == nil {
		return
	}
	l.events.WithLabelValues(e.Kind).Inc()
	made := l.line(e)
	l.recent.add(made)
	text := encode(made)
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, p := range l.places {
		p.take(text, l.closed)
	}
}

// line returns the line of an event.
func (l *Log) line(e Event) Line {
	for _, s := range []*string{&e.By, &e.Name, &e.From, &e.Client, &e.Version, &e.What,
		&e.Result, &e.Detail} {
		*s = cut(*s)
	}
	return Line{l.opt.Now().UTC().Format(time.RFC3339Nano), e}
}

// encode returns a line as text.
func encode(made Line) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	// Strings and numbers always encode; what is no UTF-8 is replaced.
	_ = enc.Encode(made)
	return obs.EscapeJSON(b.Bytes())
}

// cut returns the first maxText bytes of s, without half a character at the end.
func cut(s string) string {
	if len(s) <= maxText {
		return s
	}
	end := maxText
	for end > 0 && s[end]&0xC0 == 0x80 {
		end--
	}
	return s[:end] + "…"
}

// Reopen opens the file again, under its name: a program that rotates logs has moved it
// away. After an error lines go to the old file.
func (l *Log) Reopen() error {
	if l == nil || l.file == nil {
		return nil
	}
	return l.file.reopen()
}

// Failing returns why lines are lost now: the last one could not be written, or too many wait.
// It returns nil while lines are written.
func (l *Log) Failing() error {
	if l == nil {
		return nil
	}
	var errs []error
	for _, p := range l.places {
		errs = append(errs, p.failing())
	}
	return errors.Join(errs...)
}

// Close writes what waits and closes the log, or gives up when ctx ends. Events after it are
// lost.
func (l *Log) Close(ctx context.Context) error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	first := !l.closed
	l.closed = true
	l.mu.Unlock()
	if !first {
		return nil
	}
	var errs []error
	for _, p := range l.places {
		errs = append(errs, p.close(ctx))
	}
	return errors.Join(errs...)
}
