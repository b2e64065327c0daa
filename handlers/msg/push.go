package msg

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/router"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// The server that had a message stored decides who is pushed to: the recipients whose phone has a token and who want pushes, now and from that group; loud,
// or silent where the user sits at a pc. It asks db_proxy for the tokens first, so that accounts without a phone cost that one question. Nothing waits for
// it: what cannot be decided is counted and left, the message is in the history.

const (
	// maxPushing is how many messages' pushes may be under way. Of more, new ones are dropped: they would only come later still.
	maxPushing = 1024
	// maxPushTokens is how many phones one request to push_server is for.
	maxPushTokens = 1000
)

// What push_type says.
const (
	pushLoud   = 1
	pushSilent = 2
)

// What push_server says of a token.
const (
	pushSent = 0
	pushDead = 2
)

// What a push shows of what is no text.
const (
	showAnything = "您收到一条新消息"
	showAudio    = "[语音]"
	showPicture  = "[图片]"
)

// pictureBegin and pictureEnd stand around the address of a picture, within a text.
const (
	pictureBegin = "&$#@~^@[{:"
	pictureEnd   = ":}]&$~@#@"
)

// ConnectPush sets the push servers, before the first client comes. Without, nobody is pushed to and nobody asked.
func (h *Server) ConnectPush(peer Peer) { h.push = peer }

// PushLink is the handler for links to push servers.
func (h *Server) PushLink() session.Handler {
	l := &pushLink{Router: router.New(router.Options{Role: "msg_push", Log: h.opt.Log, Registerer: h.opt.Registerer})}
	router.Handle(l.Router, router.Public, ignore[*pb.IMHeartBeat])
	router.Handle(l.Router, router.Public, h.handlePushed)
	return l
}

type pushLink struct{ *router.Router }

// Open has nothing to say.
func (*pushLink) Open(*session.Session) error { return nil }

// Close has nothing to do.
func (*pushLink) Close(*session.Session, error) {}

// pushes is what one message leads to.
type pushes struct {
	h      *Server
	m      pb.MsgData // not changed
	key    uint64
	tokens []*pb.UserTokenInfo
}

