package dbproxy

import (
	"context"
	"hash/maphash"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/router"
	"teamtalk/core/session"
	"teamtalk/handlers/dbproxy/directory"
	"teamtalk/handlers/dbproxy/gather"
	"teamtalk/handlers/dbproxy/lockout"
	"teamtalk/handlers/dbproxy/passwords"
	"teamtalk/handlers/dbproxy/refusal"
	"teamtalk/proto/pb"
)

// Result codes of IMValidateRsp, and the texts with them, which clients show to their
// users.
const (
	validateOK     = 0
	validateWrong  = 1 // unknown user or wrong password; the answer does not tell which
	validateFailed = 2 // the login could not be checked
	validateLocked = 6

	textOK     = "成功"
	textWrong  = "用户名/密码错误"
	textFailed = "服务端内部错误"
	textBusy   = "服务器繁忙，请稍后再试"
	textLocked = "用户名/密码错误次数太多"
)

// maxName is the longest login name that is looked up, in bytes: 32 characters of
// utf8mb4.
const maxName = 4 * im.MaxName

// logins checks names and passwords.
//
// Logins arrive in storms: when a message server restarts, all of its clients log in at
// once, and each login is a lookup by name. So the logins that arrive during a lookup are
// looked up together in the next one, those with the same name in the order of their
// arrival.
//
// A password that needs a derivation is checked elsewhere, see package passwords. Its login
// is then added again with the answer, and looked up again: the locks, and the
// row, are those of the time at which it is decided. An answer that was derived for another
// row does not count.
type logins struct {
	*runner
	store     accounts
	guard     *lockout.Guard
	passwords *passwords.Checker
	seed      maphash.Seed
	open      gather.Gatherer[*login]
}

// accounts is what logins needs of the store.
type accounts interface {
	AccountsByName(ctx context.Context, names []string) ([]im.Account, error)
}

func newLogins(r *runner, store im.Store, opt *Options) *logins {
	guard := lockout.New(lockout.Options{Limits: opt.Lock, Store: store,
		Timeout:  opt.Timeout / 2, // the request can still be answered then
		StoreNow: func() time.Time { return store.Now() },
		Now:      opt.Now, Log: opt.Log, Failed: r.metrics.countsUnavailable.Inc})
	checker := passwords.New(passwords.Options{Settings: opt.Passwords,
		Wait:  opt.Timeout / 2, // as above
		Store: store, Timeout: opt.Timeout,
		StoreNow: func() time.Time { return store.Now() }, Now: opt.Now, Stopped: r.stopped,
		Log: opt.Log, Registerer: opt.Registerer})
	ls := &logins{runner: r, store: store, guard: guard, passwords: checker,
		seed: maphash.MakeSeed()}
	ls.open.Do = func(key uint64, f func(context.Context)) error { return r.tasks.Do(key, f) }
	ls.open.Run, ls.open.Failed = ls.checkLogins, ls.failed
	return ls
}

func (ls *logins) register() { router.Handle(ls.router, router.Public, ls.handleValidate) }

// nameKey returns the same key for nearly all spellings of a name. im.LoginStore.NameKeys
// tells all of them.
func (ls *logins) nameKey(name string) uint64 {
	return maphash.String(ls.seed, strings.ToLower(strings.TrimRight(name, " ")))
}

// login is one login that is not answered yet.
type login struct {
	request
	m *pb.IMValidateReq

	derived passwords.Answer // of the last derivation
	asked   int              // derivations so far
}

// maxAsked is the number of derivations for one login. More than one are needed when its
// row changes meanwhile.
const maxAsked = 3

// handleValidate accepts a login.
func (ls *logins) handleValidate(ses *session.Link, seq uint16, m *pb.IMValidateReq) error {
	l := &login{request: request{session: ses, seq: seq, cmd: m.Command(), came: ls.now()}, m: m}
	err := ls.begin()
	if err == nil {
		if err = ls.addLogin(l); err != nil {
			ls.end()
		}
	}
	if err != nil {
		ls.notValidated(l, err)
	}
	return err
}

// addLogin adds a login to those that are looked up next.
func (ls *logins) addLogin(l *login) error {
	return ls.open.Add(ls.nameKey(l.m.GetUserName()), l)
}

// failed ends a login that was added, and could not be looked up.
func (ls *logins) failed(l *login, err error) {
	ls.notValidated(l, err)
	ls.end()
}

