package pusher

import (
	"slices"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

const (
	// maxUnderWay is the most messages whose pushes are under way. Pushes for further
	// messages are dropped, because they would only arrive later and later.
	maxUnderWay = 1024
	// maxTokens is the most phones in one request to push_server.
	maxTokens = 1000
)

// The values of push_type.
const (
	pushLoud   = 1
	pushSilent = 2
)

// pushes is the work for one message: it collects the receiving phones step by step, and
// ends with send, drop or end.
type pushes struct {
	p      *Pusher
	m      pb.MsgData // read only
	key    uint64
	tokens []*pb.UserTokenInfo
}

// Stored pushes a message that was stored to its recipients' phones. It is called once
// for each message, where the message was stored, and does not wait. The members of the
// message's group are in members; with nil the Pusher asks db_proxy for them. The caller
// must not change m and members afterwards.
func (p *Pusher) Stored(m *pb.MsgData, members []uint32) {
	if p.push == nil || p.none() {
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

// ask sends a request and continues with then. An error ends these pushes.
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
	p.p.often.push.Warn(p.p.log, p.p.opt.Now(), "no pushes for a message",
		"user", p.m.FromUserID, "reason", reason, "err", err)
}

// findMembers asks for the members of the group and continues with findTokens.
func (p *pushes) findMembers() {
	// Version 0 differs from every version, so db_proxy returns all members.
	v := pb.GroupVersionInfo_builder{
		GroupId: proto.Uint32(p.m.ToSessionID), Version: proto.Uint32(0)}.Build()
	req := pb.IMGroupInfoListReq_builder{UserId: proto.Uint32(0),
		GroupVersionList: []*pb.GroupVersionInfo{v}}.Build()
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
		p.end() // the group was deleted
	})
}

// findTokens asks for the phones of the users and continues with takeTokens.
func (p *pushes) findTokens(users []uint32) {
	users = slices.DeleteFunc(slices.Clone(users),
		func(user uint32) bool { return user == p.m.FromUserID })
	if len(users) == 0 {
		p.end()
		return
	}
	p.ask(p.p.db, pb.IMGetDeviceTokenReq_builder{UserId: users}.Build(), p.takeTokens)
}

// takeTokens keeps the phones to push to. For a group it asks which users want no pushes
// from it and continues with takeShields, otherwise it continues with findPCs.
func (p *pushes) takeTokens(rsp pb.Message) {
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
		req := pb.IMGroupGetShieldReq_builder{
			GroupId: proto.Uint32(p.m.ToSessionID), UserId: p.users()}.Build()
		p.ask(p.p.db, req, p.takeShields)
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

// takeShields removes the phones of users that want no pushes from the group, and
// continues with findPCs.
func (p *pushes) takeShields(rsp pb.Message) {
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
	p.tokens = slices.DeleteFunc(p.tokens,
		func(t *pb.UserTokenInfo) bool { return shielded[t.GetUserId()] })
	if len(p.tokens) == 0 {
		p.end()
		return
	}
	p.findPCs()
}

// findPCs makes the pushes silent for users with a pc client that is online here or, if a
// route server is reachable, on another message server. It continues with findNick.
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
	req := pb.IMUsersStatReq_builder{UserId: proto.Uint32(p.m.FromUserID), UserIdList: elsewhere,
		SameClass: pb.ClientType_CLIENT_TYPE_WINDOWS.Enum()}.Build()
	p.p.route.Call(nil, p.key, 0, req, func(rsp pb.Message, _ error) {
		// Without an answer the pushes stay loud.
		if m, ok := rsp.(*pb.IMUsersStatRsp); ok {
			p.hush(m.GetUserStatList())
		}
		p.findNick()
	})
}

// hush makes the pushes to online users silent.
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

// send sends the pushes to push_server. The parameter nick is the sender's, "" when it is
// not known.
func (p *pushes) send(nick string) {
	defer p.end()
	if nick == "" {
		p.p.metrics.nameless.Inc()
	}
	flash, data := p.p.flash(&p.m, nick), pushData(&p.m)
	for tokens := range slices.Chunk(p.tokens, maxTokens) {
		req := pb.IMPushToUserReq_builder{Flash: proto.String(flash), Data: proto.String(data),
			UserTokenList: tokens}.Build()
		if err := p.p.push.Send(p.key, 0, req); err != nil {
			p.p.metrics.dropped.WithLabelValues(im.KindOf(err).String()).Inc()
			p.p.often.push.Warn(p.p.log, p.p.opt.Now(), "pushes not sent to push_server",
				"user", p.m.FromUserID, "phones", len(tokens), "err", err)
			continue
		}
		p.p.metrics.pushes.Add(float64(len(tokens)))
	}
}
