package storetest

import (
	"slices"
)

var historyTests = []test{
	{"empty conversation", emptyConversation},
	{"history in pages", historyPages},
	{"history is of one conversation", historyOfOne},
	{"messages by id", messagesByID},
	{"latest id", latestID},
}

func emptyConversation(f *fixture) {
	u := f.users(3)
	f.append(text(u[0], u[1], "elsewhere"))
	f.wantNothing(u[1], u[2])
	f.wantNothing(u[2], u[2]+1000)
	for _, begin := range []uint32{0, 1, 99} {
		got, err := f.s.History(f.ctx, u[1], u[2], begin, 10)
		f.check("History", err)
		if len(got) != 0 {
			f.Errorf("History from %d: %v", begin, got)
		}
	}
	got, err := f.s.MessagesByID(f.ctx, u[1], u[2], []uint32{1})
	f.check("MessagesByID", err)
	if len(got) != 0 {
		f.Errorf("MessagesByID: %v", got)
	}
}

func historyPages(f *fixture) {
	a, b := f.pair()
	f.append(texts(a, b, 10)...)
	for _, tc := range []struct {
		begin        uint32
		count        int
		newest, last uint32 // ids; 0, 0: no message
	}{
		{0, 3, 10, 8},
		{0, 10, 10, 1},
		{0, 100, 10, 1},
		{10, 1, 10, 10},
		{7, 3, 7, 5},
		{3, 5, 3, 1},
		{1, 5, 1, 1},
		{11, 2, 10, 9},
		{1 << 31, 2, 10, 9},
		{1<<32 - 1, 2, 10, 9},
		{0, 0, 0, 0},
		{5, 0, 0, 0},
		{5, -1, 0, 0},
	} {
		got, err := f.s.History(f.ctx, b, a, tc.begin, tc.count)
		f.check("History", err)
		var ids, want []uint32
		for _, m := range got {
			ids = append(ids, m.ID)
		}
		for id := tc.newest; id >= tc.last && id > 0; id-- {
			want = append(want, id)
		}
		if !slices.Equal(ids, want) {
			f.Errorf("History from %d, %d messages: got %v, want %v", tc.begin, tc.count, ids, want)
		}
	}
}

func historyOfOne(f *fixture) {
	u := f.users(3)
	ab, ac, bc := texts(u[0], u[1], 3), texts(u[0], u[2], 4), texts(u[2], u[1], 5)
	f.append(slices.Concat(ab, ac, bc)...)
	f.wantHistory(u[0], u[1], ab...)
	f.wantHistory(u[0], u[2], ac...)
	f.wantHistory(u[1], u[2], bc...)
}

func messagesByID(f *fixture) {
	a, b := f.pair()
	stored := texts(a, b, 10)
	f.append(stored...)
	many := make([]uint32, 5000)
	for i := range many {
		many[i] = uint32(len(many) - i)
	}
	for _, tc := range []struct {
		name      string
		ask, want []uint32
	}{
		{"none", nil, nil},
		{"in order of id, whatever is asked", []uint32{7, 2, 5}, []uint32{2, 5, 7}},
		{"without those that do not exist", []uint32{11, 3, 0, 10, 99, 1<<32 - 1}, []uint32{3, 10}},
		{"asked twice", []uint32{4, 4}, []uint32{4}},
		{"many", many, []uint32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}},
	} {
		got, err := f.s.MessagesByID(f.ctx, b, a, tc.ask)
		f.check("MessagesByID "+tc.name, err)
		var ids []uint32
		for _, m := range got {
			ids = append(ids, m.ID)
			if !sameMessage(m, *stored[m.ID-1]) {
				f.Errorf("%s: got %+v, want %+v", tc.name, m, *stored[m.ID-1])
			}
		}
		if !slices.Equal(ids, tc.want) {
			f.Errorf("%s: got %v, want %v", tc.name, ids, tc.want)
		}
	}
}

func latestID(f *fixture) {
	a, b := f.pair()
	for want := uint32(1); want <= 3; want++ {
		f.append(text(a, b, "x"))
		for _, side := range [][2]uint32{{a, b}, {b, a}} {
			got, err := f.s.LatestID(f.ctx, side[0], side[1])
			f.check("LatestID", err)
			if got != want {
				f.Errorf("LatestID is %d, want %d", got, want)
			}
		}
	}
}
