package passing

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// Stock Android reads frames of up to 400 KiB and drops a longer one without a word. This
// server knows which client asked, so it cuts the answers. db_proxies of either kind
// answer whole. All other clients get one frame: iOS reads only the first answer to a
// request.
//
// Answers of db_proxy are forwarded encoded, and cut in their bytes.

// androidBody is the longest body of a frame to Android, in bytes.
const androidBody = pdu.MaxAndroidFrame - pdu.HeaderLen

// androidCut says how an answer that is too long for Android is made to fit.
type androidCut struct {
	list protowire.Number // field of the list
	// parts sends the rest in further answers. Android merges them: it keeps these lists
	// as maps by id. Otherwise the rest is left out: messages are listed newest first,
	// and Android asks for the older ones from the oldest it got, or by the ids it
	// misses.
	parts bool
}

// androidCuts are the answers whose length depends on what is stored. Lists of a group's
// members, at most im.MaxGroupMembers, fit.
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

// reply sends the answer to a request of the client of s, so that it fits what that
// client reads. Loop only.
func (h *Handler) reply(s *session.Client, seq uint16, m pb.Message) error {
	cut, ok := androidCuts[m.Command()]
	if !ok || s.ClientType != pb.ClientType_CLIENT_TYPE_ANDROID {
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
		h.opt.AndroidCut.WithLabelValues("parts").Inc()
		return s.SendParts(seq, parts)
	}
	h.opt.AndroidCut.WithLabelValues("shortened").Inc()
	return s.Send(seq, parts[0])
}

// shortenSound returns the element that a list has in place of a message that fits no
// frame: only a sound does not. It is a text under the id of the sound.
func (h *Handler) shortenSound(element []byte) []byte {
	var m pb.MsgInfo
	if err := proto.Unmarshal(element, &m); err != nil {
		return nil
	}
	m.SetMsgType(m.GetMsgType().Text())
	m.SetMsgData(h.opt.SoundTooLong)
	b, err := proto.Marshal(&m)
	if err != nil {
		return nil
	}
	h.opt.AndroidCut.WithLabelValues("sound").Inc()
	return b
}
