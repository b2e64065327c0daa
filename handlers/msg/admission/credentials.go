package admission

import (
	"bytes"
	"sync"
	"sync/atomic"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/link"
	"teamtalk/core/mono"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// A user that is disabled, or whose password is changed, is disconnected within seconds,
// whichever program changed it in the database. The server asks a db_proxy every two
// seconds which users were changed, and compares the credential of each with the one that
// the login of its clients was checked against.
//
// A db_proxy of the first implementation does not know the request. So the server asks
// only after a db_proxy sent a credential with a login, and sends the request with the
// key of that login, which leads to the same db_proxy.

const (
	// credentialsEvery is the interval of the requests.
	credentialsEvery = 2 * time.Second
	// credentialsAge is more than the age of an answer. A client whose login was checked
	// later than this before the request may know a newer password than the answer. The
	// next answer contains the change again.
	credentialsAge = 2 * time.Second
	// credentialsFresh is how long after its check a login is accepted. An answer
	// contains a change for a minute after it was made, so a change during the check is
	// found in an answer after the login.
	credentialsFresh = 30 * time.Second
	// everyCredential is the time of the first request when none was answered within
	// credentialsFresh: changes may have been missed, so all users are requested.
	everyCredential = 1
)

// The texts of clients that are disconnected, beside a reason that all clients know.
const (
	textDisabled = "帐号已停用 (the account is disabled)"
	textPassword = "密码已更改，请重新登录 (the password was changed)"
)

// credentials is what is known of the changes of users. Any goroutine.
type credentials struct {
	mu    sync.Mutex
	known bool   // a db_proxy has sent a credential
	key   uint64 // of the last login with one
	first time.Time

	since, after uint32 // of the next request
	asking, more bool

	// due is when the next request is due, as mono.Of; 0: not known. Changed with mu held.
	due atomic.Int64
}

// dueOn returns when the next request is due, in Millis of l, rounded up to whole seconds, so
// that the request wakes the loop at no time of its own. Loop only.
func (c *credentials) dueOn(l *session.Loop) int64 {
	due := c.due.Load()
	if due == 0 {
		return session.Never
	}
	wait := time.Duration(due - mono.Of(l.Now()))
	if wait <= 0 {
		return 0
	}
	return session.WholeSecond(l.At(l.Now().Add(wait)))
}

// learn notes that the db_proxy with a key knows credentials.
func (c *credentials) learn(key uint64, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.known {
		c.known, c.first = true, now
		c.due.Store(mono.Of(now))
	}
	c.key = key
}

// next returns the request that is due, and its key.
func (c *credentials) next(now time.Time) (req *pb.IMCredentialsReq, key uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, due := mono.Of(now), c.due.Load()
	if !c.known || at < due {
		return nil, 0
	}
	if due += int64(credentialsEvery); due <= at { // otherwise the interval stays even
		due = at + int64(credentialsEvery)
	}
	c.due.Store(due)
	if c.asking {
		return nil, 0
	}
	if c.since == 0 && now.Sub(c.first) > credentialsFresh {
		c.since = everyCredential
	}
	c.asking, c.more = true, false
	req = &pb.IMCredentialsReq{}
	req.SetSince(c.since)
	req.SetAfter(c.after)
	return req, c.key
}

// answered notes the answer to the request; nil: it failed, and is repeated. It reports
// whether the next request is due at once.
func (c *credentials) answered(rsp *pb.IMCredentialsRsp, now time.Time) (more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asking = false
	if rsp != nil {
		c.since, c.after, c.more = rsp.GetNextSince(), rsp.GetNextAfter(), rsp.GetMore()
	}
	if c.more {
		c.due.Store(mono.Of(now))
	}
	return c.more
}

// ask sends the request of a handler for changed users when it is due. Any goroutine.
func (c *credentials) ask(h *Handler, now time.Time) {
	req, key := c.next(now)
	if req == nil {
		return
	}
	h.users.Call(nil, key, 0, req, func(rsp pb.Message, err error) {
		m, err := link.Answer[*pb.IMCredentialsRsp](rsp, err)
		if err != nil {
			h.often.credentials.Warn(h.log, h.opt.Now(), "changed users not read", err)
			c.answered(nil, h.opt.Now())
			return
		}
		for _, user := range m.GetList() {
			for _, s := range h.online.Of(user.GetUserId()) {
				s.Loop().Post(func() { h.compare(s, user, now) })
			}
		}
		if c.answered(m, h.opt.Now()) {
			h.opt.Reconsider()
		}
	})
}

// compare ends the session of a client that could not log in any more. asked is when the
// credential was requested. Loop only.
func (h *Handler) compare(s *session.Client, now *pb.Credential, asked time.Time) {
	c := h.opt.Client(s)
	if s.IsClosed() || c.login != loggedIn ||
		c.checked+int64(credentialsAge) > mono.Of(asked) {
		return
	}
	n := notice{reason: pb.KickReasonType_KICK_REASON_DUPLICATE_USER}
	switch {
	case im.UserStatus(now.GetStatus()) != im.StatusOK:
		n.label, n.text = "disabled", textDisabled
	case len(c.credential) == 0 || bytes.Equal(c.credential, now.GetCredential()):
		return
	case now.GetMoved() && len(c.credential) == im.MD5Credential:
		// The row was stored in another form: the password is that of the login. A later
		// change is noticed by the new credential.
		c.credential = now.GetCredential()
		return
	default:
		n.label, n.text = "password", textPassword
	}
	h.others.Lock()
	defer h.others.Unlock()
	if h.dismiss(s, n) {
		h.others.Left(s)
		h.log.Info("client disconnected", "conn", s.ID(), "user", s.User, "reason", n.label)
	}
}

// note keeps what a client's login was checked against. key is that of the login. Loop
// only.
func (h *Handler) note(s *session.Client, key uint64, v *pb.IMValidateRsp) {
	c := h.opt.Client(s)
	now := s.Loop().Now()
	c.checked, c.credential = mono.Of(now), v.GetCredential()
	if len(c.credential) > 0 {
		h.credentials.learn(key, now)
	}
}

// stale reports whether a login was checked so long ago that it must be checked again.
// Loop only.
func (h *Handler) stale(s *session.Client) bool {
	return mono.Of(s.Loop().Now())-h.opt.Client(s).checked > int64(credentialsFresh)
}
