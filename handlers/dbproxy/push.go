package dbproxy

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/handlers/dbproxy/grouprules"
	"teamtalk/proto/pb"
)

// The hours, on this server's clock, in which users with a push shield receive no pushes:
// from 22:00 until 07:00.
const (
	nightBegins = 22
	nightEnds   = 7
)

// pushLoud is the push_type of a push with a notice. The message server decides which
// pushes are silent, because it knows which users have a pc online.
const pushLoud = 1

// pushes answers the requests about device tokens and push shields.
type pushes struct {
	*runner
	store pushStore
}

// pushStore is what pushes needs of the store.
type pushStore interface {
	im.PushStore
	Users(ctx context.Context, ids []uint32) ([]im.User, error)
	SetPushShield(ctx context.Context, user uint32, on bool) error
	UnreadTotals(ctx context.Context, users []uint32) (map[uint32]uint32, error)
}

func (p *pushes) register() {
	r := p.runner
	handle(r, work[*pb.IMDeviceTokenReq]{user: userOf[*pb.IMDeviceTokenReq], run: p.deviceToken})
	handle(r, work[*pb.IMPushShieldReq]{user: userOf[*pb.IMPushShieldReq], run: p.shieldPushes,
		refuse: func(m *pb.IMPushShieldReq, _ error) pb.Message {
			return pushesShielded(m, resultRefused)
		}})
	handle(r, work[*pb.IMQueryPushShieldReq]{user: userOf[*pb.IMQueryPushShieldReq],
		run: p.pushShield,
		refuse: func(m *pb.IMQueryPushShieldReq, _ error) pb.Message {
			return pushShield(m, resultRefused)
		}})
	handle(r, work[*pb.IMGetDeviceTokenReq]{user: firstUser, run: p.pushTargets})
}

// deviceToken stores the token to which a user's pushes are sent. An empty token turns
// pushes off. The answer has no result code, so a request that fails is not answered. A
// report of a dead token is not answered either.
func (p *pushes) deviceToken(ctx context.Context, m *pb.IMDeviceTokenReq) (pb.Message, error) {
	if dead := m.GetDeadToken(); dead != "" {
		// Only this token is deleted: the user may have a new one by now.
		return nil, p.store.DropDeviceToken(ctx, dead)
	}
	t := im.DeviceToken{User: m.GetUserId(), Client: m.GetClientType(), Token: m.GetDeviceToken()}
	if !m.HasClientType() {
		t.Client = phoneOf(t.Token)
	}
	if err := p.store.SetDeviceToken(ctx, t); err != nil {
		return nil, err
	}
	rsp := pb.IMDeviceTokenRsp_builder{UserId: proto.Uint32(m.GetUserId())}.Build()
	rsp.SetAttachData(m.GetAttachData())
	return rsp, nil
}

// appleToken is the length of Apple's tokens in hexadecimal digits.
const appleToken = 64

// phoneOf derives the client type from the token, for a request without one: a request to
// clear the token, or one from an old message server.
func phoneOf(token string) pb.ClientType {
	if len(token) == appleToken && strings.Trim(token, "0123456789abcdefABCDEF") == "" {
		return pb.ClientType_CLIENT_TYPE_IOS
	}
	return pb.ClientType_CLIENT_TYPE_ANDROID
}

func (p *pushes) shieldPushes(ctx context.Context, m *pb.IMPushShieldReq) (pb.Message, error) {
	if err := p.store.SetPushShield(ctx, m.GetUserId(), m.GetShieldStatus() != 0); err != nil {
		return nil, err
	}
	rsp := pushesShielded(m, resultOK)
	rsp.SetShieldStatus(m.GetShieldStatus())
	return rsp, nil
}

func pushesShielded(m *pb.IMPushShieldReq, code uint32) *pb.IMPushShieldRsp {
	rsp := pb.IMPushShieldRsp_builder{UserId: proto.Uint32(m.GetUserId()),
		ResultCode: proto.Uint32(code)}.Build()
	rsp.SetAttachData(m.GetAttachData())
	return rsp
}

func (p *pushes) pushShield(ctx context.Context, m *pb.IMQueryPushShieldReq) (pb.Message, error) {
	users, err := p.store.Users(ctx, []uint32{m.GetUserId()})
	if err != nil {
		return nil, err
	}
	if len(users) == 0 {
		return nil, im.Errorf(im.NotFound, "no user %d", m.GetUserId())
	}
	rsp := pushShield(m, resultOK)
	rsp.SetShieldStatus(shieldStatus(users[0].PushShield))
	return rsp, nil
}

func pushShield(m *pb.IMQueryPushShieldReq, code uint32) *pb.IMQueryPushShieldRsp {
	rsp := pb.IMQueryPushShieldRsp_builder{UserId: proto.Uint32(m.GetUserId()),
		ResultCode: proto.Uint32(code)}.Build()
	rsp.SetAttachData(m.GetAttachData())
	return rsp
}

// firstUser returns the key of a request about several users. The push for a single
// message concerns one user, and the request must not overtake earlier requests of that
// user, such as read acks.
func firstUser(m *pb.IMGetDeviceTokenReq) uint64 {
	if users := m.GetUserId(); len(users) > 0 {
		return uint64(users[0])
	}
	return 0
}

// pushTargets returns the tokens of the users that have one and receive pushes now, in
// ascending order of user, with the number of unread messages of each.
func (p *pushes) pushTargets(ctx context.Context, m *pb.IMGetDeviceTokenReq) (pb.Message, error) {
	tokens, err := p.wanted(ctx, grouprules.Ascending(m.GetUserId()))
	if err != nil {
		return nil, err
	}
	var totals map[uint32]uint32
	if len(tokens) > 0 {
		if totals, err = p.store.UnreadTotals(ctx, usersOf(tokens)); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(tokens, func(a, b im.DeviceToken) int { return cmp.Compare(a.User, b.User) })
	list := make([]*pb.UserTokenInfo, len(tokens))
	for i, t := range tokens {
		list[i] = pb.UserTokenInfo_builder{UserId: proto.Uint32(t.User), UserType: t.Client.Enum(),
			Token:     proto.String(t.Token),
			PushCount: proto.Uint32(totals[t.User]), PushType: proto.Uint32(pushLoud)}.Build()
	}
	rsp := pb.IMGetDeviceTokenRsp_builder{UserTokenInfo: list}.Build()
	rsp.SetAttachData(m.GetAttachData())
	return rsp, nil
}

// wanted returns the tokens of the users that have one and receive pushes now.
func (p *pushes) wanted(ctx context.Context, users []uint32) ([]im.DeviceToken, error) {
	users = users[:min(len(users), im.MaxGroupMembers)]
	if len(users) == 0 {
		return nil, nil
	}
	tokens, err := p.store.DeviceTokens(ctx, users)
	if err != nil || len(tokens) == 0 || !atNight(p.now()) {
		return tokens, err
	}
	owners, err := p.store.Users(ctx, usersOf(tokens))
	if err != nil {
		return nil, err
	}
	resting := make(map[uint32]bool, len(owners))
	for i := range owners {
		resting[owners[i].ID] = owners[i].PushShield
	}
	return slices.DeleteFunc(tokens, func(t im.DeviceToken) bool { return resting[t.User] }), nil
}

func usersOf(tokens []im.DeviceToken) []uint32 {
	users := make([]uint32, len(tokens))
	for i, t := range tokens {
		users[i] = t.User
	}
	return users
}

// atNight reports whether t, in its own time zone, is within the hours in which push
// shields apply.
func atNight(t time.Time) bool { return t.Hour() >= nightBegins || t.Hour() < nightEnds }
