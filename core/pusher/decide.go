package pusher

import (
	"slices"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

const (
	// maxUnderWay is how many messages' pushes may be under way. Of more, new ones are dropped: they would only come later still.
	maxUnderWay = 1024
	// maxTokens is how many phones one request to push_server is for.
	maxTokens = 1000
)

// What push_type says.
const (
	pushLoud   = 1
	pushSilent = 2
)

// pushes is what one message leads to.
type pushes struct {
	p      *Pusher
	m      pb.MsgData // not changed
	key    uint64
	tokens []*pb.UserTokenInfo
}

// Stored decides who is pushed to about a message that was stored, and has it done; it does not wait. It is called once for a message, where it was stored.
// members are those of the group the message is in, nil where they are not known here: then db_proxy is asked. m and members must not change any more.
func (p *Pusher) Stored(m *pb.MsgData, members []uint32) {
	if p.push == nil {
		return
	}
	one := &pushes{p: p, m: *m, key: im.ConversationKey(m.FromUserID, m.ToSessionID)}
	if m.Type.IsGroup() {
		one.key = im.GroupKey(m.ToSessionID)
	}
	switch {
	case !p.push.Up():
		p.metrics.dropped.WithLabelValues("down").Inc()
	case p.under.Add(1) > maxUnderWay:
		one.drop("too_many", nil)
	case !m.Type.IsGroup():
		one.findTokens([]uint32{m.ToSessionID})
	case members == nil:
		one.findMembers()
	default:
		one.findTokens(members)
	}
}

// ask asks a server and goes on with then; without an answer these pushes end.
func (p *pushes) ask(peer Peer, req pb.Attachment, then func(pb.Message)) {
	peer.Call(nil, p.key, 0, req, func(rsp pb.Message, err error) {
		if err != nil {
			p.drop(im.KindOf(err).String(), err)
			return
		}
		then(rsp)
	})
}

func (p *pushes) end() { p.p.under.Add(-1) }

func (p *pushes) drop(reason string, err error) {
	p.end()
	p.p.metrics.dropped.WithLabelValues(reason).Inc()
	p.p.warn(&p.p.often.push, "nobody pushed to about a message", "user", p.m.FromUserID, "reason", reason, "err", err)
}

// findMembers goes on with who is in the group.
func (p *pushes) findMembers() {
	v := pb.GroupVersionInfo_builder{GroupId: proto.Uint32(p.m.ToSessionID), Version: proto.Uint32(0)}.Build() // whatever the version, all of it
	req := pb.IMGroupInfoListReq_builder{UserId: proto.Uint32(0), GroupVersionList: []*pb.GroupVersionInfo{v}}.Build()
	p.ask(p.p.db, req, func(rsp pb.Message) {
		m, ok := rsp.(*pb.IMGroupInfoListRsp)
		if !ok {
			p.drop("answer", nil)
			return
		}
		for _, g := range m.GetGroupInfoList() {
			if g.GetGroupId() == p.m.ToSessionID {
				p.findTokens(g.GetGroupMemberList())
				return
			}
		}
		p.end() // the group is gone
	})
}

// findTokens goes on with who of the users has a phone.
func (p *pushes) findTokens(users []uint32) {
	users = slices.DeleteFunc(slices.Clone(users), func(user uint32) bool { return user == p.m.FromUserID })
	if len(users) == 0 {
		p.end()
		return
	}
	p.ask(p.p.db, pb.IMGetDeviceTokenReq_builder{UserId: users}.Build(), p.tokensCame)
}

// tokensCame goes on with the phones.
func (p *pushes) tokensCame(rsp pb.Message) {
	m, ok := rsp.(*pb.IMGetDeviceTokenRsp)
	if !ok {
		p.drop("answer", nil)
		return
	}
	p.tokens = slices.DeleteFunc(m.GetUserTokenInfo(), func(t *pb.UserTokenInfo) bool {
		return t.GetUserId() == p.m.FromUserID || t.GetToken() == ""
	})
	switch {
	case len(p.tokens) == 0:
		p.end()
	case p.m.Type.IsGroup():
		req := pb.IMGroupGetShieldReq_builder{GroupId: proto.Uint32(p.m.ToSessionID), UserId: p.users()}.Build()
		p.ask(p.p.db, req, p.shieldsCame)
	default:
		p.findPCs()
	}
}

func (p *pushes) users() []uint32 {
	users := make([]uint32, len(p.tokens))
	for i, t := range p.tokens {
		users[i] = t.GetUserId()
	}
	return users
}

// shieldsCame goes on without those who want no pushes from the group.
func (p *pushes) shieldsCame(rsp pb.Message) {
	m, ok := rsp.(*pb.IMGroupGetShieldRsp)
	if !ok {
		p.drop("answer", nil)
		return
	}
	shielded := map[uint32]bool{}
	for _, s := range m.GetShieldStatusList() {
		if s.GetShieldStatus() != 0 {
			shielded[s.GetUserId()] = true
		}
	}
	p.tokens = slices.DeleteFunc(p.tokens, func(t *pb.UserTokenInfo) bool { return shielded[t.GetUserId()] })
	if len(p.tokens) == 0 {
		p.end()
		return
	}
	p.findPCs()
}

// findPCs goes on with who sits at a pc, here or, as far as a route server can tell, elsewhere.
func (p *pushes) findPCs() {
	var elsewhere []uint32
	for _, t := range p.tokens {
		t.SetPushType(pushLoud)
		if p.p.opt.HasPC(t.GetUserId()) {
			t.SetPushType(pushSilent)
		} else {
			elsewhere = append(elsewhere, t.GetUserId())
		}
	}
	if len(elsewhere) == 0 || !p.p.route.Up() {
		p.findNick()
		return
	}
	req := pb.IMUsersStatReq_builder{UserId: proto.Uint32(p.m.FromUserID), UserIdList: elsewhere, SameClass: pb.ClientType_CLIENT_TYPE_WINDOWS.Enum()}.Build()
	p.p.route.Call(nil, p.key, 0, req, func(rsp pb.Message, _ error) { // without an answer they are loud
		if m, ok := rsp.(*pb.IMUsersStatRsp); ok {
			p.hush(m.GetUserStatList())
		}
		p.findNick()
	})
}

// hush makes the pushes to those silent who are online.
func (p *pushes) hush(list []*pb.UserStat) {
	online := map[uint32]bool{}
	for _, st := range list {
		if st.GetStatus() == pb.UserStatType_USER_STATUS_ONLINE {
			online[st.GetUserId()] = true
		}
	}
	for _, t := range p.tokens {
		if online[t.GetUserId()] {
			t.SetPushType(pushSilent)
		}
	}
}

// send hands the pushes to push_server. nick is the sender's, "" when it is not known.
func (p *pushes) send(nick string) {
	defer p.end()
	if nick == "" {
		p.p.metrics.nameless.Inc()
	}
	flash, data := p.p.flash(&p.m, nick), pushData(&p.m)
	for tokens := range slices.Chunk(p.tokens, maxTokens) {
		req := pb.IMPushToUserReq_builder{Flash: proto.String(flash), Data: proto.String(data), UserTokenList: tokens}.Build()
		if err := p.p.push.Send(p.key, 0, req); err != nil {
			p.p.metrics.dropped.WithLabelValues(im.KindOf(err).String()).Inc()
			p.p.warn(&p.p.often.push, "push not handed over", "user", p.m.FromUserID, "phones", len(tokens), "err", err)
			continue
		}
		p.p.metrics.pushes.Add(float64(len(tokens)))
	}
}
