package whereaboutstest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"teamtalk/core/im"
	"teamtalk/core/whereabouts"
	"teamtalk/proto/pb"
)

func TestMemory(t *testing.T) {
	Run(t, func(*testing.T) whereabouts.Store { return NewMemory() })
}

// TestFaultyPasses runs the suite through a Faulty without faults.
func TestFaultyPasses(t *testing.T) {
	Run(t, func(*testing.T) whereabouts.Store { return &Faulty{Store: NewMemory()} })
}

// TestFaults fails calls ahead of and behind the store.
func TestFaults(t *testing.T) {
	m := NewMemory()
	fault := errors.New("fault")
	var calls []Operation
	fail := func(_ context.Context, c Call) error {
		if append(c.Users, c.Groups...)[0] != 5 {
			t.Errorf("users %v, groups %v", c.Users, c.Groups)
		}
		calls = append(calls, c.Operation)
		return fault
	}
	for _, s := range []whereabouts.Store{&Faulty{Store: m, Before: fail},
		&Faulty{Store: m, After: fail}} {
		r := s.Apply(t.Context(), node("a", 1), []whereabouts.Update{{User: 5,
			Devices: []whereabouts.Device{ios}}, {User: 6}})
		f := s.Lookup(t.Context(), []uint32{5, 6})
		if len(r) != 2 || len(f) != 2 || r[0].Err != fault || r[1].Err != fault ||
			f[0].Err != fault || f[1].Err != fault || r[0].Version != 0 || f[0].Entries != nil {
			t.Errorf("%+v, %+v", r, f)
		}
		if made := len(m.Users()) == 1; made != (s.(*Faulty).After != nil) {
			t.Errorf("users %v", m.Users())
		}
		if err := s.Remove(t.Context(), 5, []whereabouts.Node{node("a", 1)}); err != fault ||
			len(m.Users()) != 0 {
			t.Errorf("removal: %v, users %v", err, m.Users())
		}
		failGroups(t, s, m, fault)
	}
	want := []Operation{Apply, Lookup, Remove, Mark, Lookup, Unmark}
	if !slices.Equal(calls, append(want, want...)) {
		t.Errorf("calls %v", calls)
	}
}

// failGroups fails calls for a group of a store on m.
func failGroups(t *testing.T, s whereabouts.Store, m *Memory, fault error) {
	g := s.Mark(t.Context(), []whereabouts.Mark{{Group: 5, Version: 1}, {Group: 6}})
	_, version := m.Group(5)
	if made := version == 1; made != (s.(*Faulty).After != nil) || len(g) != 2 ||
		g[0].Err != fault || g[0].Version != 0 || g[1].Err != fault {
		t.Errorf("version %d, answer %+v", version, g)
	}
	found, g := s.LookupAll(t.Context(), []uint32{5}, []uint32{7})
	if len(found) != 1 || len(g) != 1 || found[0].Err != fault || g[0].Err != fault {
		t.Errorf("found %+v, %+v", found, g)
	}
	if errs := s.Unmark(t.Context(), []whereabouts.Unmark{{Group: 5}}); len(errs) != 1 ||
		errs[0] != fault {
		t.Errorf("unmarked: %v", errs)
	}
}

// stored is a store that stores everything.
type stored struct{ im.Store }

// AppendMessages gives all messages an id.
func (stored) AppendMessages(_ context.Context, batch []*im.Message) {
	for _, m := range batch {
		m.ID = 1
	}
}

// TestAfterCommit looks up the users of messages.
func TestAfterCommit(t *testing.T) {
	m := NewMemory()
	apply(t, m, node("a", 1), 5, ios)
	apply(t, m, node("b", 2), 6, windows)
	text, group := pb.MsgType_MSG_TYPE_SINGLE_TEXT, pb.MsgType_MSG_TYPE_GROUP_TEXT
	batch := []*im.Message{{From: 5, To: 6, Type: text, WantWhereabouts: true},
		{From: 5, To: 6, Type: text}, {From: 5, To: 6, Type: group, WantWhereabouts: true}}
	AfterCommit{stored{}, m}.AppendMessages(t.Context(), batch)
	o, err := whereabouts.ParseOfMessage(batch[0].Whereabouts)
	if err != nil || entriesText(o.Receiver)+" | "+entriesText(o.Sender) != "b@2:1 | a@1:17a" {
		t.Errorf("%v: %v", o, err)
	}
	if batch[0].ID != 1 || batch[1].Whereabouts != nil || batch[2].Whereabouts != nil {
		t.Error("they were not asked for")
	}
	fault := func(context.Context, Call) error { return errors.New("fault") }
	AfterCommit{stored{}, &Faulty{Store: m, Before: fault}}.AppendMessages(t.Context(), batch)
	if batch[0].Whereabouts != nil {
		t.Error("known in spite of a fault")
	}
}

// TestLose tells each watch of a loss, and none that has ended.
func TestLose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory()
		ctx, cancel := context.WithCancel(t.Context())
		var told [2]int
		for i := range told {
			go m.Watch(ctx, func() { told[i]++ })
		}
		for want := 1; want < 4; want++ {
			synctest.Wait() // the first call is at the begin
			if told != [2]int{want, want} || len(m.Users()) != 0 {
				t.Errorf("told %v times, want %d, users %v", told, want, m.Users())
			}
			apply(t, m, node("a", 1), 5, ios)
			m.Lose()
		}
		synctest.Wait()
		cancel()
		synctest.Wait()
		m.Lose()
		synctest.Wait()
		if told != [2]int{4, 4} || len(m.watches) != 0 {
			t.Errorf("told %v times after the end", told)
		}
	})
}
