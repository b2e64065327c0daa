package presence

import (
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// HandleUserStat tells PC clients that a user's PC came or left.
func (h *Handler) HandleUserStat(_ *session.Link, _ uint16, m *pb.IMUserStatNotify) error {
	if h.opt.Mode != None {
		st := m.GetUserStat()
		h.tell(news{about: about{st.GetUserId(), newStatus}, status: st.GetStatus()})
	}
	return nil
}

// HandlePCLoginStatus tells a user's phones that its PC came or left.
func (h *Handler) HandlePCLoginStatus(_ *session.Link, _ uint16,
	m *pb.IMServerPCLoginStatusNotify) error {
	n := &pb.IMPCLoginStatusNotify{}
	n.SetUserId(m.GetUserId())
	n.SetLoginStat(pb.UserStatType_USER_STATUS_OFFLINE)
	if m.GetLoginStatus() == uint32(pb.UserStatType_USER_STATUS_ONLINE) {
		n.SetLoginStat(pb.UserStatType_USER_STATUS_ONLINE)
	}
	for _, s := range h.opt.Online.Of(m.GetUserId()) {
		if s.ClientType.IsMobile() {
			_ = s.Push(0, n) // a full mailbox closes the session
		}
	}
	return nil
}

// SignInfoChanged tells all clients of all message servers that a user has another
// signature.
func (h *Handler) SignInfoChanged(user uint32, text string) {
	h.tellEverybody(news{about: about{user, newSignInfo}, text: text})
}

// AvatarChanged tells all clients of all message servers that a user has another picture.
func (h *Handler) AvatarChanged(user uint32, url string) {
	h.tellEverybody(news{about: about{user, newAvatar}, text: url})
}

// tellEverybody tells all clients of all message servers, or those here if no route
// server takes the change. A route server sends it back for the clients here.
func (h *Handler) tellEverybody(n news) {
	if !h.opt.Others.Forward(n.message()) {
		h.tell(n)
	}
}

// HandleSignInfoChanged tells the clients here of a signature.
func (h *Handler) HandleSignInfoChanged(_ *session.Link, _ uint16,
	m *pb.IMSignInfoChangedNotify) error {
	h.tell(news{about: about{m.GetChangedUserId(), newSignInfo}, text: m.GetSignInfo()})
	return nil
}

// HandleAvatarChanged tells the clients here of a picture.
func (h *Handler) HandleAvatarChanged(_ *session.Link, _ uint16,
	m *pb.IMAvatarChangedNotify) error {
	h.tell(news{about: about{m.GetChangedUserId(), newAvatar}, text: m.GetAvatarUrl()})
	return nil
}
