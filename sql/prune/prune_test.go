package prune_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
	"teamtalk/sql/dbtest"
	"teamtalk/sql/embedded"
	"teamtalk/sql/prune"
	"teamtalk/sql/schema"
	"teamtalk/sql/store"
)

// world is a store with two processes: a server, and a command beside it.
type world struct {
	*testing.T
	server  im.Store
	command prune.Store
	old     uint32 // time of old messages
	before  uint32
	u       []uint32
}

// stores runs a test on the embedded store, and on MariaDB with Redis.
func stores(t *testing.T, test func(w *world)) {
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		o := embedded.Options{Dir: filepath.Join(t.TempDir(), "data")}
		server, err := embedded.Open(t.Context(), o)
		beside(t, test, server, err, func() (prune.Store, func() error, error) {
			o.Admin = true
			s, err := embedded.Open(t.Context(), o)
			return s, s.Close, err
		})
	})
	t.Run("mysql", func(t *testing.T) {
		t.Parallel()
		dsn := migrated.NewDatabase(t)
		o := store.Options{Master: dsn, Workers: 4, Redis: store.Redis{
			Unread: store.Instance{Addrs: []string{dbtest.Redis(t).Addr()}}}}
		server, err := store.Open(t.Context(), o)
		beside(t, test, server, err, func() (prune.Store, func() error, error) {
			o.NoRebuild = true
			s, err := store.Open(t.Context(), o)
			return s, s.Close, err
		})
	})
}

var migrated = dbtest.NewTemplate(func(t testing.TB, dsn string) {
	t.Helper()
	if err := schema.Migrate(t.Context(), dbtest.MariaDB(t).Open(t, dsn),
		schema.Options{}); err != nil {
		t.Fatalf("migrate: %v", err)
	}
})

// beside runs a test with a server's store and one that is opened beside it.
func beside(t *testing.T, test func(*world), server im.Store, err error,
	open func() (prune.Store, func() error, error)) {
	w := &world{T: t, server: server}
	w.check(err)
	t.Cleanup(func() { w.check(server.Close()) })
	command, end, err := open()
	w.check(err)
	t.Cleanup(func() { w.check(end()) })
	w.command, w.old = command, uint32(time.Now().Unix())
	w.before = w.old + 500
	accounts := make([]im.Account, 4)
	for i := range accounts {
		accounts[i].Name = fmt.Sprint("user", i)
	}
	w.u, err = server.CreateUsers(context.Background(), accounts)
	w.check(err)
	test(w)
}