// notifyPush decides who is pushed to about a stored message, and has it done. It is called where messages are stored; members are those of the group, nil
// for a message to one user. It does not wait.
func (h *Server) notifyPush(m *pb.MsgData, members []uint32) {
	if h.push == nil {
		return
	}
	users := []uint32{m.ToSessionID}
	p := &pushes{h: h, m: *m, key: im.ConversationKey(m.FromUserID, m.ToSessionID)}
	if m.Type.IsGroup() {
		users = slices.DeleteFunc(slices.Clone(members), func(user uint32) bool { return user == m.FromUserID })
		p.key = im.GroupKey(m.ToSessionID)
	}
	switch {
	case len(users) == 0:
		return
	case !h.push.Up():
		h.metrics.pushesDropped.WithLabelValues("down").Inc()
		return
	case h.pushing.Add(1) > maxPushing:
		p.drop("too_many", nil)
		return
	}
	p.ask(h.db, pb.IMGetDeviceTokenReq_builder{UserId: users}.Build(), p.tokensCame)
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

func (p *pushes) end() { p.h.pushing.Add(-1) }

func (p *pushes) drop(reason string, err error) {
	p.end()
	p.h.metrics.pushesDropped.WithLabelValues(reason).Inc()
	p.h.warn(&p.h.often.push, "nobody pushed to about a message", "user", p.m.FromUserID, "reason", reason, "err", err)
}

// tokensCame goes on with who has a phone.
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
		p.ask(p.h.db, req, p.shieldsCame)
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
		if p.h.hasPC(t.GetUserId()) {
			t.SetPushType(pushSilent)
		} else {
			elsewhere = append(elsewhere, t.GetUserId())
		}
	}
	if len(elsewhere) == 0 || !p.h.route.Up() {
		p.send()
		return
	}
	req := pb.IMUsersStatReq_builder{UserId: proto.Uint32(p.m.FromUserID), UserIdList: elsewhere, SameClass: pb.ClientType_CLIENT_TYPE_WINDOWS.Enum()}.Build()
	p.h.route.Call(nil, p.key, 0, req, func(rsp pb.Message, _ error) { // without an answer they are loud
		if m, ok := rsp.(*pb.IMUsersStatRsp); ok {
			p.hush(m.GetUserStatList())
		}
		p.send()
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

// send hands the pushes to push_server.
func (p *pushes) send() {
	defer p.end()
	flash, data := p.h.flash(&p.m), pushData(&p.m)
	for tokens := range slices.Chunk(p.tokens, maxPushTokens) {
		req := pb.IMPushToUserReq_builder{Flash: proto.String(flash), Data: proto.String(data), UserTokenList: tokens}.Build()
		if err := p.h.push.Send(p.key, 0, req); err != nil {
			p.h.metrics.pushesDropped.WithLabelValues(im.KindOf(err).String()).Inc()
			p.h.warn(&p.h.often.push, "push not handed over", "user", p.m.FromUserID, "phones", len(tokens), "err", err)
			continue
		}
		p.h.metrics.pushes.Add(float64(len(tokens)))
	}
}

// pushData tells the app what to open.
func pushData(m *pb.MsgData) string {
	data := struct {
		MsgType uint32 `json:"msg_type"`
		FromID  uint32 `json:"from_id"`
		GroupID uint32 `json:"group_id,omitempty"`
	}{MsgType: uint32(m.Type), FromID: m.FromUserID}
	if m.Type.IsGroup() {
		data.GroupID = m.ToSessionID
	}
	text, err := json.Marshal(data)
	if err != nil {
		panic(fmt.Sprintf("push data: %v", err)) // three numbers
	}
	return string(text)
}

// flash is what a push shows of a message.
func (h *Server) flash(m *pb.MsgData) string {
	switch m.Type {
	case pb.MsgType_MSG_TYPE_SINGLE_AUDIO, pb.MsgType_MSG_TYPE_GROUP_AUDIO:
		return showAudio
	}
	if h.opt.PushText < 0 {
		return showAnything
	}
	text, err := h.texts.Decrypt(m.Data)
	if err != nil || !utf8.ValidString(text) {
		return showAnything // not one of the clients' bodies, or under another key
	}
	text = shorten(strings.TrimSpace(showPictures(text)), h.opt.PushText)
	if text == "" {
		return showAnything
	}
	return text
}

// showPictures puts a word in the place of each picture.
func showPictures(text string) string {
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(text, pictureBegin)
		_, after, ended := strings.Cut(rest, pictureEnd)
		if !found || !ended {
			out.WriteString(text)
			return out.String()
		}
		out.WriteString(before)
		out.WriteString(showPicture)
		text = after
	}
}

// shorten cuts text after n characters, with an ellipsis in the place of what is left out.
func shorten(text string, n int) string {
	for i := range text {
		if n == 0 {
			return text[:i] + "…"
		}
		n--
	}
	return text
}

// handlePushed counts what became of pushes, and has tokens forgotten that are dead.
func (h *Server) handlePushed(_ *session.Session, _ uint16, m *pb.IMPushToUserRsp) error {
	for _, r := range m.GetPushResultList() {
		switch {
		case r.GetResultCode() == pushSent:
			h.metrics.pushResults.WithLabelValues("sent").Inc()
		case r.GetResultCode() == pushDead && r.HasUserId():
			h.metrics.pushResults.WithLabelValues("dead").Inc()
			token := pb.IMDeviceTokenReq_builder{UserId: proto.Uint32(r.GetUserId()), DeviceToken: proto.String(""), DeadToken: proto.String(r.GetUserToken())}.Build()
			if err := h.dbFirst.Send(uint64(r.GetUserId()), 0, token); err != nil {
				h.warn(&h.often.token, "dead push token not cleared", "user", r.GetUserId(), "err", err)
			}
		default:
			h.metrics.pushResults.WithLabelValues("failed").Inc()
		}
	}
	return nil
}
