package store

import (
	"maps"
	"strconv"
	"strings"
	"testing"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// hostileDSN are parameters of a DSN that ask for a sql_mode or a character set in which
// a text that this package quotes would end early.
var hostileDSN = map[string][]string{
	"no backslash escapes": {"sql_mode=%27NO_BACKSLASH_ESCAPES%27"},
	"twice, in capitals":   {"SQL_MODE=%27NO_BACKSLASH_ESCAPES%27", "Sql_Mode=%27ANSI_QUOTES%27"},
	"with a scope":         {"@@session.sql_mode=%27NO_BACKSLASH_ESCAPES,ANSI_QUOTES%27"},
	"in back quotes":       {"`sql_mode`=%27NO_BACKSLASH_ESCAPES%27"},
	"character set":        {"character_set_client=gbk", "Character_Set_Connection=gbk"},
	"charset":              {"charset=gbk"},
	"collation":            {"collation=gbk_chinese_ci", "collation_connection=gbk_bin"},
	"big5, sjis":           {"character_set_client=sjis", "character_set_results=big5"},
	"no autocommit":        {"AutoCommit=0"},
}

// slips are parameters of a DSN that change what a statement or a transaction does.
var slips = map[string][]string{
	"isolation":       {"tx_isolation=%27READ-UNCOMMITTED%27"},
	"isolation again": {"@@session.`tx_isolation`=%27READ-UNCOMMITTED%27"},
	"read-only":       {"tx_read_only=1"},
	"transactions":    {"completion_type=%27CHAIN%27"},
	"rows":            {"sql_select_limit=1", "sql_auto_is_null=1", "sql_safe_updates=1"},
	"unique keys":     {"wait_timeout=600", "unique_checks=0"},
}

// refusedSlips are parameters of a DSN that no setting of ours corrects.
var refusedSlips = map[string]struct{ param, variable, value, want string }{
	"no binary log":  {"sql_log_bin=0", "sql_log_bin", "OFF", "ON"},
	"in back quotes": {"`sql_log_bin`=%27off%27", "sql_log_bin", "OFF", "ON"},
	"replication":    {"@@skip_replication=1", "skip_replication", "ON", "OFF"},
	"a clock":        {"Timestamp=1700000000", "timestamp", "1700000000.000000", "DEFAULT"},
	"without quotes": {"@@session.sql_log_bin=false", "sql_log_bin", "OFF", "ON"},
}

// TestSettingsRefused opens a store with slips that no setting of ours corrects. The error
// names the variable, its value, the value that is needed, and the parameter.
func TestSettingsRefused(t *testing.T) {
	e := newEnv(t)
	dsn := e.dsn
	for name, slip := range refusedSlips {
		t.Run(name, func(t *testing.T) {
			e.o.Master = addParams(dsn, slip.param)
			s, err := Open(t.Context(), e.o)
			if err == nil {
				s.Close()
				t.Fatal("the store is open")
			}
			param, _, _ := strings.Cut(slip.param, "=")
			for _, want := range []string{slip.variable, strconv.Quote(slip.value),
				strconv.Quote(slip.want), strconv.Quote(param)} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error does not name %s: %v", want, err)
				}
			}
			if im.KindOf(err) != im.Invalid {
				t.Errorf("the error has kind %v", im.KindOf(err))
			}
		})
	}
}

// hostileTexts are texts that would end a literal in one of those settings.
var hostileTexts = []string{
	`'`, `\`, `\'`, `'' OR ''='`, `"`, `\"`, "`", `\\'; DROP TABLE IMUser; -- `, `';--`,
	"\x00", "a\x00'b", "\n\r\x1a\t\b", `\0\n\Z\%\_`, "/* ' */ '", "?", "%s %d", "?, ?)",
	"\u00bf\\'", "\u00bf'", "縗'", "縗\\'", // bytes that gbk and sjis pair with a backslash
	"\u00a5' OR 1=1 -- ", "\u20a9'", "ʼ' ＇ ′", "😀'\\", strings.Repeat(`\'`, 1000), `ends in \`,
}