func (w *world) check(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// say stores messages of one sender: n old ones, or n young ones. A sound has a path.
func (w *world) say(from, to uint32, kind pb.MsgType, n int, young bool) {
	w.Helper()
	w.check(w.send(from, to, kind, n, young))
}

// send is say for other goroutines than that of the test.
func (w *world) send(from, to uint32, kind pb.MsgType, n int, young bool) error {
	batch := make([]*im.Message, n)
	for i := range batch {
		m := &im.Message{From: from, To: to, Type: kind, Created: w.old}
		if young {
			m.Created = w.before
		}
		switch kind {
		case pb.MsgType_MSG_TYPE_SINGLE_AUDIO, pb.MsgType_MSG_TYPE_GROUP_AUDIO:
			m.Audio = &im.Audio{Path: fmt.Sprintf("g0/000/%03d/%d", to, i), Size: 100, Duration: 1}
		default:
			m.Data = []byte("0123456789")
		}
		batch[i] = m
	}
	w.server.AppendMessages(context.Background(), batch)
	for _, m := range batch {
		if m.Err != nil {
			return m.Err
		}
	}
	return nil
}

// run deletes what is old.
func (w *world) run(o prune.Options) prune.Report {
	w.Helper()
	o.Before = w.before
	r, err := prune.Run(context.Background(), w.command, o)
	w.check(err)
	return r
}

// ids returns the ids that a user reads of a conversation or group, newest first.
func (w *world) ids(user, peer uint32, group bool) (ids []uint32) {
	w.Helper()
	read := w.server.History
	if group {
		read = w.server.GroupHistory
	}
	list, err := read(context.Background(), user, peer, 0, 1000)
	w.check(err)
	for _, m := range list {
		ids = append(ids, m.ID)
	}
	return ids
}

func (w *world) wantIDs(what string, user, peer uint32, group bool, want ...uint32) {
	w.Helper()
	if got := w.ids(user, peer, group); !slices.Equal(got, want) {
		w.Errorf("%s: ids %v, want %v", what, got, want)
	}
}

// wantUnread checks the unread count of a user in a conversation or group, and of all.
func (w *world) wantUnread(what string, user, peer uint32, want, total uint32) {
	w.Helper()
	list, sum, err := w.server.UnreadCounts(context.Background(), user, 100)
	w.check(err)
	got := uint32(0)
	for _, c := range list {
		if c.Peer == peer {
			got = c.Count
		}
	}
	if got != want || sum != total {
		w.Errorf("%s: user %d has %d unread from %d, %d in all; want %d, %d", what, user, got, peer,
			sum, want, total)
	}
}

const (
	text       = pb.MsgType_MSG_TYPE_SINGLE_TEXT
	voice      = pb.MsgType_MSG_TYPE_SINGLE_AUDIO
	groupText  = pb.MsgType_MSG_TYPE_GROUP_TEXT
	groupVoice = pb.MsgType_MSG_TYPE_GROUP_AUDIO
)

// TestPrune deletes in conversations that are all old, partly old, and all young.
func TestPrune(t *testing.T) {
	t.Parallel()
	stores(t, func(w *world) {
		a, b, c, d := w.u[0], w.u[1], w.u[2], w.u[3]
		w.say(a, b, text, 7, false) // 1–7
		w.say(b, a, voice, 3, false)
		w.say(a, b, text, 2, true) // 11, 12
		w.say(a, c, text, 5, false)
		w.say(a, d, text, 2, true)
		var paths []string
		o := prune.Options{Batch: 3, Sounds: func(_ context.Context, some []string) error {
			paths = append(paths, some...)
			return nil
		}}
		want := prune.Report{Texts: im.OldCount{Messages: 11, Bytes: 110},
			Sounds: im.OldCount{Messages: 3, Bytes: 300}}
		if got := w.run(o); got != want || len(paths) > 0 {
			w.Errorf("a dry run: %+v, want %+v; %d files deleted", got, want, len(paths))
		}
		w.wantIDs("after a dry run", a, c, false, 5, 4, 3, 2, 1)
		w.wantUnread("after a dry run", b, a, 9, 9)

		o.Apply = true
		if got := w.run(o); got != want || len(paths) != 3 {
			w.Errorf("%+v, want %+v; %d files deleted", got, want, len(paths))
		}
		w.wantIDs("partly old", a, b, false, 12, 11)
		w.wantIDs("all old", c, a, false, 5)
		w.wantIDs("young", a, d, false, 2, 1)
		w.wantUnread("partly old", b, a, 2, 2)
		w.wantUnread("sounds", a, b, 0, 0)
		w.wantUnread("all old", c, a, 1, 1)
		w.wantUnread("young", d, a, 2, 2)
		sessions, err := w.server.RecentSessions(context.Background(), a, 0, 10)
		if w.check(err); len(sessions) != 3 {
			w.Errorf("%d conversations are listed, want 3", len(sessions))
		}
		w.say(c, a, text, 1, true)
		w.wantIDs("the next message", a, c, false, 6, 5)
		w.wantUnread("the next message", a, c, 1, 1)
		if got := w.run(o); got.Texts.Messages != 1 { // what was last is old as well
			w.Errorf("a second run: %+v", got)
		}
		if got := w.run(o); got != (prune.Report{}) {
			w.Errorf("a third run: %+v", got)
		}
		w.wantIDs("after more runs", a, c, false, 6)
	})
}

// TestPruneGroup deletes in groups, with members that have read a part.
func TestPruneGroup(t *testing.T) {
	t.Parallel()
	stores(t, func(w *world) {
		a, b, c, d := w.u[0], w.u[1], w.u[2], w.u[3]
		ctx := context.Background()
		make := func(users ...uint32) uint32 {
			g, err := w.server.CreateGroup(ctx, im.Group{Name: "g", Creator: users[0],
				Members: users, Type: pb.GroupType_GROUP_TYPE_NORMAL}, users[0])
			w.check(err)
			return g.ID
		}
		g, quiet := make(a, b, c), make(a, b)
		w.say(a, g, groupText, 4, false)
		w.check(w.server.ClearGroupUnread(ctx, b, g))
		w.say(a, g, groupVoice, 2, false)
		_, err := w.server.ChangeMembers(ctx, im.MemberEdit{Group: g, Users: []uint32{d},
			Type: pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD})
		w.check(err)
		w.say(a, g, groupText, 1, false) // 7
		w.say(a, g, groupText, 2, true)  // 8, 9
		w.say(b, quiet, groupText, 3, false)
		w.wantUnread("before", b, g, 5, 5)
		w.wantUnread("before", c, g, 9, 9)
		w.wantUnread("before", d, g, 3, 3)
		want := prune.Report{GroupTexts: im.OldCount{Messages: 7, Bytes: 70},
			GroupSounds: im.OldCount{Messages: 2, Bytes: 200}}
		if got := w.run(prune.Options{Batch: 2, Apply: true, SkipUsers: true}); got != want {
			w.Errorf("%+v, want %+v", got, want)
		}
		for _, user := range []uint32{b, c, d} {
			w.wantIDs("group", user, g, true, 9, 8)
			w.wantUnread("group", user, g, 2, 2)
		}
		w.wantIDs("quiet group", a, quiet, true, 3)
		w.wantUnread("quiet group", a, quiet, 1, 1)
		w.say(c, g, groupText, 1, true)
		w.wantIDs("the next message", b, g, true, 10, 9, 8)
		w.wantUnread("the next message", b, g, 3, 3)
		w.wantUnread("the sender", c, g, 0, 0)
	})
}

// TestPruneWhileMessagesArrive deletes while a server stores messages and users read.
func TestPruneWhileMessagesArrive(t *testing.T) {
	t.Parallel()
	stores(t, func(w *world) {
		a, b := w.u[0], w.u[1]
		g, err := w.server.CreateGroup(context.Background(), im.Group{Name: "g", Creator: a,
			Members: []uint32{a, b}, Type: pb.GroupType_GROUP_TYPE_NORMAL}, a)
		w.check(err)
		const rounds = 12
		for range rounds {
			w.say(a, b, text, 20, false)
			w.say(a, g.ID, groupText, 20, false)
		}
		done := make(chan error)
		go func() {
			var errs []error
			for range rounds {
				errs = append(errs, w.send(a, b, text, 1, true),
					w.send(a, g.ID, groupText, 1, true))
			}
			done <- errors.Join(errs...)
		}()
		for range 3 {
			w.run(prune.Options{Batch: 7, Apply: true})
		}
		w.check(<-done)
		w.run(prune.Options{Batch: 50, Apply: true})
		if n := len(w.ids(a, b, false)); n != rounds {
			w.Errorf("%d messages are left, want %d", n, rounds)
		}
		if n := len(w.ids(b, g.ID, true)); n != rounds {
			w.Errorf("%d messages are left in the group, want %d", n, rounds)
		}
		w.wantUnread("between users", b, a, rounds, 2*rounds)
		w.wantUnread("in the group", b, g.ID, rounds, 2*rounds)
	})
}

// TestPruneFiles removes waiting files from the lists of their receivers.
func TestPruneFiles(t *testing.T) {
	t.Parallel()
	stores(t, func(w *world) {
		ctx, a, b := context.Background(), w.u[0], w.u[1]
		task := "6f0c3b5e-0000-4000-8000-000000000001"
		w.check(w.server.AddOfflineFile(ctx, im.OfflineFile{From: a, To: b, Task: task, Name: "x",
			Size: 77}))
		want := prune.Report{Files: im.OldCount{Messages: 1, Bytes: 77}}
		for _, apply := range []bool{false, true} {
			if got := w.run(prune.Options{Apply: apply}); got != want {
				w.Errorf("%+v, want %+v", got, want)
			}
		}
		state, err := w.server.OfflineFileState(ctx, b, a, task)
		if w.check(err); state != im.FileUnlisted {
			w.Errorf("the file of the other direction is in state %d", state)
		}
		state, err = w.server.OfflineFileState(ctx, a, b, task)
		// Its file server must not list it again.
		if w.check(err); state != im.FileTaken {
			w.Errorf("the file is in state %d, want %d", state, im.FileTaken)
		}
	})
}

// TestPruneStops ends a run in the middle. The next one does the rest.
func TestPruneStops(t *testing.T) {
	t.Parallel()
	stores(t, func(w *world) {
		a, b := w.u[0], w.u[1]
		w.say(a, b, voice, 9, false)
		w.say(b, a, text, 1, true)
		ctx, cancel := context.WithCancel(context.Background())
		o := prune.Options{Before: w.before, Batch: 2, Apply: true,
			Sounds: func(context.Context, []string) error { cancel(); return nil }}
		if r, err := prune.Run(ctx, w.command, o); err == nil || r.Sounds.Messages > 2 {
			w.Errorf("a run that was stopped: %+v, %v", r, err)
		}
		w.wantUnread("stopped", b, a, 0, 0) // counts never what is to be deleted
		w.run(prune.Options{Batch: 2, Apply: true})
		w.wantIDs("after the rest", a, b, false, 10)
		w.wantUnread("after the rest", a, b, 1, 1)
	})
}

// TestPruneBesideRebuild makes unread counts again between the lowering of counts and the
// deletion, as teamtalk doctor --repair does, and servers after a loss of Redis.
func TestPruneBesideRebuild(t *testing.T) {
	t.Parallel()
	stores(t, func(w *world) {
		s, ok := w.server.(*store.Store)
		if !ok {
			return // the embedded store makes no counts again
		}
		a, b, ctx := w.u[0], w.u[1], context.Background()
		g, err := s.CreateGroup(ctx, im.Group{Name: "g", Creator: a, Members: []uint32{a, b},
			Type: pb.GroupType_GROUP_TYPE_NORMAL}, a)
		w.check(err)
		w.say(a, b, voice, 5, false)
		w.say(a, b, text, 1, true)
		w.say(a, g.ID, groupVoice, 5, false)
		w.say(a, g.ID, groupText, 1, true)
		raised := 0
		w.run(prune.Options{Apply: true, Sounds: func(context.Context, []string) error {
			done, err := s.RebuildUnread(ctx)
			raised += done.Counts
			return err
		}})
		if raised != 2 {
			w.Errorf("%d counts were raised before the deletion, want 2", raised)
		}
		w.wantUnread("between users", b, a, 1, 2)
		w.wantUnread("in the group", b, g.ID, 1, 2)
	})
}
