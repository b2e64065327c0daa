package admission

import (
	"slices"

	"teamtalk/core/im"
	"teamtalk/core/link"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// textElsewhere is the text of a login refused by KeepFirst.
const textElsewhere = "already logged in on another device"

// checked takes db_proxy's answer. A login whose password is right continues with
// admitAtRate. Loop only.
// key is the key with which the db_proxy was asked.
func (h *Handler) checked(s *session.Client, key uint64, seq uint16, m *pb.IMLoginReq,
	rsp pb.Message, err error) {
	if s.IsClosed() {
		return
	}
	v, err := link.Answer[*pb.IMValidateRsp](rsp, err)
	code := v.GetResultCode()
	if err == nil && (code == validateFailed || code == 0 && v.GetUserInfo() == nil) {
		err = im.Errorf(im.Unavailable, "db_proxy could not check it: %s", v.GetResultString())
	}
	h.pace.checked(err == nil)
	if err != nil {
		// The password may be right. A client forgets a password that the server calls
		// wrong, so the answer must not say so.
		h.often.login.Warn(h.log, h.opt.Now(), "login not checked", "conn", s.ID(), "err", err)
		h.opt.Client(s).busy = im.KindOf(err) == im.Busy
		h.refuse(s, seq, m, without(pb.ResultType_REFUSE_REASON_NO_DB_SERVER))
		return
	}
	if code != 0 {
		h.refuse(s, seq, m, deniedBy(v))
		return
	}
	h.note(s, key, v)
	h.admitAtRate(s, seq, m, v)
}

// admitByPolicy continues with a login that its user may make now. Loop only.
func (h *Handler) admitByPolicy(s *session.Client, seq uint16, m *pb.IMLoginReq,
	v *pb.IMValidateRsp) {
	if h.opt.Policy != KeepFirst || h.opt.Announces {
		h.admitInTurn(s, seq, m, v)
		return
	}
	h.ifNotElsewhere(s, v.GetUserInfo().GetUserId(), m.GetClientType(), func(free bool) {
		if !free {
			h.refuse(s, seq, m, elsewhere)
			return
		}
		h.admit(s, seq, m, v)
	})
}

// ifNotElsewhere calls then with free = true when no other message server holds a device of
// that class of the user. Without an answer free is true as well: the policy protects a
// session. It must not lock a user out.
func (h *Handler) ifNotElsewhere(s *session.Client, user uint32, client pb.ClientType,
	then func(free bool)) {
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
		// A C++ route server answers about PC clients, whatever it is asked.
		there := err == nil && ok && stat.IsOnline(user) && (stat.HasScope() || !client.IsMobile())
		then(!there)
	})
}

// admitInTurn admits a login at once. If its client was just kicked, the login waits for its
// turn. A login that waited long is checked again. Loop only.
func (h *Handler) admitInTurn(s *session.Client, seq uint16, m *pb.IMLoginReq,
	v *pb.IMValidateRsp) {
	if h.stale(s) {
		h.checkLogin(s, seq, m)
		return
	}
	class := h.fightClass(m.GetClientType())
	wait := h.fights.wait(v.GetUserInfo().GetUserId(), class, clientAddr(s), s.Loop().Now())
	if wait == 0 {
		h.announce(s, seq, m, v)
		return
	}
	h.metrics.loginsHeld.WithLabelValues("kicked").Inc()
	h.hold(s, &heldLogin{due: s.Loop().Now().Add(wait), then: func(cut bool) {
		if cut && !h.stale(s) {
			h.announce(s, seq, m, v)
			return
		}
		h.admitInTurn(s, seq, m, v) // another login may have taken the turn
	}})
}

// admit registers the session, kicks the older ones that it replaces, tells the other
// servers and answers the client. Loop only.
func (h *Handler) admit(s *session.Client, seq uint16, m *pb.IMLoginReq, v *pb.IMValidateRsp) {
	user, client := v.GetUserInfo().GetUserId(), m.GetClientType()
	h.opt.Client(s).fileRepeats.Store(m.GetFileRepeats())
	if !h.enter(s, user, client) {
		giveUp(h, user, client)
		h.refuse(s, seq, m, elsewhere)
		return
	}
	h.opt.Audience.Join(s)
	s.SetIdleLimit(h.opt.PCTimeout)
	if client.IsMobile() {
		s.SetIdleLimit(h.opt.MobileTimeout)
	}
	status := pb.UserStatType_USER_STATUS_ONLINE // also for a value that other clients do not know
	if m.GetOnlineStatus() == pb.UserStatType_USER_STATUS_LEAVE {
		status = pb.UserStatType_USER_STATUS_LEAVE
	}
	rsp := &pb.IMLoginRes{}
	rsp.SetServerTime(h.unix())
	rsp.SetResultCode(pb.ResultType_REFUSE_REASON_NONE)
	rsp.SetResultString(v.GetResultString())
	rsp.SetOnlineStatus(status)
	rsp.SetUserInfo(v.GetUserInfo())
	if h.opt.UploadTickets && m.GetUploadTickets() {
		rsp.SetUploadTickets(true)
	}
	if err := s.Send(seq, rsp); err != nil {
		h.log.Error("login answer", "conn", s.ID(), "user", user, "err", err)
		s.Close(err)
		return
	}
	h.refusals.admitted(clientAddr(s), m.GetUserName())
	h.metrics.logins.WithLabelValues("ok").Inc()
	h.auditLogin(s, m)
	h.log.Debug("client logged in", "conn", s.ID(), "user", user)
	h.opt.Admitted(s)
}

// enter registers the session and kicks those that its login replaces. It returns false
// when the policy does not allow the login. The other servers hear that the user came
// before they hear that it left elsewhere, so that no client is told that the user was
// offline in between.
func (h *Handler) enter(s *session.Client, user uint32, client pb.ClientType) bool {
	c := h.opt.Client(s)
	h.others.Lock()
	defer h.others.Unlock()
	if h.opt.Policy == KeepFirst && h.holdsClass(user, client) {
		return false
	}
	c.login = loggedIn
	s.SetLoggedIn(user, client)
	replaced := slices.DeleteFunc(slices.Clone(h.online.Add(s)), func(o *session.Client) bool {
		return !h.replaces(client, o.ClientType) ||
			!h.expel(o, pb.KickReasonType_KICK_REASON_DUPLICATE_USER)
	})
	if h.opt.Policy == DeviceClass || h.opt.Policy == OneClient {
		kick := &pb.IMServerKickUser{}
		kick.SetUserId(user)
		kick.SetClientType(client)
		kick.SetReason(uint32(pb.KickReasonType_KICK_REASON_DUPLICATE_USER))
		h.others.KickElsewhere(kick, s)
	}
	h.others.Came(s)
	for _, o := range replaced {
		h.others.Left(o)
	}
	return true
}

func (h *Handler) holdsClass(user uint32, client pb.ClientType) bool {
	return slices.ContainsFunc(h.online.Of(user), func(o *session.Client) bool {
		return o.ClientType.SameClass(client)
	})
}

// replaces reports whether a login with client ends an older one with old.
func (h *Handler) replaces(client, old pb.ClientType) bool {
	switch h.opt.Policy {
	case OneClient:
		return true
	case DeviceClass:
		return client.SameClass(old)
	}
	return false
}
