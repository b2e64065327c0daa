package dbproxy_test

import (
	"bytes"
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/handlers/dbproxy"
	"teamtalk/proto/pb"
)

// crowd makes groups of user 1 and 2, each with an unread message for user 1, a second apart.
func (h *house) crowd(n, size int) {
	h.t.Helper()
	for range n {
		g, err := h.store.CreateGroup(h.t.Context(), im.Group{Name: "g", Creator: 2,
			Type: temporary, Members: []uint32{1, 2}}, 0)
		if err != nil {
			h.t.Fatal(err)
		}
		m := groupText(2, g.ID, string(bytes.Repeat([]byte("x"), size)))
		m.CreateTime = uint32(h.clock.Now().Unix())
		msg := &im.Message{From: 2, To: g.ID, Type: m.Type, Created: m.CreateTime, Data: m.Data}
		h.store.AppendMessages(h.t.Context(), []*im.Message{msg})
		if msg.Err != nil {
			h.t.Fatal(msg.Err)
		}
		h.clock.Add(time.Second)
	}
}

// wantCuts checks the number of answers with a part of a list.
func wantCuts(t *testing.T, reg *prometheus.Registry, want float64) {
	t.Helper()
	if n := counted(t, reg, "teamtalk_dbproxy_lists_cut_total"); n != want {
		t.Errorf("%v lists were cut, want %v", n, want)
	}
}

// TestUnreadListIsBounded requires that the list has the latest conversations that fit, and
// the total of all. With those read, the next list has others.
func TestUnreadListIsBounded(t *testing.T) {
	const groups, size = 300, 4000
	reg := prometheus.NewRegistry()
	// A frame of 1 MiB: the answer has up to half of it.
	h := open(t, options{db: dbproxy.Options{MaxFrame: 1 << 20, Registerer: reg}})
	h.crowd(groups, size)
	p := h.dial()
	next := uint32(groups)
	for round := 0; next > 0; round++ {
		rsp := ask[*pb.IMUnreadMsgCntRsp](p, 1, unreadOf(1))
		list := rsp.GetUnreadinfoList()
		if rsp.GetTotalCnt() != next || len(list) == 0 || proto.Size(rsp) > 1<<19 {
			t.Fatalf("round %d: %d unread, %d listed in %d bytes, want %d", round,
				rsp.GetTotalCnt(), len(list), proto.Size(rsp), next)
		}
		for i, u := range list {
			if want := next - uint32(len(list)-1-i); u.GetSessionId() != want ||
				u.GetUnreadCnt() != 1 || len(u.GetLatestMsgData()) != size {
				t.Fatalf("round %d: entry %d is %d of group %d, want group %d", round, i,
					u.GetUnreadCnt(), u.GetSessionId(), want)
			}
			p.send(2, pb.IMMsgDataReadAck_builder{UserId: new(uint32(1)),
				SessionId: new(u.GetSessionId()), MsgId: new(uint32(1)),
				SessionType: group.Enum()}.Build())
		}
		next -= uint32(len(list))
	}
	wantCuts(t, reg, 2)
}

// TestRecentSessionsAreBounded requires more of the conversations that changed since a time
// than of those that a client without any asks for.
func TestRecentSessionsAreBounded(t *testing.T) {
	reg := prometheus.NewRegistry()
	h := open(t, options{db: dbproxy.Options{MaxFrame: 1 << 20, Registerer: reg}})
	began := uint32(h.clock.Now().Unix())
	h.crowd(300, 4000)
	p := h.dial()
	for since, want := range map[uint32]int{0: 100, began: 129} { // 129 fit half a frame
		req := pb.IMRecentContactSessionReq_builder{UserId: new(uint32(1)),
			LatestUpdateTime: &since}.Build()
		rsp := ask[*pb.IMRecentContactSessionRsp](p, 1, req)
		list := rsp.GetContactSessionList()
		if len(list) != want || list[0].GetSessionId() != 300 || proto.Size(rsp) > 1<<19 {
			t.Errorf("since %d: %d conversations in %d bytes, want %d", since, len(list),
				proto.Size(rsp), want)
		}
	}
	wantCuts(t, reg, 1)
}

// largeGroups is a store whose groups have ten thousand members, and whose users are in many
// groups.
type largeGroups struct {
	im.Store
	normal int
}

