package mesh

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"teamtalk/core/link"
	"teamtalk/core/pdu"
	"teamtalk/core/registry"
	"teamtalk/core/session"
	"teamtalk/core/whereabouts"
	"teamtalk/core/whereabouts/whereaboutstest"
	"teamtalk/proto/pb"
)

const (
	windows = pb.ClientType_CLIENT_TYPE_WINDOWS
	android = pb.ClientType_CLIENT_TYPE_ANDROID
	on      = pb.UserStatType_USER_STATUS_ONLINE
	off     = pb.UserStatType_USER_STATUS_OFFLINE
)

// window is that of the nodes.
const window = 50 * time.Millisecond

// hook is called before and after a call to the store takes effect. An error before it keeps it
// from taking effect, and one after it loses the answer.
type hook func(by string, call whereaboutstest.Operation, after bool) error

// storeOf returns the store as a node reaches it.
func (c *cluster) storeOf(n *node) whereabouts.Store {
	through := func(after bool) func(context.Context, whereaboutstest.Call) error {
		return func(_ context.Context, call whereaboutstest.Call) error {
			c.mu.Lock()
			h, dead := c.hook, n.dead
			c.mu.Unlock()
			if dead {
				return errStoreAway
			}
			if h != nil {
				return h(n.name, call.Operation, after)
			}
			return nil
		}
	}
	return &spoilt{Store: &whereaboutstest.Faulty{Store: c.store, Before: through(false),
		After: through(true)}, c: c}
}

// spoilt is a store in which one user cannot be written and read.
type spoilt struct {
	whereabouts.Store
	c *cluster
}

// Apply fails for the user alone.
func (s *spoilt) Apply(ctx context.Context, by whereabouts.Node,
	updates []whereabouts.Update) []whereabouts.Result {
	results := s.Store.Apply(ctx, by, updates)
	for i, u := range updates {
		if bad := s.c.bad.Load(); bad != 0 && u.User == bad {
			results[i] = whereabouts.Result{Err: errors.New("no entry of a user")}
		}
	}
	return results
}

// Lookup fails for the user alone.
func (s *spoilt) Lookup(ctx context.Context, users []uint32) []whereabouts.Found {
	found := s.Store.Lookup(ctx, users)
	for i, u := range users {
		if bad := s.c.bad.Load(); bad != 0 && u == bad {
			found[i] = whereabouts.Found{Err: errors.New("no entry of a user")}
		}
	}
	return found
}

// setHook sets the faults of the store; nil: none.
func (c *cluster) setHook(h hook) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hook = h
}

var errStoreAway = errors.New("the store is away")

// cluster is message servers whose meshes are linked in memory.
type cluster struct {
	t     *testing.T
	store *whereaboutstest.Memory
	mu    sync.Mutex
	nodes map[string]*node // that run
	all   map[string]*node // that are registered
	epoch uint64
	cut   map[[2]string]bool // links that do not work: from, to
	wires map[*wire]struct{}
	hook  hook
	bad   atomic.Uint32 // user that cannot be written and read; 0: none
	keeps bool          // the policy is keep_first
	// noStatuses says that no client is told whether other users are online.
	noStatuses bool
	linkIdle   time.Duration // Options.LinkIdle; 0: the default
	late       bool          // nodes that start are known to themselves alone
	db         groupDB
	hides      string // a node that the lists do not have yet
}

func newCluster(t *testing.T) *cluster {
	return &cluster{t: t, store: whereaboutstest.NewMemory(), nodes: map[string]*node{},
		all: map[string]*node{}, cut: map[[2]string]bool{}, wires: map[*wire]struct{}{}}
}

// node is a message server in a test: a mesh, and what a message server does with it.
type node struct {
	c      *cluster
	name   string
	epoch  uint64
	mesh   *Server
	counts *prometheus.Registry // the metrics of the mesh
	view   *registry.View
	pipe   *link.Pipe
	cancel context.CancelFunc
	done   chan struct{}
	dead   bool // its calls to the store fail

	mu       sync.Mutex
	sessions []*login
	got      []pb.Message
	times    []time.Time // when they came
	sent     []sentText
	seen     map[uint32]bool // ids of texts that came
}

// sentText is a text that a node may have to send again.
type sentText struct {
	m  *pb.MsgData
	at time.Time
}

// login is a session in a test.
type login struct {
	user   uint32
	client pb.ClientType
	state  string // "waits", "in", "kicked", "refused", "left"
	at     time.Time
}

