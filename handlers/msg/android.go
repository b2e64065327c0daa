package msg

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// Stock Android reads frames of up to 400 KiB and drops a longer one without a word. This
// server knows which client asked, so it cuts the answers; db_proxies of either kind
// answer whole. All other clients get one frame: iOS hears only the first answer to a
// request.
//
// Answers of db_proxy are passed on encoded, and cut in their bytes.
const androidFrame = 400<<10 - 1

// androidBody is the longest body of a frame to Android, in bytes.
const androidBody = androidFrame - pdu.HeaderLen

// androidCut says how an answer that is too long for Android is made to fit.
type androidCut struct {
	list protowire.Number // field of the list
	// parts sends the rest in further answers. Android merges them: it keeps these lists
	// as maps by id. Otherwise the rest is left out: messages come newest first, and
	// Android asks for the older ones from the oldest it got, or by the ids it misses.
	parts bool
}

// androidCuts are the answers whose length depends on what is stored. Lists of a group's
// members, of which there are at most im.MaxGroupMembers, fit.
var androidCuts = map[pb.Command]androidCut{
	pb.CmdAllUserRsp:              {3, true},
	pb.CmdDepartmentRsp:           {3, true},
	pb.CmdUsersInfoRsp:            {2, true},
	pb.CmdUsersStatRsp:            {2, true},
	pb.CmdRecentContactSessionRsp: {2, true},
	pb.CmdUnreadMsgCntRsp:         {3, true},
	pb.CmdNormalGroupListRsp:      {2, true},
	pb.CmdGroupInfoListRsp:        {2, true},
	pb.CmdFileHasOfflineRsp:       {2, true},
	pb.CmdGetMsgListRsp:           {5, false},
	pb.CmdGetMsgByIdRsp:           {4, false},
}

// soundTooLong stands for a sound that is too long for Android.
const soundTooLong = "[语音过长，请在其他设备上收听]"

// reply sends the answer to a request of the client of s, so that it fits what that
// client reads. Loop only.
func (h *Server) reply(s *session.Session, seq uint16, m pb.Message) error {
	cut, ok := androidCuts[m.Command()]
	if !ok || s.Client != pb.ClientType_CLIENT_TYPE_ANDROID {
		return s.Send(seq, m)
	}
	e, ok := m.(*pb.Encoded)
	if !ok {
		if p, ok := m.(proto.Message); !ok || proto.Size(p) <= androidBody {
			return s.Send(seq, m)
		}
		var err error
		if e, err = pb.Encode(m); err != nil {
			return im.WithKind(im.Malformed, "answer does not encode", err)
		}
	}
	var shorten func([]byte) []byte
	if !cut.parts {
		shorten = h.shortenSound
	}
	parts := e.Split(cut.list, androidBody, shorten)
	switch {
	case len(parts) == 1:
		return s.Send(seq, parts[0])
	case cut.parts:
		h.metrics.androidCut.WithLabelValues("parts").Inc()
		return s.SendParts(seq, parts)
	}
	h.metrics.androidCut.WithLabelValues("shortened").Inc()
	return s.Send(seq, parts[0])
}

// shortenSound returns what stands in a list for a message that fits no frame: only a
// sound does not. It is told as a text, under its id.
func (h *Server) shortenSound(element []byte) []byte {
	var m pb.MsgInfo
	if err := proto.Unmarshal(element, &m); err != nil {
		return nil
	}
	m.SetMsgType(textTypeOf(m.GetMsgType()))
	m.SetMsgData(h.soundTooLong)
	b, err := proto.Marshal(&m)
	if err != nil {
		return nil
	}
	h.metrics.androidCut.WithLabelValues("sound").Inc()
	return b
}

// textTypeOf is the type of a text in the conversation of a message of type t.
func textTypeOf(t pb.MsgType) pb.MsgType {
	if t.IsGroup() {
		return pb.MsgType_MSG_TYPE_GROUP_TEXT
	}
	return pb.MsgType_MSG_TYPE_SINGLE_TEXT
}

// apart takes the Android clients out of sessions.
func apart(sessions []*session.Session) (android, others []*session.Session) {
	for _, s := range sessions {
		if s.Client == pb.ClientType_CLIENT_TYPE_ANDROID {
			android = append(android, s)
		} else {
			others = append(others, s)
		}
	}
	return android, others
}

// apartOnLoops is apart for sessions by loop.
func apartOnLoops(lists []onLoop) (android, others []onLoop) {
	for _, l := range lists {
		a, o := apart(l.sessions)
		if len(a) > 0 {
			android = append(android, onLoop{loop: l.loop, sessions: a})
		}
		if len(o) > 0 {
			others = append(others, onLoop{loop: l.loop, sessions: o})
		}
	}
	return android, others
}

// shortFrame is what Android gets instead of the delivery of a sound that is too long for
// it: a text under the same id. nil when the frame is no message: no other frame is that
// long, unless one of the first implementation's db_proxies has a group of tens of
// thousands.
func (h *Server) shortFrame(frame []byte) []byte {
	var m pb.MsgData
	if pdu.ParseHeader(frame).Command != pb.CmdMsgData ||
		m.ParseBody(frame[pdu.HeaderLen:]) != nil {
		h.metrics.androidCut.WithLabelValues("dropped").Inc()
		return nil
	}
	h.metrics.androidCut.WithLabelValues("sound").Inc()
	m.Type, m.Data = textTypeOf(m.Type), h.soundTooLong
	return h.clientFrame(&m)
}
