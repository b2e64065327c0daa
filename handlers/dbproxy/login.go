package dbproxy

import (
	"context"
	"hash/maphash"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// Result codes of IMValidateRsp, and the texts beside them, which clients show to people.
const (
	validateOK     = 0
	validateWrong  = 1 // no such user, or not this password: which of them is nobody's business
	validateFailed = 2 // could not be checked
	validateLocked = 6

	textOK     = "成功"
	textWrong  = "用户名/密码错误"
	textFailed = "服务端内部错误"
	textBusy   = "服务器繁忙，请稍后再试"
	textLocked = "用户名/密码错误次数太多"
)

// maxName is the longest login name looked up, in bytes: 32 characters of utf8mb4.
const maxName = 4 * 32

// nameKey is the same for all spellings of a name.
func (s *Server) nameKey(name string) uint64 { return maphash.String(s.seed, strings.ToLower(name)) }

// Logins come in storms – a server that comes back has all of its clients at once – and each is a look-up by name. So those that came while the look-up before was under
// way are looked up together. A login on an idle system waits for nobody.

// login is one on its way.
type login struct {
	request
	m *pb.IMValidateReq
}

// logins is a shard of them: those of one name always meet in the same, and are checked in the order they came.
type logins struct {
	mu      sync.Mutex
	waiting []*login
	running bool   // a task is posted, or runs
	turn    uint64 // tasks posted
}

const (
	// loginShards is how many look-ups may be under way at once: enough that one slow answer does not hold up everybody.
	loginShards = 4
	// maxLoginBatch is how many names one look-up is for, maxLoginsWaiting how many logins may wait in a shard: what comes then is told to try again later.
	maxLoginBatch    = 64
	maxLoginsWaiting = 4096
	// loginKeys is where the keys of their tasks begin: no user has them. loginTries is how many of them are tried when queues are full.
	loginKeys  = 1 << 62
	loginTries = 4
)

// handleValidate takes a login.
func (s *Server) handleValidate(ses *session.Session, seq uint16, m *pb.IMValidateReq) error {
	l := &login{request: request{session: ses, seq: seq, cmd: m.Command(), came: s.opt.Now()}, m: m}
	err := s.begin()
	if err == nil {
		if err = s.addLogin(l); err != nil {
			s.end()
		}
	}
	if err != nil {
		s.notValidated(l, err)
	}
	return err
}

// addLogin puts a login into its shard.
func (s *Server) addLogin(l *login) error {
	key := s.nameKey(l.m.GetUserName()) % loginShards
	g := &s.logins[key]
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.waiting) >= maxLoginsWaiting {
		return im.Errorf(im.Busy, "%d logins are waiting", len(g.waiting))
	}
	if !g.running {
		if err := s.postLogins(key); err != nil {
			return err
		}
		g.running = true
	}
	g.waiting = append(g.waiting, l)
	return nil
}

// postLogins has a shard's logins checked; the shard's mutex is held. Tasks share their queues with those of other keys, among them users who ask for very much. So each task
// has a key of its own: what stands in one queue does not keep a quarter of all users from logging in. There is one task of a shard at a time, so the order stays.
func (s *Server) postLogins(key uint64) (err error) {
	g := &s.logins[key]
	for range loginTries {
		g.turn++
		err = s.opt.Tasks.Do(loginKeys+g.turn*loginShards+key, func(ctx context.Context) { s.runLogins(ctx, key) })
		if im.KindOf(err) != im.Busy {
			break
		}
	}
	return err
}

// runLogins checks what waits in a shard, on a worker; with more left than one look-up is for, it goes to the end of a queue.
func (s *Server) runLogins(ctx context.Context, key uint64) {
	g := &s.logins[key]
	g.mu.Lock()
	batch := g.waiting
	g.waiting = nil
	if len(batch) > maxLoginBatch {
		batch, g.waiting = batch[:maxLoginBatch:maxLoginBatch], batch[maxLoginBatch:]
	}
	g.mu.Unlock()
	defer s.goOnWithLogins(key) // also after a panic
	s.checkLogins(ctx, batch)
}