// start starts a message server under a name.
func (c *cluster) start(name string) *node {
	c.t.Helper()
	c.mu.Lock()
	c.epoch++
	n := &node{c: c, name: name, epoch: c.epoch, view: registry.NewView(),
		counts: prometheus.NewRegistry(),
		done:   make(chan struct{}), seen: map[uint32]bool{}}
	c.mu.Unlock()
	n.mesh = New(Options{Store: c.storeOf(n), Nodes: n.view, Name: name, Window: window,
		NoStatuses: c.noStatuses, LinkIdle: c.linkIdle, Registerer: n.counts,
		Self: func() Self { return Self{Epoch: n.epoch} },
		Dial: func(to registry.Node, h session.LinkHandler) Link {
			return c.dial(n, to, h)
		}})
	n.mesh.Connect(&dbLink{c: c, by: name})
	pipe, err := link.Local(link.LocalOptions{Name: "route", Caller: n, Callee: n.mesh.Local(),
		CallTimeout: 10 * time.Second})
	if err != nil {
		c.t.Fatal(err)
	}
	n.pipe = pipe
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	go func() {
		defer close(n.done)
		n.mesh.Run(ctx)
	}()
	c.mu.Lock()
	c.nodes[name], c.all[name] = n, n
	c.mu.Unlock()
	c.publish()
	return n
}

// publish tells all nodes which ones are registered.
func (c *cluster) publish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []registry.Node
	for _, n := range c.all {
		if n.name == c.hides {
			continue
		}
		list = append(list, registry.Node{Role: "msg", Name: n.name, Epoch: n.epoch, Addr: n.name})
	}
	slices.SortFunc(list, registry.Compare)
	for _, n := range c.nodes {
		if c.late && n.epoch < c.epoch {
			continue
		}
		n.view.Update(list, true)
	}
}

// stop ends a node. With crash it says nothing, and its lease ends later, see expire.
func (n *node) stop(crash bool) {
	n.c.mu.Lock()
	n.dead = crash
	if n.c.nodes[n.name] == n {
		delete(n.c.nodes, n.name)
	}
	n.c.mu.Unlock()
	for w := range n.c.each() {
		if w.from == n || w.to.Name == n.name {
			w.drop()
		}
	}
	n.pipe.Close()
	n.cancel()
	<-n.done
}

// expire ends the registration of a node.
func (n *node) expire() {
	n.c.mu.Lock()
	delete(n.c.all, n.name)
	n.c.mu.Unlock()
	n.c.publish()
}

// end ends all nodes.
func (c *cluster) end() {
	for {
		c.mu.Lock()
		var n *node
		for _, n = range c.nodes {
			break
		}
		c.mu.Unlock()
		if n == nil {
			break
		}
		n.stop(false)
	}
	for w := range c.each() {
		w.Close()
	}
	synctest.Wait()
}

func (c *cluster) each() map[*wire]struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := map[*wire]struct{}{}
	for w := range c.wires {
		list[w] = struct{}{}
	}
	return list
}

// setCut breaks or repairs the links between two nodes.
func (c *cluster) setCut(a, b string, cut bool) {
	c.mu.Lock()
	c.cut[[2]string{a, b}], c.cut[[2]string{b, a}] = cut, cut
	c.mu.Unlock()
	if !cut {
		return
	}
	for w := range c.each() {
		if w.from.name == a && w.to.Name == b || w.from.name == b && w.to.Name == a {
			w.drop()
		}
	}
}

// A node handles its link to the mesh as a message server does.

func (n *node) Open(l *session.Link) error {
	m := &pb.IMRoleSet{}
	m.SetMaster(1)
	m.SetFeatures(features)
	if err := l.Send(0, m); err != nil {
		return err
	}
	return l.Send(0, &pb.IMOnlineUserInfo{})
}

func (n *node) Close(*session.Link, error)              {}
func (n *node) Frame(*session.Link, pdu.Header, []byte) {}

func (n *node) Message(_ *session.Link, _ uint16, m pb.Message) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if t, ok := m.(*pb.MsgData); ok {
		if n.seen[t.MsgID] {
			return // it was sent again
		}
		n.seen[t.MsgID] = true
	}
	n.got, n.times = append(n.got, m), append(n.times, time.Now())
	switch m := m.(type) {
	case *pb.IMServerKickUser:
		n.takeKick(m)
	case *pb.IMRoleSet:
		if m.HasMissed() {
			n.sendAgain(time.Duration(m.GetMissed()) * time.Millisecond)
		}
	}
}

// sendAgain sends the texts and the kicks of the latest time again. With n.mu held.
func (n *node) sendAgain(missed time.Duration) {
	for _, t := range n.sent {
		if age := time.Since(t.at); age <= missed+2*time.Second && age < 35*time.Second {
			again := *t.m
			again.Resent, again.Age = true, uint32(age.Milliseconds())
			n.send(&again)
		}
	}
	for _, s := range n.sessions {
		if age := time.Since(s.at); s.state == "in" && age <= missed+35*time.Second {
			kick := kickOf(s.user, s.client)
			kick.SetAge(uint32(age.Milliseconds()))
			n.send(kick)
		}
	}
}

