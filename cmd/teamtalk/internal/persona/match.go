package persona

import (
	"errors"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// request is a request whose answer has not come.
type request struct {
	seq  uint16
	want pb.Command
	peer *Peer            // of a request for messages
	got  func(pb.Message) // with mu held; nil: nothing
}

// ErrNoAnswer says that no answer came.
var ErrNoAnswer = errors.New("persona: no answer")

// frame takes a frame from the server. An error ends the connection.
func (c *Client) frame(k *conn, h pdu.Header, body []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.changes()
	k.heard = time.Now()
	if c.row.MaxFrame > 0 && int(h.Length) > c.row.MaxFrame {
		c.stats.Dropped++
		return nil
	}
	if h.Command == pb.CmdHeartBeat {
		k.owed = false
		c.stats.Echoes++
		return nil
	}
	r := c.answers(h, body)
	m, err := pdu.Decode(h.Command, body)
	if err != nil {
		c.fault("%s: %v", h.Command, err)
		return nil
	}
	if login, ok := m.(*pb.IMLoginRes); ok {
		return c.loginAnswered(k, login)
	}
	if r != nil {
		c.groupAnswered(m)
		if r.got != nil {
			r.got(m)
		}
		if h.Command == pb.CmdUsersInfoRsp && c.row.StatusAsked {
			c.askStatus()
		}
		return nil
	}
	return c.pushed(h, m)
}

// groupAnswered takes an answer that creates or changes a group.
func (c *Client) groupAnswered(m pb.Message) {
	switch m := m.(type) {
	case *pb.IMGroupCreateRsp:
		if m.GetResultCode() == 0 {
			c.groups[m.GetGroupId()] = pb.GroupInfo_builder{GroupId: new(m.GetGroupId()),
				GroupName: new(m.GetGroupName()), GroupMemberList: m.GetUserIdList()}.Build()
		}
	case *pb.IMGroupChangeMemberRsp:
		refused := m.GetResultCode() != 0
		if refused && (m.GetChangeType() != pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD ||
			!c.row.Empties) {
			return
		}
		if g := c.groups[m.GetGroupId()]; g != nil {
			g = proto.CloneOf(g) // Group returns g to callers
			g.SetGroupMemberList(nil)
			if !refused {
				g.SetGroupMemberList(m.GetCurUserIdList())
			}
			c.groups[m.GetGroupId()] = g
		}
	}
}

// answers returns the request that the persona takes a frame for the answer of, nil when there
// is none, and removes it.
func (c *Client) answers(h pdu.Header, body []byte) *request {
	if c.row.Match == ByCommand && h.Seq == c.loginSeq && h.Command != pb.CmdLoginRes {
		c.fault("%s has the login's seq %d: it is read as IMLoginRes", h.Command, h.Seq)
	}
	for i, r := range c.pending {
		if !c.matches(r, h, body) {
			continue
		}
		c.pending = append(c.pending[:i:i], c.pending[i+1:]...)
		if r.want != h.Command {
			c.fault("%s has the seq %d of a request for %s: it is taken for the answer",
				h.Command, h.Seq, r.want)
			return nil
		}
		return r
	}
	return nil
}

func (c *Client) matches(r *request, h pdu.Header, body []byte) bool {
	switch c.row.Match {
	case BySeq:
		return r.seq == h.Seq
	case ByAll:
		return r.seq == h.Seq && r.want == h.Command
	}
	if r.want != h.Command {
		return false
	}
	switch h.Command {
	case pb.CmdMsgDataAck, pb.CmdLoginRes:
		return r.seq == h.Seq
	case pb.CmdGetMsgListRsp: // several have one seq
		var list pb.IMGetMsgListRsp
		return r.seq == h.Seq && list.ParseBody(body) == nil && r.peer != nil &&
			*r.peer == peerOf(list.GetSessionType(), list.GetSessionId())
	}
	return true
}

// loginAnswered starts the sync, or ends the connection.
func (c *Client) loginAnswered(k *conn, m *pb.IMLoginRes) error {
	if k.loggedIn {
		c.fault("a second IMLoginRes")
		return nil
	}
	if m.GetResultCode() != pb.ResultType_REFUSE_REASON_NONE {
		c.stats.Refusals++
		c.refused = m
		return errRefused
	}
	k.loggedIn = true
	c.self = m.GetUserInfo()
	c.setState(Syncing)
	c.syncStep(c.row.Sync)
	return nil
}

// pushed takes a frame that answers no request.
func (c *Client) pushed(h pdu.Header, m pb.Message) error {
	if _, part := m.(*pb.IMAllUserRsp); h.Seq != 0 && !part && initiated(h.Command) {
		c.fault("%s, which no request asked for, has seq %d", h.Command, h.Seq)
	}
	switch m := m.(type) {
	case *pb.MsgData:
		c.received(m)
	case *pb.IMMsgDataReadNotify:
		c.readElsewhere(m)
	case *pb.IMKickUser:
		c.stats.Kicks++
		if c.row.Kicked == KickEnds {
			return errKicked
		}
	case *pb.IMAllUserRsp:
		if c.row.UserParts == FirstPart {
			c.stats.LateParts++
			return nil
		}
		c.addUsers(m)
	case *pb.IMUserStatNotify:
		c.online[m.GetUserStat().GetUserId()] = m.GetUserStat().GetStatus()
	case *pb.IMFileNotify:
		c.notices = append(c.notices, m)
	case *pb.IMGroupChangeMemberNotify:
		c.askGroup(m.GetGroupId())
	}
	return nil
}

// initiated reports whether servers send a command of their own accord.
func initiated(cmd pb.Command) bool {
	switch cmd {
	case pb.CmdMsgData, pb.CmdMsgDataReadNotify, pb.CmdKickUser, pb.CmdUserStatNotify,
		pb.CmdPCLoginStatusNotify, pb.CmdFileNotify, pb.CmdGroupChangeMemberNotify,
		pb.CmdRemoveSessionNotify, pb.CmdAvatarChangedNotify, pb.CmdSignInfoChangedNotify,
		pb.CmdP2PCmdMsg:
		return true
	}
	return false
}
