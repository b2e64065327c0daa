package httpapi

import (
	"errors"
	"fmt"
	"net/http"

	"teamtalk/core/audit"
)

// auditCall records a call. by is nil when no app may make it. subjects returns the
// users and groups that it is about. Refusals without an app are limited.
func (s *Server) auditCall(r *http.Request, by *app, call string, subjects func() string,
	err error) {
	if s.opt.Audit == nil || by == nil && !s.mayRecord(r) {
		return
	}
	e := audit.Event{Kind: audit.Call, From: remote(r).String(), What: call + subjects()}
	e.Result, e.Detail = outcome(err)
	if by != nil {
		e.By = "app " + by.Name
	}
	s.opt.Audit.Record(e)
}

// mayRecord counts a line of the audit log about a caller that nobody knows. It returns false when
// the log has had too many of its address, so that strangers neither fill a disk nor hide other
// lines. The metrics have all.
func (s *Server) mayRecord(r *http.Request) bool { return s.lines.try(remote(r), s.opt.Now()) }

// auditRegister records a registration. user is 0 when no user was added. Such refusals are
// limited.
func (s *Server) auditRegister(r *http.Request, name string, user uint32, err error) {
	if s.opt.Audit == nil || err != nil && !s.mayRecord(r) {
		return
	}
	e := audit.Event{Kind: audit.Register, User: user, Name: name, From: remote(r).String()}
	e.Result, e.Detail = outcome(err)
	s.opt.Audit.Record(e)
}

// auditResults are the results of the audit log for the values of error_code.
var auditResults = map[int]string{codeBad: audit.BadRequest, codeKey: audit.WrongKey,
	codeDenied: audit.Denied, codeUnknown: audit.NotFound, codeClosed: audit.Closed,
	codeTooMany: audit.TooMany}

// outcome returns the result of a call, and the words of its answer.
func outcome(err error) (result, detail string) {
	if err == nil {
		return audit.OK, ""
	}
	detail = err.Error()
	if f := (*failure)(nil); errors.As(err, &f) {
		detail = f.text
		if result = auditResults[f.code]; result != "" {
			return result, detail
		}
	}
	return audit.Failed, detail
}

// listed is how many users of a call the audit log names.
const listed = 20

// some returns the first of the users, and how many there are.
func some(users []uint32) string {
	if len(users) <= listed {
		return fmt.Sprintf("users=%d", users)
	}
	return fmt.Sprintf("users=%d of %d", users[:listed], len(users))
}

// The methods subjects return the users and groups that a call is about, without contents.

func (q *createGroupRequest) subjects() string {
	return fmt.Sprintf(" as=%d %s", q.As, some(q.Members))
}

func (q *changeMembersRequest) subjects() string {
	return fmt.Sprintf(" as=%d group=%d type=%d %s", q.As, q.Group, q.Type, some(q.Users))
}

func (q *sendMessageRequest) subjects() string {
	if q.Group != 0 {
		return fmt.Sprintf(" as=%d group=%d", q.As, q.Group)
	}
	return fmt.Sprintf(" as=%d user=%d", q.As, q.User)
}

func (q *userStatusRequest) subjects() string { return " " + some(q.Users) }

func (q *kickUserRequest) subjects() string { return fmt.Sprintf(" user=%d", q.User) }
