package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/cmd/teamtalk/internal/open"
	"teamtalk/core/config"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// addOld opens the store of the settings, and stores a text and a sound of a year ago, and a text
// of today, from alice (1) to bob (2) and back. The sound has a file.
func addOld(t *testing.T) (s im.Store, sound string) {
	t.Helper()
	if os.Getenv("TEAMTALK_STORE") == "mysql" {
		t.Setenv("TEAMTALK_DATA_DIR", t.TempDir())
	}
	cfg, err := config.Load(config.Sources{Env: os.Environ()})
	if err != nil {
		t.Fatal(err)
	}
	if s, err = open.Store(t.Context(), cfg, open.Options{Admin: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	cipher, err := im.NewTextCipher("")
	if err != nil {
		t.Fatal(err)
	}
	const name = "g0/000/001/0123456789abcdef0123456789abcdef.spx"
	sound = filepath.Join(cfg.DataDir, "msfs", filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(sound), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(sound, []byte("sound"), 0o600); err != nil {
		t.Fatal(err)
	}
	now := uint32(time.Now().Unix())
	yearAgo := now - 365*24*3600
	list := []*im.Message{
		{From: 1, To: 2, Created: yearAgo, Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT,
			Data: cipher.Encrypt("long ago")},
		{From: 2, To: 1, Created: yearAgo, Type: pb.MsgType_MSG_TYPE_SINGLE_AUDIO,
			Audio: &im.Audio{Path: "http://host:8700/" + name, Size: 5, Duration: 1}},
		{From: 1, To: 2, Created: now, Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT,
			Data: cipher.Encrypt("today")},
	}
	s.AppendMessages(t.Context(), list)
	for _, m := range list {
		if m.Err != nil {
			t.Fatal(m.Err)
		}
	}
	return s, sound
}

// TestPruneCommand runs the command on both stores.
func TestPruneCommand(t *testing.T) {
	onBothStores(t, func(t *testing.T) {
		addNamed(t, "alice", "bob")
		s, sound := addOld(t)
		prune := func(args ...string) result {
			return command(t, "", append([]string{"prune"}, args...)...)
		}
		prune().want(t, cli.ExitUsage, "", "--older-than 400d")
		prune("--older-than", "1h").want(t, cli.ExitUsage, "", "is not 48h to 18250d")
		prune("--older-than", "400").want(t, cli.ExitUsage, "", `such as 72h, not "400"`)
		prune("--older-than", "-3d").want(t, cli.ExitUsage, "", "no number of days")
		prune("--older-than", "3d", "--only", "texts").want(t, cli.ExitUsage, "", "users, groups")
		prune("--older-than", "400d").want(t, cli.ExitOK, "all                   0       0", "")
		prune("--older-than", "100d").want(t, cli.ExitOK, "add --apply", "")
		prune("--older-than", "100d", "--only", "files", "--apply").want(t, cli.ExitOK, "deleted",
			"")
		if _, err := os.Stat(sound); err != nil {
			t.Fatal(err)
		}
		prune("--older-than", "100d", "--apply").want(t, cli.ExitOK,
			"sounds between users  1       5\n", "")
		if _, err := os.Stat(sound); !os.IsNotExist(err) {
			t.Errorf("the file of the sound: %v", err)
		}
		list, err := s.History(t.Context(), 1, 2, 0, 10)
		if err != nil || len(list) != 1 || list[0].ID != 3 {
			t.Errorf("history %+v, %v", list, err)
		}
	})
}

// leaveGroup lets alice and bob send a text each to a group, and removes alice.
func leaveGroup(t *testing.T, s im.Store) {
	t.Helper()
	cipher, err := im.NewTextCipher("")
	if err != nil {
		t.Fatal(err)
	}
	g, err := s.CreateGroup(t.Context(), im.Group{Name: "g", Creator: 1, Members: []uint32{1, 2},
		Type: pb.GroupType_GROUP_TYPE_NORMAL}, 1)
	if err != nil {
		t.Fatal(err)
	}
	text := func(from uint32, text string) *im.Message {
		return &im.Message{From: from, To: g.ID, Type: pb.MsgType_MSG_TYPE_GROUP_TEXT,
			Created: uint32(time.Now().Unix()), Data: cipher.Encrypt(text)}
	}
	list := []*im.Message{text(1, "mine"), text(2, "not mine")}
	if s.AppendMessages(t.Context(), list); list[0].Err != nil || list[1].Err != nil {
		t.Fatal(list[0].Err, list[1].Err)
	}
	if _, err := s.ChangeMembers(t.Context(), im.MemberEdit{Group: g.ID, Users: []uint32{1},
		Type: pb.GroupModifyType_GROUP_MODIFY_TYPE_DEL}); err != nil {
		t.Fatal(err)
	}
}

// TestUserExport writes the data of a user of both stores into a folder and a ZIP file.
func TestUserExport(t *testing.T) {
	onBothStores(t, func(t *testing.T) {
		addNamed(t, "alice", "bob")
		s, _ := addOld(t)
		leaveGroup(t, s)
		dir := t.TempDir()
		export := func(name string, args ...string) result {
			return command(t, "", append([]string{"user", "export", "alice", "--out",
				filepath.Join(dir, name)}, args...)...)
		}
		command(t, "", "user", "export", "alice").want(t, cli.ExitUsage, "", "--out alice.zip")
		export("all").want(t, cli.ExitOK, "4 messages, 1 file, 0 files", "")
		export("all").want(t, cli.ExitFailure, "", "exists already")
		export("own", "--own-only").want(t, cli.ExitOK, "3 messages, 0 files, 0 files", "")
		export("all.zip").want(t, cli.ExitOK, "4 messages, 1 file,", "")
		read := func(name string) string {
			data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
			if err != nil {
				t.Error(err)
			}
			return string(data)
		}
		if got := read("all/files/0123456789abcdef0123456789abcdef.spx"); got != "sound" {
			t.Errorf("the sound: %q", got)
		}
		var texts []string
		for line := range strings.Lines(read("all/messages.jsonl")) {
			var m struct{ Text, Kind string }
			if err := json.Unmarshal([]byte(line), &m); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			texts = append(texts, m.Kind+" "+m.Text)
		}
		if got := strings.Join(texts, ", "); got != "text today, sound , text long ago, "+
			"text mine" {
			t.Errorf("messages: %s", got)
		}
		if people := read("all/people.jsonl"); !strings.Contains(people, `"name":"bob"`) {
			t.Errorf("people: %s", people)
		}
		if people := read("own/people.jsonl"); strings.Contains(people, "bob") {
			t.Errorf("people with --own-only: %s", people)
		}
		if _, err := os.Stat(filepath.Join(dir, "all.zip.part")); !os.IsNotExist(err) {
			t.Errorf("a part is left: %v", err)
		}
		if err := os.WriteFile(filepath.Join(dir, "two.zip.part"), nil, 0o666); err != nil {
			t.Fatal(err)
		}
		export("two.zip").want(t, cli.ExitFailure, "", "another export is writing it")
		export("none/all").want(t, cli.ExitFailure, "", "no such file or directory\n")
		command(t, "", "user", "export", "alice", "--out", dir+"/slash/").want(t, cli.ExitOK,
			"4 messages", "")
	})
}
