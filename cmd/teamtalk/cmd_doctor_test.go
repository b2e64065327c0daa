package main

import (
	"database/sql"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/cmd/teamtalk/internal/open"
	"teamtalk/core/config"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
	"teamtalk/sql/embedded"
	"teamtalk/sql/store"
	"teamtalk/sql/store/redisconn"
)

// TestDoctor runs the command on both stores: on a healthy one, on one whose last message id is set
// back, and with a repair.
func TestDoctor(t *testing.T) {
	onBothStores(t, func(t *testing.T) {
		log := filepath.Join(t.TempDir(), "audit.jsonl")
		t.Setenv("TEAMTALK_AUDIT_FILE", log)
		if os.Getenv("TEAMTALK_STORE") == "mysql" {
			t.Setenv("TEAMTALK_DATA_DIR", t.TempDir())
		}
		addNamed(t, "alice", "bob")
		cfg, err := config.Load(config.Sources{Env: os.Environ()})
		if err != nil {
			t.Fatal(err)
		}
		s, err := open.Store(t.Context(), cfg, open.Options{Admin: true})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		list := []*im.Message{{From: 1, To: 2, Created: 7, Data: []byte("text"),
			Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT}, {From: 1, To: 2, Created: 7,
			Data: []byte("text"), Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT}}
		if s.AppendMessages(t.Context(), list); list[0].Err != nil {
			t.Fatal(list[0].Err)
		}
		doctor := func(args ...string) result {
			return command(t, "", append([]string{"doctor", "--settle", "1ms"}, args...)...)
		}
		doctor().want(t, cli.ExitOK, "ok        message-ids             1 looked at\n", "")
		setBack(t, cfg, s)
		doctor().want(t, cli.ExitFailure, "FOUND     message-ids             1 disagreement\n"+
			"          conversation 1: the ", "1 disagreement; nothing was changed")
		var one struct {
			Check       string
			Found, Left int
			Repair      bool
			Examples    []string
		}
		r := doctor("--json", "--only", "message-ids")
		r.want(t, cli.ExitFailure, "", "")
		if err := json.Unmarshal([]byte(r.out), &one); err != nil || one.Found != 1 ||
			one.Left != 1 || one.Check != "message-ids" || one.Repair || len(one.Examples) != 1 {
			t.Errorf("%s: %+v, %v", r.out, one, err)
		}
		doctor("--repair", "--only", "departments").want(t, cli.ExitOK, "ok        departments", "")
		doctor("--repair", "--only", "message-ids,unread").want(t, cli.ExitOK,
			"repaired  message-ids             1 disagreement, all repaired\n", "")
		doctor().want(t, cli.ExitOK, "ok        message-ids", "")
		doctor("--list").want(t, cli.ExitOK, "message-ids\n  compares: the ", "")
		doctor("--only", "nothing").want(t, cli.ExitUsage, "", `no check "nothing"`)
		doctor("--list", "--repair").want(t, cli.ExitUsage, "", "one of --list and --repair")
		doctor("--examples", "0").want(t, cli.ExitUsage, "", "--examples")
		command(t, "", "doctor", "--settle", "0s").want(t, cli.ExitUsage, "", "--settle")
		text, err := os.ReadFile(log)
		if err != nil || !strings.Contains(string(text), "doctor --only [message-ids,unread] "+
			"--repair --settle") ||
			!strings.Contains(string(text), "2 checks, 1 disagreement, 0 left") {
			t.Errorf("the audit log has\n%s%v", text, err)
		}
	})
}

// setBack sets the last message id of conversation 1 back.
func setBack(t *testing.T, cfg *config.Config, s im.Store) {
	t.Helper()
	var err error
	if lite, ok := s.(*embedded.Store); ok {
		err = lite.Raw(t.Context(), func(conn *sql.Conn) error {
			_, err := conn.ExecContext(t.Context(), "update IMRelationShip set lastMsgId = 1")
			return err
		})
	} else {
		client := redisconn.Connect(store.Instance{Addrs: cfg.Redis.Addrs}, 1)
		defer client.Close()
		err = client.Set(t.Context(), "msg_id_1", 1, 0).Err()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestDoctorWithoutStore: a store that cannot be looked at has an exit code of its own.
func TestDoctorWithoutStore(t *testing.T) {
	command(t, "", "doctor", "--data-dir", t.TempDir()).want(t, 3, "", "no store to look at")
	command(t, "", "doctor", "--store", "mysql", "--mysql.master", "a:b@tcp(127.0.0.1:1)/c",
		"--redis.addrs", "127.0.0.1:1").want(t, 3, "", "connect to MySQL")
}
