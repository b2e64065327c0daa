package admission

import (
	"fmt"
	"hash/maphash"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"teamtalk/core/audit"
	"teamtalk/core/im"
	"teamtalk/core/mono"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// A refused login costs its client time: some of the official clients log in again at
// once after a refusal, 15 to 200 times a second. The answer to the first refusal is sent
// at once, those to the next ones from the same address and with the same name after 1,
// 2, 3, 4, 5, 5, … seconds. One that db_proxy was too busy to check waits for five seconds at
// the first time too, because it is likely to be checked meanwhile.

// textFailed is the text beside the results that say that a server is missing. It is that
// of the first implementation; clients show it.
const textFailed = "服务端异常"

// denial says why a login is refused.
type denial struct {
	code           pb.ResultType
	text           string // for the client, which shows it to its user
	result, detail string // for the audit log
}

// The denials that need no more than their reason.
var (
	wrongPassword = denial{code: pb.ResultType_REFUSE_REASON_DB_VALIDATE_FAILED, text: textWrong,
		result: audit.WrongPassword}
	elsewhere = denial{code: pb.ResultType_REFUSE_REASON_DB_VALIDATE_FAILED, text: textElsewhere,
		result: audit.Elsewhere}
)

// without returns the denial of a login while a server is missing.
func without(code pb.ResultType) denial {
	return denial{code: code, text: textFailed, result: resultName(code)}
}

// The results of an IMValidateRsp, also of a C++ db_proxy.
const (
	validateWrong  = 1
	validateFailed = 2 // name and password could not be checked
	validateLocked = 6
)

// lockDetails say to operators what is locked, for each IMValidateRsp.lock.
var lockDetails = map[string]string{
	"locked": "the name is locked for the network of this address: teamtalk user unlock NAME",
	"network_locked": "the network of this address is locked for names that have not logged in " +
		"from there: teamtalk user unlock --network ADDRESS",
	"locked_from_others": "the name is locked for networks from which it has not logged in: " +
		"teamtalk user unlock NAME",
}

// deniedBy returns the denial that db_proxy answered.
func deniedBy(v *pb.IMValidateRsp) denial {
	d := denial{code: pb.ResultType_REFUSE_REASON_DB_VALIDATE_FAILED, text: v.GetResultString()}
	switch v.GetResultCode() {
	case validateWrong:
		d.result = audit.WrongPassword
	case validateLocked:
		d.result, d.detail = audit.Locked, lockDetails[v.GetLock()]
	default:
		d.result = audit.Refused
		d.detail = fmt.Sprintf("result code %d of db_proxy", v.GetResultCode())
	}
	return d
}

const (
	// maxRefusedDelay is the longest delay of an answer, in seconds.
	maxRefusedDelay = 5
	// refusedMemory is how long after its last answer a refusal counts.
	refusedMemory = time.Minute
	// refusedShards × refusedNames is how many pairs of address and name are remembered.
	// All names of an address are in one shard, and a full shard forgets the pair that
	// was refused longest ago: an address that tries many names does not make the server
	// forget others than the pairs of its own shard. The next refusal of a forgotten pair
	// is not delayed.
	refusedShards = 16
	refusedNames  = 4096
)

// refusals counts the refused logins of each address and name. Any goroutine.
type refusals struct {
	seed   maphash.Seed
	shards [refusedShards]refusedShard
}

type refusedShard struct {
	mu    sync.Mutex
	pairs *simplelru.LRU[refusedPair, refusal]
}

// refusedPair is an address and the hash of a name: names of any length take the same
// memory.
type refusedPair struct {
	addr netip.Addr
	name uint64
}

type refusal struct {
	times    int
	answered time.Time // when the last answer is sent
}

func newRefusals() *refusals {
	r := &refusals{seed: maphash.MakeSeed()}
	for i := range r.shards {
		// The only error is a size that is not positive.
		r.shards[i].pairs, _ = simplelru.NewLRU[refusedPair, refusal](refusedNames, nil)
	}
	return r
}

func (r *refusals) find(addr netip.Addr, name string) (*refusedShard, refusedPair) {
	pair := refusedPair{addr, maphash.String(r.seed, strings.ToLower(name))}
	return &r.shards[maphash.Comparable(r.seed, addr)%refusedShards], pair
}

// refused counts a refused login and returns the delay of its answer.
func (r *refusals) refused(addr netip.Addr, name string, now time.Time) time.Duration {
	sh, pair := r.find(addr, name)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	last, _ := sh.pairs.Get(pair)
	if now.Sub(last.answered) >= refusedMemory {
		last.times = 0
	}
	delay := time.Duration(last.times) * time.Second
	next := refusal{times: min(last.times+1, maxRefusedDelay), answered: now.Add(delay)}
	sh.pairs.Add(pair, next)
	return delay
}

// remembers reports whether a login of an address and name was refused a short time ago.
func (r *refusals) remembers(addr netip.Addr, name string, now time.Time) bool {
	sh, pair := r.find(addr, name)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	last, ok := sh.pairs.Get(pair)
	return ok && now.Sub(last.answered) < refusedMemory
}

// admitted forgets the refused logins of an address and name.
func (r *refusals) admitted(addr netip.Addr, name string) {
	sh, pair := r.find(addr, name)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.pairs.Remove(pair)
}

// refuse answers a refused login and closes, now or after the delay of the client's
// address and name. A login that waits because a server is missing, or because db_proxy
// could not check it, is checked again as soon as that is over. Loop only.
func (h *Handler) refuse(s *session.Client, seq uint16, m *pb.IMLoginReq, d denial) {
	c, now := h.opt.Client(s), s.Loop().Now()
	h.auditRefused(s, m, d)
	final := d.code == pb.ResultType_REFUSE_REASON_DB_VALIDATE_FAILED
	if final {
		c.denied = true
		h.opt.Denied(s)
	}
	if c.refusedAt == 0 {
		delay := h.refusals.refused(clientAddr(s), m.GetUserName(), now)
		if c.busy {
			delay = maxRefusedDelay * time.Second
		}
		c.refusedAt = mono.Of(now.Add(delay))
		if delay > 0 {
			h.metrics.loginsHeld.WithLabelValues("refused").Inc()
		}
	}
	left := time.Duration(c.refusedAt - mono.Of(now))
	if left <= 0 {
		h.answerRefused(s, seq, d)
		return
	}
	w := &heldLogin{due: now.Add(left), then: func(bool) { h.answerRefused(s, seq, d) }}
	if !final {
		w.again = func() { h.checkLogin(s, seq, m) }
	}
	h.hold(s, w)
}

// refuseClientType answers a login of a client of a type that the protocol does not know.
// It is not delayed: no server is asked for it.
func (h *Handler) refuseClientType(s *session.Client, seq uint16, m *pb.IMLoginReq) {
	number := int32(m.GetClientType())
	d := denial{code: pb.ResultType_REFUSE_REASON_DB_VALIDATE_FAILED,
		text:   fmt.Sprintf("不支持的客户端类型 %d (unknown client_type)", number),
		result: audit.UnknownClient, detail: fmt.Sprintf("client_type %d", number)}
	h.auditRefused(s, m, d)
	h.answerRefused(s, seq, d)
}

// answerRefused answers a refused login and closes. Loop only.
func (h *Handler) answerRefused(s *session.Client, seq uint16, d denial) {
	h.metrics.logins.WithLabelValues(d.code.String()).Inc()
	rsp := &pb.IMLoginRes{}
	rsp.SetServerTime(h.unix())
	rsp.SetResultCode(d.code)
	rsp.SetResultString(d.text)
	if err := s.Send(seq, rsp); err != nil {
		h.log.Error("login answer", "conn", s.ID(), "err", err)
	}
	s.Close(im.Errorf(im.Denied, "login refused: %s", d.code))
}
