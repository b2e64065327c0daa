package turns

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// A db_proxy that dies around a commit leaves a message stored that no message server
// knows of. Its sender repeats it, perhaps on another connection, and db_proxy answers
// with the id of the first one. Whether the first one was delivered is then decided here,
// by each message server for its own devices.

// margin is how much older than a message a connection must be to receive its repeat:
// times of creation are in whole seconds, and db_proxies may write them a second later. A
// younger connection finds the message in the history.
const margin = 2 * time.Second

// foundAge is how old the message before one that its sender found in the history may be, in
// seconds, and clockSkew by how much the clocks of message servers may differ. An older one
// has arrived. foundAge is shorter than prevAge: the search for a predecessor must go to no
// session that has it.
const (
	foundAge  = 2
	clockSkew = 5
)

// BeforeFound returns the PrevID of a message that was in doubt and was found in the history
// now. older is what the history has before it, newest first. The message before it may have
// been in doubt as well, and be forwarded later.
func BeforeFound(older []*pb.MsgInfo, now time.Time) uint32 {
	if len(older) == 0 {
		return 0
	}
	if age := now.Unix() - int64(older[0].GetCreateTime()); age < -clockSkew || age > foundAge {
		return 0
	}
	return older[0].GetMsgId()
}

// Repeat takes the repeat of a message that was stored at the time created, in unix
// seconds. known says that the message was delivered, or that this cannot be known any
// more. Otherwise it is to be delivered now, to the connections with ids below before,
// which are older than the message. Any goroutine.
func (ts *Turns) Repeat(key uint64, id, created uint32) (before uint64, known bool) {
	sh, now := ts.shard(key), ts.opt.Now()
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return ts.repeat(sh, key, id, created, now)
}

// TakeRepeat is Repeat for a message between users, and delivers it as Take does. It
// reports whether the message was not known. Any goroutine.
func (ts *Turns) TakeRepeat(t Turn) bool {
	key := im.ConversationKey(t.M.FromUserID, t.M.ToSessionID)
	sh, now := ts.shard(key), ts.opt.Now()
	sh.mu.Lock()
	defer sh.mu.Unlock()
	before, known := ts.repeat(sh, key, t.M.MsgID, t.M.CreateTime, now)
	if known {
		return false
	}
	if before > 1 { // otherwise all devices here are younger
		t.Since = before
		ts.take(sh, sh.of(key, now), t, now)
	}
	return true
}

// repeat is Repeat. With the shard's lock.
func (ts *Turns) repeat(sh *shard, key uint64, id, created uint32, now time.Time) (
	before uint64, known bool) {
	age := time.Duration(max(0, now.Unix()-int64(created))) * time.Second
	stored := now.Add(-age - margin)
	c := sh.find(key, now)
	if c != nil && c.ids.has(id) || age > keep || stored.Before(sh.known.Since()) ||
		stored.Before(sh.repeats.Since()) {
		ts.repeats.known.Inc()
		return 0, true
	}
	sh.of(key, now).ids.add(id)
	sh.repeats.Put(message{key, id}, struct{}{}, now)
	ts.repeats.delivered.Inc()
	return ts.opt.Since(age + margin), false
}

// repeatMetrics counts the repeats.
type repeatMetrics struct{ delivered, known, overtaken prometheus.Counter }

func newRepeatMetrics(reg prometheus.Registerer) repeatMetrics {
	repeats := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "teamtalk_msg_repeats_total",
		Help: "Repeated messages that db_proxy recognised, by what this server did: delivered " +
			"(it had not delivered the first one, whose answer was lost), known (it had, or " +
			"too long ago to know). And overtaken: first ones that arrived after their repeat " +
			"was delivered, and were dropped.",
	}, []string{"outcome"})
	if reg != nil {
		reg.MustRegister(repeats)
	}
	return repeatMetrics{repeats.WithLabelValues("delivered"), repeats.WithLabelValues("known"),
		repeats.WithLabelValues("overtaken")}
}