// goOnWithLogins sees to it that what has come meanwhile is checked.
func (s *Server) goOnWithLogins(key uint64) {
	g := &s.logins[key]
	var left []*login
	var err error
	g.mu.Lock()
	if g.running = len(g.waiting) > 0; g.running {
		if err = s.postLogins(key); err != nil {
			left, g.waiting, g.running = g.waiting, nil, false
		}
	}
	g.mu.Unlock()
	for _, l := range left {
		s.notValidated(l, err)
		s.end()
	}
}

// checkLogins answers logins, each in its turn.
func (s *Server) checkLogins(ctx context.Context, batch []*login) {
	defer func() {
		for _, l := range batch {
			if !l.done { // a panic, which the pool logs
				s.notValidated(l, im.Errorf(im.Internal, "request failed"))
			}
			s.end()
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, s.opt.Timeout)
	defer cancel()
	now := s.opt.Now()
	names := make([]string, 0, len(batch))
	open := make([]*login, 0, len(batch))
	for _, l := range batch {
		name := l.m.GetUserName()
		switch {
		case now.Sub(l.came) > s.opt.Timeout:
			s.notValidated(l, im.Errorf(im.Busy, "request waited longer than %s", s.opt.Timeout))
		case name == "" || len(name) > maxName:
			s.metrics.refusedLogins.WithLabelValues("unknown").Inc()
			s.answer(&l.request, validated(l.m, validateWrong, textWrong, nil))
		default:
			names, open = append(names, name), append(open, l)
		}
	}
	if len(open) == 0 {
		return
	}
	accounts, err := s.store.AccountsByName(ctx, names)
	if err != nil {
		s.logFailure(&open[0].request, err)
	}
	for i, l := range open {
		if err != nil {
			s.notValidated(l, err)
			continue
		}
		s.answer(&l.request, s.validate(l.m, &accounts[i]))
	}
}

// notValidated ends a login that could not be checked. The asker is told so only if it can tell
// that from a wrong password. A message server of the first implementation cannot: it makes
// REFUSE_REASON_DB_VALIDATE_FAILED of every result, its client shows that the password is wrong,
// and the Android client repeats the login at once, without end. Without an answer that server
// closes the connection 15 s after it was opened, and the client takes it for what it is, a
// server that does not work.
func (s *Server) notValidated(l *login, err error) {
	s.metrics.failures.WithLabelValues(l.cmd.String(), im.KindOf(err).String()).Inc()
	if !l.m.GetTellFailure() {
		s.answer(&l.request, nil)
		return
	}
	text := textFailed
	if im.KindOf(err) == im.Busy {
		text = textBusy
	}
	s.answer(&l.request, validated(l.m, validateFailed, text, nil))
}

// validate checks a name and password. The account is that of the name, without an id when there is none.
func (s *Server) validate(m *pb.IMValidateReq, account *im.Account) *pb.IMValidateRsp {
	who := suspect{name: strings.ToLower(m.GetUserName())}
	known := account.ID != 0
	if known {
		who = suspect{id: account.ID} // the database knows more spellings of a name than ToLower
	}
	now := s.opt.Now()
	if s.lock.locked(who, now) {
		s.metrics.refusedLogins.WithLabelValues("locked").Inc()
		return validated(m, validateLocked, textLocked, nil)
	}
	if reason := refusal(known, account, m.GetPassword()); reason != "" {
		s.metrics.refusedLogins.WithLabelValues(reason).Inc()
		if s.lock.fail(who, m.GetPassword(), now) {
			s.metrics.locks.Inc()
			s.log.Warn("login name locked", "role", "dbproxy", "user", account.ID, "name", m.GetUserName())
		}
		return validated(m, validateWrong, textWrong, nil)
	}
	s.lock.clear(who)
	return validated(m, validateOK, textOK, userInfo(&account.User))
}

// refusal says why an account may not log in, "" when it may.
func refusal(known bool, a *im.Account, password string) string {
	switch {
	case !known:
		return "unknown"
	case !a.Check(password):
		return "password"
	case a.Status != im.StatusOK:
		return "status"
	}
	return ""
}

func validated(m *pb.IMValidateReq, code uint32, text string, info *pb.UserInfo) *pb.IMValidateRsp {
	rsp := pb.IMValidateRsp_builder{UserName: proto.String(m.GetUserName()), ResultCode: proto.Uint32(code),
		ResultString: proto.String(text), UserInfo: info}.Build()
	rsp.SetAttachData(m.GetAttachData())
	return rsp
}
