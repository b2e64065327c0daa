package msg

import (
	"hash/maphash"
	"slices"

	"teamtalk/core/im"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

var keySeed = maphash.MakeSeed()

// handleLogin takes a login. What follows is in checkLogin, loginChecked and admit.
func (h *Server) handleLogin(s *session.Session, seq uint16, m *pb.IMLoginReq) error {
	c := clientOf(s)
	if c.login != connected {
		return nil // a second request on a connection is ignored
	}
	c.login = validating
	// Go's decoder takes any number for an enumeration.
	if _, known := pb.ClientType_name[int32(m.GetClientType())]; !known {
		h.refuseClientType(s, seq, m.GetClientType())
		return nil
	}
	h.checkLogin(s, seq, m)
	return nil
}

// checkLogin asks db_proxy whether name and password are right. Loop only.
func (h *Server) checkLogin(s *session.Session, seq uint16, m *pb.IMLoginReq) {
	if code := h.missing(); code != pb.ResultType_REFUSE_REASON_NONE {
		h.refuse(s, seq, m, code, textFailed)
		return
	}
	req := &pb.IMValidateReq{}
	req.SetUserName(m.GetUserName())
	req.SetPassword(m.GetPassword())
	req.SetTellFailure(true)
	h.dbFirst.Call(s.Loop(), maphash.String(keySeed, m.GetUserName()), seq, req, func(rsp pb.Message, err error) {
		h.loginChecked(s, seq, m, rsp, err)
	})
}

// validateFailed is the result of an IMValidateRsp that says that name and password could not be
// checked.
const validateFailed = 2

// loginChecked goes on once db_proxy has answered.
func (h *Server) loginChecked(s *session.Session, seq uint16, m *pb.IMLoginReq, rsp pb.Message, err error) {
	if s.IsClosed() {
		return
	}
	v, ok := rsp.(*pb.IMValidateRsp)
	code := v.GetResultCode()
	if err != nil || !ok || code == validateFailed || code == 0 && v.GetUserInfo() == nil {
		// Nobody knows whether the password is right: a client that is told that it is wrong
		// forgets it.
		h.warn(&h.often.login, "login not checked", "conn", s.ID(), "err", err)
		h.refuse(s, seq, m, pb.ResultType_REFUSE_REASON_NO_DB_SERVER, textFailed)
		return
	}
	if code != 0 {
		h.refuse(s, seq, m, pb.ResultType_REFUSE_REASON_DB_VALIDATE_FAILED, v.GetResultString())
		return
	}
	if h.opt.Policy != KeepFirst {
		h.admitInTurn(s, seq, m, v)
		return
	}
	h.ifNotElsewhere(s, v.GetUserInfo().GetUserId(), m.GetClientType(), func(free bool) {
		if !free {
			h.refuse(s, seq, m, pb.ResultType_REFUSE_REASON_DB_VALIDATE_FAILED, textElsewhere)
			return
		}
		h.admit(s, seq, m, v)
	})
}

// textElsewhere is the text of a login refused by KeepFirst.
const textElsewhere = "already logged in on another device"

// ifNotElsewhere tells whether another message server holds a device of that class of the user. What cannot be asked counts as free: the policy
// protects a session, it must not lock a user out.
func (h *Server) ifNotElsewhere(s *session.Session, user uint32, client pb.ClientType, then func(free bool)) {
	req := &pb.IMUsersStatReq{}
	req.SetUserId(user)
	req.SetUserIdList([]uint32{user})
	req.SetSameClass(client)
	req.SetScope(pb.DeviceScope_DEVICE_SCOPE_ANY)
	h.route.Call(s.Loop(), uint64(user), 0, req, func(rsp pb.Message, err error) {
		if s.IsClosed() {
			return
		}
		stat, ok := rsp.(*pb.IMUsersStatRsp)
		// A C++ route server answers about pc clients, whatever it is asked.
		there := err == nil && ok && onlineIn(stat, user) && (stat.HasScope() || !client.IsMobile())
		then(!there)
	})
}

func onlineIn(rsp *pb.IMUsersStatRsp, user uint32) bool {
	return slices.ContainsFunc(rsp.GetUserStatList(), func(st *pb.UserStat) bool {
		return st.GetUserId() == user && st.GetStatus() == pb.UserStatType_USER_STATUS_ONLINE
	})
}

// admit lets the user in: older connections go, the other servers are told, the client gets its answer.
func (h *Server) admit(s *session.Session, seq uint16, m *pb.IMLoginReq, v *pb.IMValidateRsp) {
	user, client := v.GetUserInfo().GetUserId(), m.GetClientType()
	if !h.enter(s, user, client) {
		h.refuse(s, seq, m, pb.ResultType_REFUSE_REASON_DB_VALIDATE_FAILED, textElsewhere)
		return
	}
	stateOf(s.Loop()).join(s)
	h.findContacts(s)
	s.SetIdleLimit(h.opt.PCTimeout)
	if client.IsMobile() {
		s.SetIdleLimit(h.opt.MobileTimeout)
	}
	status := m.GetOnlineStatus()
	if status == pb.UserStatType_USER_STATUS_OFFLINE {
		status = pb.UserStatType_USER_STATUS_ONLINE
	}
	rsp := &pb.IMLoginRes{}
	rsp.SetServerTime(h.unix())
	rsp.SetResultCode(pb.ResultType_REFUSE_REASON_NONE)
	rsp.SetResultString(v.GetResultString())
	rsp.SetOnlineStatus(status)
	rsp.SetUserInfo(v.GetUserInfo())
	if err := s.Send(seq, rsp); err != nil {
		h.log.Error("login answer", "conn", s.ID(), "user", user, "err", err)
		s.Close(err)
		return
	}
	h.refusals.admitted(clientAddr(s), m.GetUserName())
	h.metrics.logins.WithLabelValues("ok").Inc()
	h.log.Debug("client logged in", "conn", s.ID(), "user", user)
}

// enter registers the session and kicks those that its login replaces; false when it may not
// enter. The other servers hear that the user came before they hear that it left elsewhere, so
// that nobody is told that the user was offline in between.
func (h *Server) enter(s *session.Session, user uint32, client pb.ClientType) bool {
	c := clientOf(s)
	h.presence.mu.Lock()
	defer h.presence.mu.Unlock()
	if h.opt.Policy == KeepFirst && h.holdsClass(user, client) {
		return false
	}
	c.login = loggedIn
	s.SetLoggedIn(user, client)
	replaced := slices.DeleteFunc(slices.Clone(h.online.Add(s)), func(o *session.Session) bool {
		return !h.replaces(client, o.Client) || !h.expel(o, pb.KickReasonType_KICK_REASON_DUPLICATE_USER)
	})
	if h.opt.Policy == DeviceClass || h.opt.Policy == OneClient {
		kick := &pb.IMServerKickUser{}
		kick.SetUserId(user)
		kick.SetClientType(client)
		kick.SetReason(uint32(pb.KickReasonType_KICK_REASON_DUPLICATE_USER))
		h.presence.forward(kick)
	}
	h.presence.update(s, online)
	for _, o := range replaced {
		h.tellLeft(o)
	}
	return true
}

func (h *Server) holdsClass(user uint32, client pb.ClientType) bool {
	return slices.ContainsFunc(h.online.Of(user), func(o *session.Session) bool { return o.Client.SameClass(client) })
}

// replaces reports whether a login with client ends an older one with old.
func (h *Server) replaces(client, old pb.ClientType) bool {
	switch h.opt.Policy {
	case OneClient:
		return true
	case DeviceClass:
		return client.SameClass(old)
	}
	return false
}

// leave takes the session out and tells the other servers.
func (h *Server) leave(s *session.Session) {
	h.presence.mu.Lock()
	defer h.presence.mu.Unlock()
	if _, there := h.online.Remove(s); there {
		h.tellLeft(s)
	}
}

// handleLogout clears the push token, answers and closes.
func (h *Server) handleLogout(s *session.Session, seq uint16, _ *pb.IMLogoutReq) error {
	token := &pb.IMDeviceTokenReq{}
	token.SetUserId(s.User)
	token.SetDeviceToken("")
	if err := h.dbFirst.Send(uint64(s.User), seq, token); err != nil {
		h.warn(&h.often.token, "push token not cleared", "conn", s.ID(), "user", s.User, "err", err)
	}
	rsp := &pb.IMLogoutRsp{}
	rsp.SetResultCode(0)
	err := s.Send(seq, rsp)
	s.Close(nil)
	return err
}

// handleKickPC lets a phone end its user's pc sessions. From a pc client it is ignored.
func (h *Server) handleKickPC(s *session.Session, seq uint16, _ *pb.IMKickPCClientReq) error {
	if !s.Client.IsMobile() {
		return im.Errorf(im.Denied, "only a mobile client may end pc sessions")
	}
	kick := &pb.IMServerKickUser{}
	kick.SetUserId(s.User)
	kick.SetClientType(pb.ClientType_CLIENT_TYPE_MAC)
	kick.SetReason(uint32(pb.KickReasonType_KICK_REASON_MOBILE_KICK))
	h.presence.mu.Lock()
	h.presence.forward(kick)
	for _, o := range h.online.Of(s.User) {
		if !o.Client.IsMobile() {
			h.kick(o, pb.KickReasonType_KICK_REASON_MOBILE_KICK)
		}
	}
	h.presence.mu.Unlock()

	rsp := &pb.IMKickPCClientRsp{}
	rsp.SetUserId(s.User)
	rsp.SetResultCode(0)
	return s.Send(seq, rsp)
}
