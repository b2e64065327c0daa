package main

import (
	"os"
	"strings"
	"testing"

	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/cmd/teamtalk/internal/open"
	"teamtalk/core/config"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
	"teamtalk/sql/store"
	"teamtalk/sql/store/redisconn"
)

// TestUnreadRebuild runs the command on both stores. On MySQL it restores a count that Redis
// has lost.
func TestUnreadRebuild(t *testing.T) {
	onBothStores(t, func(t *testing.T) {
		addNamed(t, "alice", "bob")
		if os.Getenv("TEAMTALK_STORE") != "mysql" {
			command(t, "", "unread", "rebuild").want(t, cli.ExitFailure, "",
				"the embedded store keeps unread counts with the messages")
			return
		}
		cfg, err := config.Load(config.Sources{Env: os.Environ()})
		if err != nil {
			t.Fatal(err)
		}
		s, err := open.Store(t.Context(), cfg, open.Options{Admin: true})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		rebuilt := func(want string) {
			t.Helper()
			command(t, "", "unread", "rebuild").want(t, cli.ExitOK, want, "")
		}
		rebuilt("0 counts raised, in 0 sides of conversations and 0 groups")
		var list []*im.Message
		for range 3 {
			list = append(list, &im.Message{From: 1, To: 2, Created: uint32(1 << 31),
				Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, Data: []byte(strings.Repeat("x", 24))})
		}
		if s.AppendMessages(t.Context(), list); list[0].Err != nil {
			t.Fatal(list[0].Err)
		}
		rebuilt("0 counts raised, in 2 sides")
		client := redisconn.Connect(store.Instance{Addrs: cfg.Redis.Addrs}, 1)
		defer client.Close()
		if err := client.Del(t.Context(), "unread_2").Err(); err != nil {
			t.Fatal(err)
		}
		rebuilt("1 counts raised, in 2 sides")
		counts, _, err := s.UnreadCounts(t.Context(), 2, 1<<20)
		if err != nil || len(counts) != 1 || counts[0].Count != 3 {
			t.Errorf("%+v, %v", counts, err)
		}
	})
}