// kickOf returns the kick of a login.
func kickOf(user uint32, client pb.ClientType) *pb.IMServerKickUser {
	return pb.IMServerKickUser_builder{UserId: proto.Uint32(user), ClientType: client.Enum(),
		Reason: proto.Uint32(uint32(pb.KickReasonType_KICK_REASON_DUPLICATE_USER))}.Build()
}

// takeKick ends the sessions that a kick ends. With n.mu held.
func (n *node) takeKick(kick *pb.IMServerKickUser) {
	for _, s := range n.sessions {
		late := kick.HasAge() &&
			time.Since(s.at) < time.Duration(kick.GetAge())*time.Millisecond
		if s.user == kick.GetUserId() && s.state == "in" && !late &&
			s.client.SameClass(kick.GetClientType()) {
			n.endLogin(s, "kicked")
		}
	}
}

// endLogin ends a session and tells the mesh. With n.mu held.
func (n *node) endLogin(s *login, state string) {
	s.state = state
	n.status(s.user, s.client, off)
}

func (n *node) status(user uint32, client pb.ClientType, status pb.UserStatType) {
	n.send(statusOf(user, client, status))
}

func statusOf(user uint32, client pb.ClientType, status pb.UserStatType) *pb.IMUserStatusUpdate {
	return pb.IMUserStatusUpdate_builder{UserStatus: proto.Uint32(uint32(status)),
		UserId: proto.Uint32(user), ClientType: client.Enum()}.Build()
}

// text sends a text, which is sent again when it may be lost.
func (n *node) text(m *pb.MsgData) {
	n.mu.Lock()
	n.sent = append(n.sent, sentText{m, time.Now()})
	n.mu.Unlock()
	n.send(m)
}

func (n *node) send(m pb.Message) {
	if err := n.pipe.Send(0, 0, m); err != nil {
		n.c.t.Errorf("%s: %v", n.name, err)
	}
}

// login logs a client in, as package admission does.
func (n *node) login(user uint32, client pb.ClientType) *login {
	s := &login{user: user, client: client, state: "waits"}
	n.mu.Lock()
	n.sessions = append(n.sessions, s)
	n.mu.Unlock()
	req := pb.IMUsersStatReq_builder{UserId: proto.Uint32(user), UserIdList: []uint32{user},
		Comes: client.Enum(), SameClass: client.Enum(),
		Scope: pb.DeviceScope_DEVICE_SCOPE_ANY.Enum()}.Build()
	n.pipe.Call(nil, 0, 0, req, func(rsp pb.Message, err error) {
		n.mu.Lock()
		defer n.mu.Unlock()
		if stat, _ := rsp.(*pb.IMUsersStatRsp); err != nil || n.c.keeps && stat.IsOnline(user) {
			s.state = "refused"
			if err == nil {
				m := statusOf(user, client, off)
				m.SetComes(true)
				n.send(m)
			}
			return
		}
		for _, o := range n.sessions {
			if o.user == user && o.state == "in" && o.client.SameClass(client) {
				defer n.status(user, o.client, off)
				o.state = "kicked"
			}
		}
		s.state, s.at = "in", time.Now()
		if !n.c.keeps {
			n.send(kickOf(user, client))
		}
		n.status(user, client, on)
	})
	return s
}

// logout ends a session.
func (n *node) logout(s *login) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.endLogin(s, "left")
}

func (n *node) state(s *login) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return s.state
}

// take returns the messages of a type that the node got, and forgets all.
func take[M pb.Message](n *node) []M { return only[M](n.all()) }

func text(from, to, id uint32) *pb.MsgData {
	return &pb.MsgData{FromUserID: from, ToSessionID: to, MsgID: id, CreateTime: 1,
		Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, Data: []byte("text")}
}

// ids returns the ids of texts.
func ids(list []*pb.MsgData) (ids []uint32) {
	for _, m := range list {
		ids = append(ids, m.MsgID)
	}
	return ids
}

// all returns the messages that the node got, and forgets them.
func (n *node) all() []pb.Message {
	n.mu.Lock()
	defer n.mu.Unlock()
	got := n.got
	n.got, n.times = nil, nil
	return got
}

// arrivals returns when texts for a user came.
func (n *node) arrivals(user uint32) (at []time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, m := range n.got {
		if m, ok := m.(*pb.MsgData); ok && m.ToSessionID == user {
			at = append(at, n.times[i])
		}
	}
	return at
}

// only returns the messages of a type.
func only[M pb.Message](got []pb.Message) (list []M) {
	for _, m := range got {
		if m, ok := m.(M); ok {
			list = append(list, m)
		}
	}
	return list
}
