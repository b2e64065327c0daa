package adminapi

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"

	"teamtalk/core/audit"
	"teamtalk/handlers/adminapi/tokens"
)

// subject is a request that names what it is about beyond its path, without contents.
type subject interface{ subjects() string }

// subjects returns what a lookup of messages is about.
func (q *GetMessages) subjects() string {
	if q.Group != 0 {
		return fmt.Sprintf(" user=%d group=%d ids=%d", q.User, q.Group, q.IDs[:min(len(q.IDs), 20)])
	}
	return fmt.Sprintf(" user=%d peer=%d ids=%d", q.User, q.Peer, q.IDs[:min(len(q.IDs), 20)])
}

// subjects returns how a file is read.
func (q *ImportUsers) subjects() string {
	if q.DryRun {
		return " dry_run"
	}
	return ""
}

// auditResults are the results of the audit log for the codes of errors.
var auditResults = map[string]string{"invalid": audit.BadRequest, "no_token": audit.WrongKey,
	"wrong_token": audit.WrongKey, "denied": audit.Denied, "not_found": audit.NotFound,
	"too_many": audit.TooMany}

// record writes a call to the audit log: a change, a call that reads messages, and one whose
// token was refused. in is nil when it was. A session that has ended is no attempt to get in: the
// page goes back to its sign-in.
func (s *Server) record(rt *route, r *http.Request, t tokens.Token, in any, err error) {
	if (rt.role == tokens.ReadOnly || rt.quiet) && in != nil {
		return
	}
	if err != nil && failed(err).code == "no_session" {
		return
	}
	what := rt.name + " " + r.Method + " " + r.URL.Path
	if q, ok := in.(subject); ok {
		what += q.subjects()
	}
	s.write(r, t, what, err)
}

// write writes an event to the audit log, if there is one. Refusals of callers without a valid
// token are limited.
func (s *Server) write(r *http.Request, t tokens.Token, what string, err error) {
	if s.opt.Audit == nil || t.Name == "" && err != nil && !s.mayRecord(r) {
		return
	}
	e := audit.Event{Kind: audit.AdminCall, From: remote(r).String(), What: what,
		Result: audit.OK}
	if t.Name != "" {
		e.By = "token " + t.Name
	}
	if err != nil {
		f := failed(err)
		e.Result, e.Detail = audit.Failed, audit.Detail(err, f.text)
		if known := auditResults[f.code]; known != "" {
			e.Result = known
		}
	}
	s.opt.Audit.Record(e)
}

// listed is how many names of a list the audit log has.
const listed = 20

// some returns the first names of a list after a word, and their number; nothing without any.
func some(word string, names []string) string {
	switch {
	case len(names) == 0:
		return ""
	case len(names) > listed:
		return fmt.Sprintf("%s=%s of %d", word, names[:listed], len(names))
	}
	return fmt.Sprintf("%s=%s", word, names)
}

// remote returns the address of the caller.
func remote(r *http.Request) netip.Addr {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}
	}
	return addr.Unmap()
}
