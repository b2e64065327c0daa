package dbproxy

import (
	"context"
	"hash/maphash"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/router"
	"teamtalk/core/session"
	"teamtalk/handlers/dbproxy/directory"
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
// looked up together in the next one. A login on an idle system does not wait.
//
// A password that needs a derivation is checked elsewhere, see package passwords. Its login
// then joins its shard again with the answer, and is looked up again: the locks, and the
// row, are those of the time at which it is decided. An answer that was derived for another
// row does not count.
type logins struct {
	*runner
	store     accounts
	guard     *lockout.Guard
	passwords *passwords.Checker
	seed      maphash.Seed
	shards    [loginShards]loginShard
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
	checker := passwords.New(passwords.Options{Policy: opt.Passwords.Policy,
		Workers: opt.Passwords.Workers, Remember: opt.Passwords.Remember,
		Wait:  opt.Timeout / 2, // as above
		Store: store, Timeout: opt.Timeout,
		StoreNow: func() time.Time { return store.Now() }, Now: opt.Now, Stopped: r.stopped,
		Log: opt.Log, Registerer: opt.Registerer})
	return &logins{runner: r, store: store, guard: guard, passwords: checker,
		seed: maphash.MakeSeed()}
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

// loginShard holds the logins of a part of the names. Logins with the same name are always
// in the same shard, and are checked in the order of their arrival.
type loginShard struct {
	mu      sync.Mutex
	waiting []*login
	running bool   // a task is posted or runs
	turn    uint64 // number of tasks posted
}

const (
	// loginShards is the number of lookups that may run at the same time: more than one,
	// so that one slow answer does not delay all logins.
	loginShards = 4
	// maxLoginBatch is the largest number of names in one lookup. maxLoginsWaiting bounds
	// the logins that wait in a shard. Further ones are refused as busy.
	maxLoginBatch    = 64
	maxLoginsWaiting = 4096
	// loginKeys is the first key of the login tasks. No user has these keys. loginTries
	// is the number of keys that are tried while queues are full.
	loginKeys  = 1 << 62
	loginTries = 4
)

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

// addLogin adds a login to its shard.
func (ls *logins) addLogin(l *login) error {
	key := ls.nameKey(l.m.GetUserName()) % loginShards
	g := &ls.shards[key]
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.waiting) >= maxLoginsWaiting {
		return im.Errorf(im.Busy, "%d logins are waiting", len(g.waiting))
	}
	if !g.running {
		if err := ls.postLogins(key); err != nil {
			return err
		}
		g.running = true
	}
	g.waiting = append(g.waiting, l)
	return nil
}

// postLogins posts a task that checks the logins of a shard. The caller holds the shard's
// mutex. Tasks share their queues with tasks of other keys, also with those of users with
// very many requests. So each task gets a new key: a full queue then does not keep a
// quarter of all users from logging in. A shard has one task at a time, so the order is
// kept.
func (ls *logins) postLogins(key uint64) (err error) {
	g := &ls.shards[key]
	for range loginTries {
		g.turn++
		err = ls.tasks.Do(loginKeys+g.turn*loginShards+key,
			func(ctx context.Context) { ls.runLogins(ctx, key) })
		if im.KindOf(err) != im.Busy {
			break
		}
	}
	return err
}

// runLogins checks waiting logins of a shard, on a worker. When more than one lookup's
// worth waits, the rest is left to a further task at the end of a queue.
func (ls *logins) runLogins(ctx context.Context, key uint64) {
	g := &ls.shards[key]
	g.mu.Lock()
	batch := g.waiting
	g.waiting = nil
	if len(batch) > maxLoginBatch {
		batch, g.waiting = batch[:maxLoginBatch:maxLoginBatch], batch[maxLoginBatch:]
	}
	g.mu.Unlock()
	defer ls.goOnWithLogins(key) // after a panic too
	ls.checkLogins(ctx, batch)
}

// goOnWithLogins posts a further task when logins are waiting.
func (ls *logins) goOnWithLogins(key uint64) {
	g := &ls.shards[key]
	var left []*login
	var err error
	g.mu.Lock()
	if g.running = len(g.waiting) > 0; g.running {
		if err = ls.postLogins(key); err != nil {
			left, g.waiting, g.running = g.waiting, nil, false
		}
	}
	g.mu.Unlock()
	for _, l := range left {
		ls.notValidated(l, err)
		ls.end()
	}
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
			ls.notValidated(l, err)
			ls.end()
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
		return validated(m, validateLocked, textLocked, nil)
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
