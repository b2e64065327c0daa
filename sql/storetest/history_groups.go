package storetest

import (
	"fmt"
	"slices"

	"teamtalk/core/im"
)

var groupHistoryTests = []test{
	{"history in pages", groupHistoryPages},
	{"nothing for users outside the group", groupStrangers},
	{"messages by id", groupMessagesByID},
}

func groupHistoryPages(f *fixture) {
	u := f.users(2)
	g := f.group(u...)
	for i := range 10 {
		f.post(u[i%2], g.ID, fmt.Sprint(i))
	}
	for _, tc := range []struct {
		begin        uint32
		count        int
		newest, last uint32 // ids; 0, 0: no message
	}{
		{0, 3, 10, 8}, {0, 100, 10, 1}, {10, 1, 10, 10}, {7, 3, 7, 5}, {3, 5, 3, 1}, {11, 2, 10,
			9}, {1<<32 - 1, 2, 10, 9}, {0, 0, 0, 0}, {5, -1, 0, 0},
	} {
		got, err := f.s.GroupHistory(f.ctx, u[1], g.ID, tc.begin, tc.count)
		f.check("GroupHistory", err)
		var ids, want []uint32
		for _, m := range got {
			ids = append(ids, m.ID)
		}
		for id := tc.newest; id >= tc.last && id > 0; id-- {
			want = append(want, id)
		}
		if !slices.Equal(ids, want) {
			f.Errorf("from %d, %d messages: got %v, want %v", tc.begin, tc.count, ids, want)
		}
	}
}

func groupStrangers(f *fixture) {
	u := f.users(3)
	g := f.group(u[:2]...)
	f.post(u[0], g.ID, "x")
	f.sync()
	for _, tc := range []struct{ user, group uint32 }{{u[2], g.ID}, {u[0], g.ID + 1000},
		{u[2] + 1000, g.ID}, {u[0], 0}} {
		f.wantGroupHistory(tc.user, tc.group)
		got, err := f.s.GroupMessagesByID(f.ctx, tc.user, tc.group, []uint32{1})
		if err != nil || len(got) != 0 {
			f.Errorf("user %d, group %d: GroupMessagesByID: %v, %v", tc.user, tc.group, got, err)
		}
		if id, err := f.s.GroupLatestID(f.ctx, tc.user, tc.group); err != nil || id != 0 {
			f.Errorf("user %d, group %d: GroupLatestID: %d, %v", tc.user, tc.group, id, err)
		}
		f.check("ClearGroupUnread", f.s.ClearGroupUnread(f.ctx, tc.user, tc.group))
		f.wantKind("RemoveSession", f.s.RemoveSession(f.ctx, tc.user, tc.group, groupSession),
			im.NotFound)
		if n := f.groupUnread(tc.user, tc.group); n != 0 {
			f.Errorf("user %d, group %d: %d unread", tc.user, tc.group, n)
		}
	}
	if _, ok := f.sessionOf(u[2], g.ID, groupSession); ok {
		f.Error("a stranger has a session")
	}
	// A clear by a stranger has no effect, also after the stranger has joined.
	f.change(g.ID, add, u[2])
	f.post(u[0], g.ID, "y")
	if n := f.groupUnread(u[2], g.ID); n != 1 {
		f.Errorf("%d unread, want 1", n)
	}
}

func groupMessagesByID(f *fixture) {
	u := f.users(2)
	g := f.group(u...)
	var stored []*im.Message
	for i := range 10 {
		stored = append(stored, f.post(u[i%2], g.ID, fmt.Sprint(i)))
	}
	many := make([]uint32, 5000)
	for i := range many {
		many[i] = uint32(len(many) - i)
	}
	for _, tc := range []struct{ ask, want []uint32 }{
		{nil, nil}, {[]uint32{7, 2, 5}, []uint32{2, 5, 7}}, {[]uint32{11, 3, 0, 10, 1<<32 - 1},
			[]uint32{3, 10}}, {[]uint32{4, 4}, []uint32{4}},
		{many, []uint32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}},
	} {
		got, err := f.s.GroupMessagesByID(f.ctx, u[1], g.ID, tc.ask)
		f.check("GroupMessagesByID", err)
		var ids []uint32
		for _, m := range got {
			ids = append(ids, m.ID)
			if !sameMessage(m, *stored[m.ID-1]) {
				f.Errorf("got %+v, want %+v", m, *stored[m.ID-1])
			}
		}
		if !slices.Equal(ids, tc.want) {
			f.Errorf("got %v, want %v", ids, tc.want)
		}
	}
	if id, err := f.s.GroupLatestID(f.ctx, u[1], g.ID); err != nil || id != 10 {
		f.Errorf("GroupLatestID %d, %v; want 10", id, err)
	}
}
