package client

import (
	"context"
	"encoding/binary"
	"encoding/json"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// number returns a switch as a number of the protocol.
func number(on bool) uint32 {
	if on {
		return 1
	}
	return 0
}

// refusal returns the error for a result code: nil for 0, otherwise Denied. The text
// names the refused object.
func refusal(code uint32, what string) error {
	if code == 0 {
		return nil
	}
	return im.Errorf(im.Denied, "the server refused %s (%d)", what, code)
}

// Departs returns the departments changed since a time (unix seconds, 0: all), and the
// time for the next call.
func Departs(ctx context.Context, c Caller, since uint32) ([]im.Depart, uint32, error) {
	req := pb.IMDepartmentReq_builder{UserId: new(c.UserID()), LatestUpdateTime: new(since)}.Build()
	var res pb.IMDepartmentRsp
	if err := c.Call(ctx, req, &res); err != nil {
		return nil, 0, err
	}
	list := make([]im.Depart, 0, len(res.GetDeptList()))
	for _, d := range res.GetDeptList() {
		list = append(list, im.Depart{
			ID: d.GetDeptId(), Name: d.GetDeptName(), Parent: d.GetParentDeptId(),
			Priority: d.GetPriority(), Status: d.GetDeptStatus(),
		})
	}
	return list, res.GetLatestUpdateTime(), nil
}

// SetSignInfo changes the user's sign info. Denied when the server refuses it, as for
// texts longer than im.MaxSignInfo.
func SetSignInfo(ctx context.Context, c Caller, text string) error {
	var res pb.IMChangeSignInfoRsp
	req := pb.IMChangeSignInfoReq_builder{UserId: new(c.UserID()), SignInfo: new(text)}.Build()
	if err := c.Call(ctx, req, &res); err != nil {
		return err
	}
	return refusal(res.GetResultCode(), "the text")
}

// SetAvatar changes the URL of the user's picture. Denied when the server refuses it, as
// for texts longer than im.MaxAvatar.
func SetAvatar(ctx context.Context, c Caller, url string) error {
	var res pb.IMChangeAvatarRsp
	req := pb.IMChangeAvatarReq_builder{UserId: new(c.UserID()), AvatarUrl: new(url)}.Build()
	if err := c.Call(ctx, req, &res); err != nil {
		return err
	}
	return refusal(res.GetResultCode(), "the address")
}

// RemoveSession removes a conversation from the user's list until its next message, and
// clears its unread count. Denied when the list does not hold it.
func RemoveSession(ctx context.Context, c Caller, p Peer) error {
	req := pb.IMRemoveSessionReq_builder{UserId: new(c.UserID()),
		SessionType: p.SessionType().Enum(), SessionId: new(p.ID)}.Build()
	var res pb.IMRemoveSessionRsp
	if err := c.Call(ctx, req, &res); err != nil {
		return err
	}
	return refusal(res.GetResultCode(), "to remove it")
}

// PushShield reports whether the user gets no pushes from 22:00 to 07:00. Denied when the
// server refuses.
func PushShield(ctx context.Context, c Caller) (bool, error) {
	var res pb.IMQueryPushShieldRsp
	req := pb.IMQueryPushShieldReq_builder{UserId: new(c.UserID())}.Build()
	if err := c.Call(ctx, req, &res); err != nil {
		return false, err
	}
	return res.GetShieldStatus() != 0, refusal(res.GetResultCode(), "to tell")
}

// SetPushShield turns the user's nightly rest from pushes on or off. Denied when the
// server refuses.
func SetPushShield(ctx context.Context, c Caller, on bool) error {
	var res pb.IMPushShieldRsp
	req := pb.IMPushShieldReq_builder{UserId: new(c.UserID()),
		ShieldStatus: new(number(on))}.Build()
	if err := c.Call(ctx, req, &res); err != nil {
		return err
	}
	return refusal(res.GetResultCode(), "the setting")
}

// SetDeviceToken sets the token for the user's pushes; an empty one clears it. Servers
// accept it from mobile clients only.
func SetDeviceToken(ctx context.Context, c Caller, t pb.ClientType, token string) error {
	req := pb.IMDeviceTokenReq_builder{UserId: new(c.UserID()), DeviceToken: new(token),
		ClientType: t.Enum()}.Build()
	return c.Call(ctx, req, &pb.IMDeviceTokenRsp{})
}

// KickPC ends the session of the user's pc client. Servers accept it from mobile clients
// only; Denied when they refuse.
func KickPC(ctx context.Context, c Caller) error {
	var res pb.IMKickPCClientRsp
	req := pb.IMKickPCClientReq_builder{UserId: new(c.UserID())}.Build()
	if err := c.Call(ctx, req, &res); err != nil {
		return err
	}
	return refusal(res.GetResultCode(), "it")
}

// Sound returns the duration in seconds and the sound of an audio message; false for
// other messages. The sound is empty when the server has lost it.
func Sound(m im.Message) (seconds uint32, sound []byte, ok bool) {
	if m.Type != pb.MsgType_MSG_TYPE_SINGLE_AUDIO && m.Type != pb.MsgType_MSG_TYPE_GROUP_AUDIO ||
		len(m.Data) < 4 {
		return 0, nil, false
	}
	return binary.BigEndian.Uint32(m.Data), m.Data[4:], true
}

// maxCommand is the longest command between clients, in bytes. Servers drop longer ones.
const maxCommand = 4096

// SendCommand sends a command to another user's clients, and to this user's other
// clients. The server does not store it: clients that are not online never receive it,
// and no error is reported. Invalid when it is longer than 4,096 bytes, Unavailable
// without a connection.
func (c *Client) SendCommand(to uint32, data string) error {
	if len(data) > maxCommand {
		return im.Errorf(im.Invalid, "command of %d bytes, at most %d fit", len(data), maxCommand)
	}
	conn, _ := c.present()
	if conn == nil {
		return im.Errorf(im.Unavailable, "not connected")
	}
	return conn.Send(pb.IMP2PCmdMsg_builder{FromUserId: new(conn.UserID()), ToUserId: new(to),
		CmdMsgData: new(data)}.Build(), 0)
}

// command is the JSON that existing clients send in an IMP2PCmdMsg: a service, its
// command in the upper and lower halves of cmd_id, and a word.
type command struct {
	Service uint32 `json:"service_id"`
	ID      uint32 `json:"cmd_id"`
	Content string `json:"content"`
}

// The commands about typing. Content repeats the meaning. Some clients send a bare word
// in place of the JSON.
var (
	typingOn  = command{Service: 1, ID: 2<<16 | 1, Content: "writing"}
	typingOff = command{Service: 1, ID: 2<<16 | 2, Content: "stop writing"}
)

// SendTyping tells another user that this user has begun or stopped typing. The errors
// are those of SendCommand.
func (c *Client) SendTyping(to uint32, on bool) error {
	cmd := typingOff
	if on {
		cmd = typingOn
	}
	data, err := json.Marshal(cmd)
	if err != nil {
		return im.WithKind(im.Internal, "encode", err)
	}
	return c.SendCommand(to, string(data))
}

// typing reports whether a command is about typing, and whether typing began.
func typing(data string) (on, ok bool) {
	if data == "typing" {
		return true, true
	}
	var cmd command
	if json.Unmarshal([]byte(data), &cmd) != nil || cmd.Service != typingOn.Service {
		return false, false
	}
	return cmd.ID == typingOn.ID, cmd.ID == typingOn.ID || cmd.ID == typingOff.ID
}
