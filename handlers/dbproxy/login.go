package dbproxy

import (
	"context"
	"hash/maphash"
	"strings"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// Result codes of IMValidateRsp, and the texts beside them, which clients show to people.
const (
	validateOK     = 0
	validateWrong  = 1 // no such user, or not this password: which of them is nobody's business
	validateFailed = 2
	validateLocked = 6

	textOK     = "成功"
	textWrong  = "用户名/密码错误"
	textFailed = "服务端内部错误"
	textBusy   = "服务器繁忙，请稍后再试"
	textLocked = "用户名/密码错误次数太多"
)

// maxName is the longest login name looked up, in bytes: 32 characters of utf8mb4.
const maxName = 4 * 32

// nameKey gives the logins of one name one strand.
func (s *Server) nameKey(name string) uint64 { return maphash.String(s.seed, strings.ToLower(name)) }

// validate checks a name and password.
func (s *Server) validate(ctx context.Context, m *pb.IMValidateReq) (pb.Message, error) {
	name := m.GetUserName()
	if name == "" || len(name) > maxName {
		s.metrics.refusedLogins.WithLabelValues("unknown").Inc()
		return validated(m, validateWrong, textWrong, nil), nil
	}
	who := suspect{name: strings.ToLower(name)}
	account, err := s.store.AccountByName(ctx, name)
	known := err == nil
	if err != nil && im.KindOf(err) != im.NotFound {
		return nil, err
	}
	if known {
		who = suspect{id: account.ID} // the database knows more spellings of a name than ToLower
	}
	now := s.opt.Now()
	if s.lock.locked(who, now) {
		s.metrics.refusedLogins.WithLabelValues("locked").Inc()
		return validated(m, validateLocked, textLocked, nil), nil
	}
	reason := refusal(known, &account, m.GetPassword())
	if reason != "" {
		s.metrics.refusedLogins.WithLabelValues(reason).Inc()
		if s.lock.fail(who, now) {
			s.metrics.locks.Inc()
			s.log.Warn("login name locked", "role", "dbproxy", "user", account.ID, "name", name)
		}
		return validated(m, validateWrong, textWrong, nil), nil
	}
	s.lock.clear(who)
	return validated(m, validateOK, textOK, userInfo(&account.User)), nil
}

// refusal says why an account may not log in, "" when it may.
func refusal(known bool, a *im.Account, password string) string {
	switch {
	case !known:
		return "unknown"
	case !a.Check(password):
		return "password"
	case a.Status != im.StatusOK:
		return "status"
	}
	return ""
}

// notValidated is the answer when nobody could check.
func notValidated(m *pb.IMValidateReq, err error) pb.Message {
	if im.KindOf(err) == im.Busy {
		return validated(m, validateFailed, textBusy, nil)
	}
	return validated(m, validateFailed, textFailed, nil)
}

func validated(m *pb.IMValidateReq, code uint32, text string, info *pb.UserInfo) *pb.IMValidateRsp {
	rsp := pb.IMValidateRsp_builder{UserName: proto.String(m.GetUserName()), ResultCode: proto.Uint32(code),
		ResultString: proto.String(text), UserInfo: info}.Build()
	rsp.SetAttachData(m.GetAttachData())
	return rsp
}
