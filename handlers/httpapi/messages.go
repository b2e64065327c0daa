package httpapi

import (
	"context"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// sendMessageRequest is the request of SendMessage: a text from a user, or from a bot
// that has a user of its own, to a user or a group.
type sendMessageRequest struct {
	request
	As    uint32 `json:"req_user_id"`
	User  uint32 `json:"to_user_id"`
	Group uint32 `json:"to_group_id"`
	Text  string `json:"text"`
	// ClientID is optional. A repeated call with the same id does not store a second
	// message.
	ClientID string `json:"client_msg_id"`
}

type sendMessageResult struct {
	answer
	ID uint32 `json:"msg_id"`
}

// sendMessage stores a text, encrypted as clients expect it, forwards it to the
// receivers, and reports it for pushes.
func (s *Server) sendMessage(ctx context.Context, app *app, q *sendMessageRequest,
	r *sendMessageResult) error {
	switch {
	case q.As == 0:
		return fail(codeBad, "req_user_id is needed: a message has a sender")
	case (q.User == 0) == (q.Group == 0):
		return fail(codeBad, "either to_user_id or to_group_id is needed")
	case q.User == q.As:
		return fail(codeBad, "to_user_id is the sender")
	case q.Text == "" || len(q.Text) > im.MaxText:
		return fail(codeBad, "text is empty or too long")
	case len(q.ClientID) > im.MaxClientID:
		return fail(codeBad, "client_msg_id is too long")
	}
	m := &pb.MsgData{FromUserID: q.As, ToSessionID: q.User, CreateTime: uint32(s.opt.Now().Unix()),
		Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, Data: s.opt.Text.Encrypt(q.Text)}
	key, err := im.ConversationKey(q.As, q.User), firstOf(app.mayAct(q.As), app.mayReach(q.User))
	if q.Group != 0 {
		m.ToSessionID, m.Type, m.HasGroupVersion = q.Group, pb.MsgType_MSG_TYPE_GROUP_TEXT, true
		key, err = im.GroupKey(q.Group), firstOf(app.mayAct(q.As), app.mayChange(q.Group))
	}
	if err != nil {
		return err
	}
	if q.ClientID != "" {
		m.ClientMsgID = []byte(q.ClientID)
	}
	if q.Group == 0 { // a group has members that exist, and refuses others
		if err := s.known(ctx, q.As); err != nil {
			return err
		}
	}
	stored, err := ask[*pb.MsgData](ctx, s.opt.DB, key, m)
	if rejected(err) || err == nil && stored.MsgID == 0 { // a C++ db_proxy does not say why
		return fail(codeUnknown,
			"the message was not stored: does the recipient exist, is the sender in the group?")
	}
	if err != nil {
		return err
	}
	r.ID = stored.MsgID
	if stored.Duplicate {
		return nil
	}
	out := *stored
	out.AttachData, out.ClientMsgID = nil, nil
	s.opt.Routes.keepText(&out)
	s.forward(key, &out)
	if s.opt.Pushes != nil {
		s.opt.Pushes.Stored(&out, nil)
	}
	return nil
}

// userStatusRequest is the request of GetUserStatus.
type userStatusRequest struct {
	request
	Users []uint32 `json:"user_id_list"`
}

type userStatusResult struct {
	answer
	List []userStatus `json:"user_stat_list"`
}

type userStatus struct {
	User   uint32 `json:"user_id"`
	Status uint32 `json:"status"` // 1 online, 2 offline
}

// maxAsked is the largest number of users in one call of GetUserStatus.
const maxAsked = 10_000

func (s *Server) userStatus(ctx context.Context, app *app, q *userStatusRequest,
	r *userStatusResult) error {
	r.List = []userStatus{}
	if len(q.Users) == 0 || len(q.Users) > maxAsked {
		return fail(codeBad, "user_id_list is empty or too long")
	}
	if err := app.mayReach(q.Users...); err != nil {
		return err
	}
	list, err := Statuses(ctx, s.opt.Route, q.Users)
	if err != nil {
		return err
	}
	for _, u := range list {
		r.List = append(r.List, userStatus{User: u.GetUserId(), Status: uint32(u.GetStatus())})
	}
	return nil
}

// Statuses asks route servers which of the users are online. A C++ route server reports users
// with only a phone as offline.
func Statuses(ctx context.Context, route Peer, users []uint32) ([]*pb.UserStat, error) {
	req := &pb.IMUsersStatReq{}
	req.SetUserId(0)
	req.SetUserIdList(users)
	req.SetScope(pb.DeviceScope_DEVICE_SCOPE_ANY) // a C++ route server ignores it
	rsp, err := ask[*pb.IMUsersStatRsp](ctx, route, 0, req)
	if err != nil {
		return nil, err
	}
	return rsp.GetUserStatList(), nil
}

// kickUserRequest is the request of KickUser.
type kickUserRequest struct {
	request
	User uint32 `json:"user_id"`
}

// kickUser closes all connections of a user. The clients show that the user logged in
// elsewhere, because the protocol has no other reason. The connections to a message server
// without a link to the route server are closed when it has one again, see Routes.Kick.
func (s *Server) kickUser(ctx context.Context, app *app, q *kickUserRequest, _ *answer) error {
	if q.User == 0 {
		return fail(codeBad, "user_id is missing")
	}
	if err := app.mayReach(q.User); err != nil {
		return err
	}
	return s.opt.Routes.Kick(ctx, s.opt.Route, q.User)
}