// TestSettingsPrevail opens a store with every hostile DSN and with slips, and checks the
// settings of a connection.
func TestSettingsPrevail(t *testing.T) {
	e := newEnv(t)
	dsn := e.dsn
	all := maps.Clone(hostileDSN)
	maps.Copy(all, slips)
	for name, params := range all {
		t.Run(name, func(t *testing.T) {
			e.o.Master = addParams(dsn, params...)
			s := e.store(t)
			for setting, want := range map[string]string{
				"sql_mode":                 "STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION",
				"autocommit":               "1",
				"innodb_lock_wait_timeout": "10",
				"character_set_client":     "utf8mb4",
				"character_set_connection": "utf8mb4",
				"character_set_results":    "utf8mb4",
				"collation_connection":     "utf8mb4_general_ci",
				"tx_isolation":             "REPEATABLE-READ",
				"tx_read_only":             "0",
				"completion_type":          "NO_CHAIN",
				"sql_select_limit":         "18446744073709551615",
				"sql_auto_is_null":         "0",
				"sql_safe_updates":         "0",
				"unique_checks":            "1",
			} {
				var got string
				if err := s.db.Master.QueryRow("SELECT @@" + setting).Scan(&got); err != nil {
					t.Fatal(err)
				}
				if got != want {
					t.Errorf("%s is %q, want %q", setting, got, want)
				}
			}
		})
	}
}

// TestHostileTexts stores texts over connections with every hostile DSN. AppendText appends
// the content of a message. The driver quotes the sign info of a user and the path of a
// sound. A client_msg_id is a hex literal. Every text must be read back byte for byte.
func TestHostileTexts(t *testing.T) {
	e := newEnv(t)
	dsn := e.dsn
	e.o.Master = dsn
	u := users(t, e.store(t), 2)
	for name, params := range hostileDSN {
		t.Run(name, func(t *testing.T) {
			e.o.Master = addParams(dsn, params...)
			s := e.store(t)
			var batch []*im.Message
			for _, body := range hostileTexts {
				m := text(u[0], u[1], body)
				m.ClientID = []byte(name + body)[:min(len(name)+len(body), im.MaxClientID)]
				batch = append(batch, m)
			}
			sound := text(u[0], u[1], "")
			sound.Type = pb.MsgType_MSG_TYPE_SINGLE_AUDIO
			sound.Audio = &im.Audio{Path: strings.Join(hostileTexts[:12], " ")}
			send(t, s, append(batch, sound)...)
			list, err := s.History(t.Context(), u[0], u[1], 0, len(hostileTexts)+1)
			if err != nil {
				t.Fatal(err)
			}
			if len(list) != len(hostileTexts)+1 {
				t.Fatalf("read %d messages, want %d", len(list), len(hostileTexts)+1)
			}
			if list[0].Audio == nil || list[0].Audio.Path != sound.Audio.Path {
				t.Errorf("sound is %+v, want the path %q", list[0].Audio, sound.Audio.Path)
			}
			for i, want := range hostileTexts {
				if got := string(list[len(hostileTexts)-i].Data); got != want {
					t.Errorf("message %d is %q, want %q", i, got, want)
				}
			}
			for _, want := range hostileTexts {
				if len(want) > 128 {
					continue
				}
				if err := s.SetSignInfo(t.Context(), u[0], want); err != nil {
					t.Fatalf("SetSignInfo(%q): %v", want, err)
				}
				list, err := s.Users(t.Context(), u[:1])
				if err != nil || len(list) != 1 {
					t.Fatalf("%d users, error %v", len(list), err)
				}
				if list[0].SignInfo != want {
					t.Errorf("sign info is %q, want %q", list[0].SignInfo, want)
				}
			}
		})
	}
}

// addParams adds parameters to a DSN.
func addParams(dsn string, params ...string) string {
	sep := "?"
	if strings.Contains(dsn, "?") {
		sep = "&"
	}
	return dsn + sep + strings.Join(params, "&")
}
