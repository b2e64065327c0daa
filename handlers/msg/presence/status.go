package presence

import (
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// HandleUserStat tells PC clients that a user's PC came or left.
func (h *Handler) HandleUserStat(_ *session.Link, _ uint16, m *pb.IMUserStatNotify) error {
	h.tellStatus(m.GetUserStat().GetUserId(), m.GetUserStat().GetStatus())
	return nil
}

func (h *Handler) tellStatus(user uint32, status pb.UserStatType) {
	if h.opt.Mode != None {
		h.tell(news{about: about{user, newStatus}, status: status})
	}
}

// HandlePCLoginStatus tells a user's phones that its PC came or left.
func (h *Handler) HandlePCLoginStatus(_ *session.Link, _ uint16,
	m *pb.IMServerPCLoginStatusNotify) error {
	h.tellPhones(m.GetUserId(),
		m.GetLoginStatus() == uint32(pb.UserStatType_USER_STATUS_ONLINE))
	return nil
}

func (h *Handler) tellPhones(user uint32, pc bool) {
	n := &pb.IMPCLoginStatusNotify{}
	n.SetUserId(user)
	n.SetLoginStat(pb.UserStatType_USER_STATUS_OFFLINE)
	if pc {
		n.SetLoginStat(pb.UserStatType_USER_STATUS_ONLINE)
	}
	for _, s := range h.opt.Online.Of(user) {
		if s.ClientType.IsMobile() {
			_ = s.Push(0, n) // a full mailbox closes the session
		}
	}
}

// HandleUserChanges tells the clients here of the changes of a window.
func (h *Handler) HandleUserChanges(_ *session.Link, _ uint16, m *pb.IMUserChangesNotify) error {
	for _, c := range m.GetChanges() {
		user := c.GetUserId()
		switch {
		case c.HasStatus():
			h.tellStatus(user, c.GetStatus())
		case c.HasPcOnline():
			h.tellPhones(user, c.GetPcOnline())
		case c.HasSignInfo():
			h.tell(news{about: about{user, newSignInfo}, text: c.GetSignInfo()})
		case c.HasAvatarUrl():
			h.tell(news{about: about{user, newAvatar}, text: c.GetAvatarUrl()})
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
