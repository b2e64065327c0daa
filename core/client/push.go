package client

import (
	"slices"

	"teamtalk/core/client/tcp"
	"teamtalk/core/client/transfer"
	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// onFrame handles a frame that is not an answer. The goroutine that reads calls it.
func (c *Client) onFrame(conn *tcp.Conn, h pdu.Header, body []byte) {
	err := c.push(conn, h, body)
	c.mu.Lock()
	if err == nil {
		c.badRow = 0
	} else {
		c.badRow++
	}
	bad := c.badRow
	c.mu.Unlock()
	if err != nil {
		c.malformed.Add(1)
		c.log.Warn("frame dropped", "cmd", h.Command.String(), "seq", h.Seq, "err", err)
		if bad >= pdu.MaxMalformed {
			conn.Fail(im.Errorf(im.Malformed, "%d malformed frames in a row", bad))
		}
	}
	c.throttle(conn)
}

// push handles a frame that is not an answer. An error means that the frame does not
// decode.
func (c *Client) push(conn *tcp.Conn, h pdu.Header, body []byte) error {
	switch h.Command {
	case pb.CmdMsgData:
		var m pb.MsgData
		if err := m.ParseBody(body); err != nil {
			return err
		}
		c.in.message(conn, &m)
	case pb.CmdUserStatNotify:
		var m pb.IMUserStatNotify
		if err := m.ParseBody(body); err != nil {
			return err
		}
		c.tell(Presence{User: m.GetUserStat().GetUserId(), Status: m.GetUserStat().GetStatus()})
	case pb.CmdMsgDataReadNotify:
		var m pb.IMMsgDataReadNotify
		if err := m.ParseBody(body); err != nil {
			return err
		}
		c.tell(ReadElsewhere{Peer: peerOf(m.GetSessionType(), m.GetSessionId()),
			MsgID: m.GetMsgId()})
	case pb.CmdKickUser:
		var m pb.IMKickUser
		if err := m.ParseBody(body); err != nil {
			return err
		}
		c.kick(conn, &m)
	default:
		return c.pushOther(h, body)
	}
	return nil
}

// pushOther handles frames that concern neither messages nor the connection. An error
// means that the frame does not decode.
func (c *Client) pushOther(h pdu.Header, body []byte) error {
	m, err := pdu.Decode(h.Command, body)
	if err != nil {
		c.ignored.Add(1)
		if pb.New(h.Command) != nil {
			return err
		}
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch m := m.(type) {
	case *pb.IMGroupChangeMemberNotify:
		change := im.MemberChange{Current: m.GetCurUserIdList(),
			Changed: sorted(m.GetChgUserIdList())}
		c.Groups.change(m.GetGroupId(), m.GetUserId(), m.GetChangeType(), change)
	case *pb.IMRemoveSessionNotify:
		c.emit(SessionRemoved{Peer: peerOf(m.GetSessionType(), m.GetSessionId())})
	case *pb.IMSignInfoChangedNotify:
		if m.GetChangedUserId() == c.self.ID {
			c.self.SignInfo = m.GetSignInfo()
		}
		c.emit(SignChanged{User: m.GetChangedUserId(), Text: m.GetSignInfo()})
	case *pb.IMAvatarChangedNotify:
		if m.GetChangedUserId() == c.self.ID {
			c.self.Avatar = m.GetAvatarUrl()
		}
		c.emit(AvatarChanged{User: m.GetChangedUserId(), URL: m.GetAvatarUrl()})
	case *pb.IMPCLoginStatusNotify:
		c.emit(PCLogin{Online: m.GetLoginStat() == pb.UserStatType_USER_STATUS_ONLINE})
	case *pb.IMP2PCmdMsg:
		c.command(m)
	case *pb.IMFileNotify:
		c.fileNotify(m)
	default:
		c.ignored.Add(1)
	}
	return nil
}

// kick ends the session on the server's request. The first servers leave the connection
// open, so the Client closes it.
func (c *Client) kick(conn *tcp.Conn, m *pb.IMKickUser) {
	c.mu.Lock()
	c.kicked, c.kickedText = m.GetKickReason(), m.GetText()
	c.mu.Unlock()
	_ = conn.Close()
}

// maxOffers is how many files that are passed on directly are remembered.
const maxOffers = 256

// fileNotify reports a file for this user. The notify of a file that is passed on directly
// may come again, when the server does not know that it arrived. The caller holds c.mu.
func (c *Client) fileNotify(m *pb.IMFileNotify) {
	f, ready := transfer.Notified(m)
	if f.To != c.self.ID || f.Task == "" {
		c.ignored.Add(1)
		return
	}
	if f.Online {
		if slices.Contains(c.offers, f.Task) {
			return
		}
		if len(c.offers) >= maxOffers {
			c.offers = slices.Delete(c.offers, 0, 1)
		}
		c.offers = append(c.offers, f.Task)
	}
	c.emit(FileOffered{File: f, Ready: ready})
}

// command reports a command of another client. The caller holds c.mu.
func (c *Client) command(m *pb.IMP2PCmdMsg) {
	on, ok := typing(m.GetCmdMsgData())
	switch {
	case !ok:
		c.emit(Command{From: m.GetFromUserId(), To: m.GetToUserId(), Data: m.GetCmdMsgData()})
	case m.GetFromUserId() != c.self.ID: // typing on this user's other devices is not reported
		c.emit(Typing{User: m.GetFromUserId(), On: on})
	}
}
