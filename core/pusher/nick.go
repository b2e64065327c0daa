package pusher

import (
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

const (
	// nickAge is the time for which a nick is used before db_proxy is asked again. No
	// server announces a changed nick, so pushes may display the old one for this long.
	nickAge = time.Minute
	// maxNicks bounds the cache of nicks; the least recently used one is evicted.
	maxNicks = 8192
	// maxNick is the longest nick displayed, in characters. It is the width of the
	// column.
	maxNick = im.MaxName
)

// nicks caches the nicks of senders. Any goroutine.
type nicks struct {
	byUser *lru.Cache[uint32, nick]
}

// nick is a cached nick and the time at which db_proxy returned it.
type nick struct {
	text string
	at   time.Time
}

func newNicks() nicks {
	c, err := lru.New[uint32, nick](maxNicks)
	if err != nil {
		panic(err) // the size is a positive constant
	}
	return nicks{c}
}

// get returns the cached nick of user; false when db_proxy must be asked.
func (n nicks) get(user uint32, now time.Time) (string, bool) {
	kept, ok := n.byUser.Get(user)
	if !ok || now.Sub(kept.at) >= nickAge {
		return "", false
	}
	return kept.text, true
}

// findNick finds the sender's nick and continues with send. Without an answer the push
// displays neither name nor text, as in the first implementation for an unknown sender.
func (p *pushes) findNick() {
	user := p.m.FromUserID
	if text, ok := p.p.nicks.get(user, p.p.opt.Now()); ok {
		p.send(text)
		return
	}
	req := pb.IMUsersInfoReq_builder{UserId: proto.Uint32(user), UserIdList: []uint32{user}}.Build()
	p.p.db.Call(nil, p.key, 0, req, func(rsp pb.Message, err error) {
		text := ""
		if m, ok := rsp.(*pb.IMUsersInfoRsp); ok && err == nil {
			text = nickIn(m, user)
			p.p.nicks.byUser.Add(user, nick{text, p.p.opt.Now()})
		}
		p.send(text)
	})
}

// nickIn returns the nick of user, or the login name for a user without a nick; "" when
// the answer does not contain the user.
func nickIn(m *pb.IMUsersInfoRsp, user uint32) string {
	for _, u := range m.GetUserInfoList() {
		if u.GetUserId() != user {
			continue
		}
		for _, name := range []string{u.GetUserNickName(), u.GetUserRealName()} {
			if name = strings.TrimSpace(strings.ToValidUTF8(name, "")); name != "" {
				return shorten(name, maxNick)
			}
		}
	}
	return ""
}