// checkLogins looks up a batch of logins and answers them in order, except those that wait
// for the derivation of their password.
func (ls *logins) checkLogins(ctx context.Context, batch []*login) {
	defer func() {
		for _, l := range batch {
			if l == nil { // it waits
				continue
			}
			if !l.done { // a panic, which the pool logs
				ls.notValidated(l, im.Errorf(im.Internal, "request failed"))
			}
			ls.end()
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, ls.timeout)
	defer cancel()
	now := ls.now()
	names := make([]string, 0, len(batch))
	places := make([]int, 0, len(batch)) // in batch
	for i, l := range batch {
		name := l.m.GetUserName()
		switch {
		case now.Sub(l.came) > ls.timeout:
			ls.notValidated(l, im.Errorf(im.Busy, "request waited longer than %s", ls.timeout))
		case name == "" || len(name) > maxName:
			ls.metrics.refusedLogins.WithLabelValues("unknown").Inc()
			ls.answer(&l.request, validated(l.m, validateWrong, textWrong, nil))
		default:
			names, places = append(names, name), append(places, i)
		}
	}
	if len(places) > 0 {
		ls.decide(ctx, batch, places, names)
	}
}

// decide decides the logins at some places of a batch. It replaces those that wait for the
// derivation of their password with nil.
func (ls *logins) decide(ctx context.Context, batch []*login, places []int, names []string) {
	open := make([]*login, len(places))
	for i, at := range places {
		open[i] = batch[at]
	}
	accounts, err := ls.store.AccountsByName(ctx, names)
	var round *lockout.Round
	if err == nil {
		round, err = ls.guard.Begin(ctx, attemptsOf(open, accounts))
	}
	if err != nil {
		ls.logFailure(&open[0].request, err)
		for _, l := range open {
			ls.notValidated(l, err)
		}
		return
	}
	answers := make([]*pb.IMValidateRsp, len(open))
	for i, l := range open {
		answers[i] = ls.validate(round, i, l, &accounts[i])
	}
	round.End(ctx)
	for i, l := range open {
		if answers[i] != nil {
			ls.answer(&l.request, answers[i])
		} else if err := ls.derive(round, i, l, &accounts[i]); err != nil {
			ls.notValidated(l, err)
		} else {
			batch[places[i]] = nil
		}
	}
}

// derive asks for the derivation of the password of login i of a round. Unless it fails, the
// login may be answered at any time from now on.
func (ls *logins) derive(round *lockout.Round, i int, l *login, account *im.Account) error {
	if l.asked++; l.asked > maxAsked {
		return im.Errorf(im.Busy, "the user's password changes all the time")
	}
	ask := loginOf(l.m, account)
	ask.Network, ask.Known = round.Origin(i)
	return ls.passwords.Ask(&ask, func(answer passwords.Answer, err error) {
		if l.derived = answer; err == nil {
			err = ls.addLogin(l)
		}
		if err != nil {
			ls.failed(l, err)
		}
	})
}

// loginOf returns a login in the form in which its password is checked.
func loginOf(m *pb.IMValidateReq, account *im.Account) passwords.Login {
	return passwords.Login{Account: account, Name: m.GetUserName(), Sent: m.GetPassword()}
}

// attemptsOf returns the logins in the form in which they are counted.
func attemptsOf(open []*login, accounts []im.Account) []lockout.Attempt {
	attempts := make([]lockout.Attempt, len(open))
	for i, l := range open {
		attempts[i] = lockout.AttemptOf(l.m, accounts[i].ID)
	}
	return attempts
}

// notValidated ends a login that could not be checked. It answers only a message server
// that can tell this result from a wrong password. A message server of the first
// implementation cannot: it answers every result with REFUSE_REASON_DB_VALIDATE_FAILED,
// its client shows that the password is wrong, and the Android client repeats the login
// at once, without end. Without an answer that server closes the connection 15 s after it
// was opened, and the client shows that the server does not work.
func (ls *logins) notValidated(l *login, err error) {
	ls.metrics.failures.WithLabelValues(l.cmd.String(), im.KindOf(err).String()).Inc()
	ls.suspects(err)
	if refusal.OfThisServer(err) {
		if refusal := ls.refusal(&l.request, l.m, err, true); refusal != nil {
			ls.answer(&l.request, refusal) // a look-up changes nothing: another one may try it
			return
		}
	}
	if !l.m.GetTellFailure() {
		ls.answer(&l.request, nil)
		return
	}
	text := textFailed
	if im.KindOf(err) == im.Busy {
		text = textBusy
	}
	ls.answer(&l.request, validated(l.m, validateFailed, text, nil))
}

// validate checks the name and password of login i of a round. account is the account of the
// name; its ID is 0 when there is none. Neither the answer nor the work tells whether there
// is one. The result is nil when the password needs a derivation first.
func (ls *logins) validate(round *lockout.Round, i int, l *login,
	account *im.Account) *pb.IMValidateRsp {
	m := l.m
	if reason := round.Locked(i); reason != lockout.Open {
		ls.metrics.refusedLogins.WithLabelValues(string(reason)).Inc()
		rsp := validated(m, validateLocked, textLocked, nil)
		if m.GetTellFailure() {
			rsp.SetLock(string(reason))
		}
		return rsp
	}
	ask := loginOf(m, account)
	verdict := ls.passwords.Look(&ask, l.derived)
	if verdict == passwords.Pending {
		return nil
	}
	if reason := lockout.Wrong(account, verdict == passwords.Right); reason != "" {
		ls.metrics.refusedLogins.WithLabelValues(reason).Inc()
		if locked := round.Failed(i); locked != lockout.Open {
			ls.metrics.locks.WithLabelValues(string(locked)).Inc()
			ls.log.Warn(locked.Text(), "role", "dbproxy", "user", account.ID, "name",
				m.GetUserName(), "client", lockout.ClientAddr(m))
		}
		return validated(m, validateWrong, textWrong, nil)
	}
	round.Passed(i)
	ls.passwords.Passed(account, m.GetPassword())
	rsp := validated(m, validateOK, textOK, directory.UserInfo(&account.User))
	if m.GetTellFailure() {
		rsp.SetCredential([]byte(im.CredentialDigest(account.Password, account.Salt)))
	}
	return rsp
}

func validated(m *pb.IMValidateReq, code uint32, text string, info *pb.UserInfo) *pb.IMValidateRsp {
	rsp := pb.IMValidateRsp_builder{UserName: proto.String(m.GetUserName()),
		ResultCode:   proto.Uint32(code),
		ResultString: proto.String(text), UserInfo: info}.Build()
	rsp.SetAttachData(m.GetAttachData())
	return rsp
}