func (s largeGroups) Groups(_ context.Context, ids []uint32) ([]im.Group, error) {
	users := make([]uint32, im.MaxGroupMembers)
	for i := range users {
		users[i] = uint32(i + 1)
	}
	groups := make([]im.Group, len(ids))
	for i, id := range ids {
		groups[i] = im.Group{ID: id, Name: "g", Version: 1, Type: temporary, Members: users}
	}
	return groups, nil
}

func (s largeGroups) GroupsOf(context.Context, uint32, pb.GroupType, uint32) ([]im.GroupVersion,
	error) {
	list := make([]im.GroupVersion, s.normal)
	for i := range list {
		list[i] = im.GroupVersion{ID: uint32(i + 1), Version: 1}
	}
	return list, nil
}

// TestGroupListsAreBounded requires that lists of groups and their members end.
func TestGroupListsAreBounded(t *testing.T) {
	reg := prometheus.NewRegistry()
	p := open(t, options{db: dbproxy.Options{Registerer: reg},
		stored: func(s im.Store) im.Store { return largeGroups{s, 30_007} }}).dial()
	var asked []*pb.GroupVersionInfo
	for id := range uint32(1000) {
		asked = append(asked, pb.GroupVersionInfo_builder{GroupId: new(id + 1),
			Version: new(uint32(0))}.Build())
	}
	infos := ask[*pb.IMGroupInfoListRsp](p, 1, pb.IMGroupInfoListReq_builder{
		UserId: new(uint32(1)), GroupVersionList: asked}.Build()).GetGroupInfoList()
	if len(infos) != 100 || infos[99].GetGroupId() != 100 {
		t.Errorf("%d groups, want the first 100", len(infos))
	}
	normal := ask[*pb.IMNormalGroupListRsp](p, 2, pb.IMNormalGroupListReq_builder{
		UserId: new(uint32(1)), LatestUpdateTime: new(uint32(77))}.Build())
	if ask[*pb.IMNormalGroupListRsp](p, 2, pb.IMNormalGroupListReq_builder{
		UserId: new(uint32(1)), EveryType: new(true)}.Build()).HasEveryType() {
		t.Error("a list that is cut counts as that of all groups")
	}
	list := normal.GetGroupVersionList()
	if len(list) != 30_000 || list[0].GetGroupId() != 8 || normal.GetLatestUpdateTime() != 77 {
		t.Errorf("%d groups at %d, want the last 30,000 and the client's own time", len(list),
			normal.GetLatestUpdateTime())
	}
	wantCuts(t, reg, 3)
}

// countingGroups is a store whose groups have some members, and counts the queries for them.
type countingGroups struct {
	im.Store
	members []uint32
	queries *atomic.Int64
}

func (s countingGroups) Groups(_ context.Context, ids []uint32) ([]im.Group, error) {
	s.queries.Add(1)
	groups := make([]im.Group, len(ids))
	for i, id := range ids {
		groups[i] = im.Group{ID: id, Name: "g", Version: 1, Type: temporary, Members: s.members}
	}
	return groups, nil
}

// TestGroupsAreReadByPages: 1,000 small groups are read with few queries. Large groups end the
// reading, also those of other users, which the answer does not contain.
func TestGroupsAreReadByPages(t *testing.T) {
	large := make([]uint32, im.MaxGroupMembers)
	for i := range large {
		large[i] = uint32(i + 2)
	}
	for _, c := range []struct {
		what           string
		members        []uint32
		groups, atMost int
	}{{"small", []uint32{1, 2}, 1000, 7}, {"large, of others", large, 0, 2}} {
		var queries atomic.Int64
		p := open(t, options{stored: func(s im.Store) im.Store {
			return countingGroups{s, c.members, &queries}
		}}).dial()
		var asked []*pb.GroupVersionInfo
		for id := range uint32(1000) {
			asked = append(asked, pb.GroupVersionInfo_builder{GroupId: new(id + 1),
				Version: new(uint32(0))}.Build())
		}
		infos := ask[*pb.IMGroupInfoListRsp](p, 1, pb.IMGroupInfoListReq_builder{
			UserId: new(uint32(1)), GroupVersionList: asked}.Build()).GetGroupInfoList()
		if len(infos) != c.groups || queries.Load() > int64(c.atMost) {
			t.Errorf("%s: %d groups with %d queries", c.what, len(infos), queries.Load())
		}
	}
}
