package waits

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// The ack of a device elsewhere is lost with its message server, and with the route server
// that forwards it. So the wait for it ends when the link to a route server, or between two
// message servers, is lost. When the receiver's pc leaves, and at intervals, the route server
// is asked again whether a device is left that acknowledges.

// askAgain is the time after which a route server is asked again. Devices mostly
// acknowledge within 100 ms.
const askAgain = 500 * time.Millisecond

// askForAcks asks whether a device elsewhere acknowledges deliveries, and sends the ack
// at once when none does. An answer without the scope is that of a C++ route server,
// which does not know. Loop only.
func (w *Waits) askForAcks(l *session.Loop, key Key) {
	scope := pb.DeviceScope_DEVICE_SCOPE_ACKS
	req := pb.IMUsersStatReq_builder{UserId: proto.Uint32(key.From), UserIdList: []uint32{key.To},
		Scope: scope.Enum()}.Build()
	w.route.Call(l, uint64(key.To), 0, req, func(rsp pb.Message, err error) {
		stat, ok := rsp.(*pb.IMUsersStatRsp)
		proven := err == nil && ok && stat.HasScope() && stat.GetScope() == scope
		if !proven || !stat.IsOnline(key.To) {
			w.release(l, key)
			return
		}
		w.awaitRemote(l, key)
	})
}

// awaitRemote records that a device elsewhere acknowledges. Loop only.
func (w *Waits) awaitRemote(l *session.Loop, key Key) {
	loop := w.opt.Loop(l)
	held, ok := loop.open[key]
	if !ok {
		return
	}
	if !held.remote {
		held.remote = true
		loop.open[key] = held
		w.remote.add(key.To)
		w.elsewhere.Inc()
	}
	loop.ask = append(loop.ask, due{key, l.Now().Add(askAgain)})
}

// RouteLost sends the acks that wait for devices elsewhere: the acks of those may be lost
// with the link to a route server. Any goroutine.
func (w *Waits) RouteLost() {
	w.eachRemote(func(Key) bool { return true }, w.release)
}

// PCLeft asks again whether another device of a user acknowledges deliveries, now that the
// user has no pc online. Any goroutine.
func (w *Waits) PCLeft(user uint32) {
	if w.remote.has(user) {
		w.eachRemote(func(key Key) bool { return key.To == user }, w.askForAcks)
	}
}

// eachRemote calls do on each loop with the acks that wait for a device elsewhere, in the
// order in which their messages arrived.
func (w *Waits) eachRemote(matches func(Key) bool, do func(*session.Loop, Key)) {
	for _, l := range w.opt.Loops() {
		l.Post(func() {
			open := w.opt.Loop(l).open
			var keys []Key // do changes the map
			for key, held := range open {
				if held.remote && matches(key) {
					keys = append(keys, key)
				}
			}
			slices.SortFunc(keys, func(a, b Key) int {
				return cmp.Or(open[a].came.Compare(open[b].came), cmp.Compare(a.From, b.From),
					cmp.Compare(a.To, b.To), cmp.Compare(a.ID, b.ID))
			})
			for _, key := range keys {
				do(l, key)
			}
		})
	}
}

// remoteCounts counts the acks that wait for devices elsewhere, by receiver. Any goroutine.
type remoteCounts struct {
	total  atomic.Int64
	shards [32]struct {
		mu    sync.Mutex
		users map[uint32]int
	}
}

// add counts an ack.
func (r *remoteCounts) add(user uint32) {
	r.total.Add(1)
	sh := &r.shards[user%uint32(len(r.shards))]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.users == nil {
		sh.users = map[uint32]int{}
	}
	sh.users[user]++
}

// remove takes back what add counted.
func (r *remoteCounts) remove(user uint32) {
	r.total.Add(-1)
	sh := &r.shards[user%uint32(len(r.shards))]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.users[user]--; sh.users[user] == 0 {
		delete(sh.users, user)
	}
}

// has reports whether an ack waits for a user.
func (r *remoteCounts) has(user uint32) bool {
	if r.total.Load() == 0 {
		return false
	}
	sh := &r.shards[user%uint32(len(r.shards))]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.users[user] > 0
}
