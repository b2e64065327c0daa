package mysqlconn

import (
	"context"
	"database/sql/driver"
	"io"
	"strconv"
	"strings"
	"testing"

	"teamtalk/core/cert"
	"teamtalk/core/cert/certtest"
	"teamtalk/core/im"
)

// server is a connection to a server, or a proxy, that reports variables whatever was set.
type server struct {
	driver.Conn
	reports [][2]string
	closed  bool
}

// Connect returns the connection.
func (s *server) Connect(context.Context) (driver.Conn, error) { return s, nil }

// Driver is not used.
func (s *server) Driver() driver.Driver { return nil }

// Close closes the connection.
func (s *server) Close() error { s.closed = true; return nil }

// QueryContext answers with the variables.
func (s *server) QueryContext(context.Context, string, []driver.NamedValue) (driver.Rows, error) {
	return &variables{s.reports}, nil
}

// variables are the rows of a SHOW VARIABLES.
type variables struct{ rest [][2]string }

func (*variables) Columns() []string { return []string{"Variable_name", "Value"} }
func (*variables) Close() error      { return nil }

func (v *variables) Next(row []driver.Value) error {
	if len(v.rest) == 0 {
		return io.EOF
	}
	row[0], row[1] = []byte(v.rest[0][0]), []byte(v.rest[0][1])
	v.rest = v.rest[1:]
	return nil
}

// TestRefused lets a server report each variable with a wrong value. The connection is closed,
// and the error names the variable, both values, and the parameter of the DSN if there is one.
func TestRefused(t *testing.T) {
	for _, n := range needed {
		s := &server{reports: [][2]string{{"wait_timeout", "1"}, {n.variable, "else"}}}
		_, err := connector{s, nil, nil}.Connect(t.Context())
		if err == nil || !IsSetting(err) || !s.closed {
			t.Fatalf("%s: error %v, closed %v", n.variable, err, s.closed)
		}
		for _, want := range []string{n.variable, `"else"`, `"` + n.value + `"`, "proxy"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("no %s in %v", want, err)
			}
		}
		s = &server{reports: [][2]string{{n.variable, n.value}}}
		if _, err := (connector{s, nil, nil}).Connect(t.Context()); err != nil || s.closed {
			t.Errorf("%s: error %v, closed %v", n.variable, err, s.closed)
		}
	}
}

// TestParameter finds the parameter of a DSN that sets a variable, in all spellings.
func TestParameter(t *testing.T) {
	for dsn, want := range map[string][2]string{
		"sql_mode=%27%27":                          {"sql_mode", "sql_mode"},
		"wait_timeout=1&SQL_Mode=ANSI":             {"sql_mode", "SQL_Mode"},
		"`sql_mode`=1":                             {"sql_mode", "`sql_mode`"},
		"@@session.sql_mode=1":                     {"sql_mode", "@@session.sql_mode"},
		"transaction_isolation=%27SERIALIZABLE%27": {"tx_isolation", "transaction_isolation"},
		"autocommit=0":                             {"in_transaction", "autocommit"},
		"wait_timeout=1":                           {"sql_mode", ""},
		"":                                         {"sql_mode", ""},
	} {
		cfg, err := Parse("u:p@tcp(h:1)/d?"+dsn, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := parameter(cfg.Params, want[0]); got != want[1] {
			t.Errorf("%s: parameter %q, want %q", dsn, got, want[1])
		}
	}
}

// TestParse refuses DSNs without quoting their passwords.
func TestParse(t *testing.T) {
	for _, dsn := range []string{"u:geheim@tcp(h:1)/", "u:geheim", "u:geheim@tcp(h:1/d",
		"u:geheim@tcp(h:1)/d?x=%zz"} {
		if cfg, err := Parse(dsn, nil); err == nil || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%s: %v, %v", dsn, cfg, err)
		}
	}
}

// TestPlainSettings: a session setting is a name and a plain value. The error names the parameter.
func TestPlainSettings(t *testing.T) {
	for _, good := range []string{"max_error_count=0", "time_zone=%27%2B00:00%27", "a=DEFAULT",
		"a=-1.5", "a=%27%27", "a=%22;%22", "@@a=on", "@@Local.a=1", "@@session.`a`=0x1f",
		"wait_timeout=600&a=utf8mb4"} {
		if _, err := Parse("u:p@tcp(h:1)/d?"+good, nil); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for bad, name := range map[string]string{
		"max_error_count=0;drop table x":       "max_error_count",
		"max_error_count=0%3Bdrop%20table%20x": "max_error_count",
		"a=1&b=1,c=2":                          "b",
		"a=(SELECT 0)":                         "a",
		"a=concat(1,2)":                        "a",
		"a=":                                   "a",
		"a=1 -- ":                              "a",
		"a=1%2F*":                              "a",
		"a=1%0A":                               "a",
		"a=%27x%27%27":                         "a",
		"a=%27x\\%27":                          "a",
		"a=%27x%27;select 1 or %27%27":         "a",
		"a=@@b":                                "a",
		"@@global.a=1":                         "@@global.a",
		"@a=1":                                 "@a",
		"global a=1":                           "global a",
		"a:=1; drop table x; set b=1":          "a:",
		"`a`=1;x`=1":                           "`a`",
		"`a;b`=1":                              "`a;b`",
		"=1":                                   "",
		"transaction isolation level=serializable": "transaction isolation level",
	} {
		_, err := Parse("u:geheim@tcp(h:1)/d?"+bad, nil)
		if err == nil || im.KindOf(err) != im.Invalid || strings.Contains(err.Error(), "geheim") ||
			!strings.Contains(err.Error(), strconv.Quote(name)) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// TestNoSilentPlaintext: with a CA of the settings no parameter of a DSN allows a connection
// without TLS.
func TestNoSilentPlaintext(t *testing.T) {
	ca, err := cert.LoadClient("mysql", certtest.Write(t, t.TempDir(),
		certtest.Options{}).Certificate, "", "")
	if err != nil {
		t.Fatal(err)
	}
	for parameter, refused := range map[string]bool{"": false, "tls=true": false,
		"tls=preferred": true, "tls=false": true, "allowFallbackToPlaintext=true": true,
		"tls=true&allowFallbackToPlaintext=true": true, "allowFallbackToPlaintext=false": false} {
		cfg, err := Parse("u:p@tcp(h:1)/d?"+parameter, ca)
		switch {
		case refused && (err == nil || !strings.Contains(err.Error(), "contradicts mysql.ca")):
			t.Errorf("%q: %v", parameter, err)
		case !refused && (err != nil || cfg.TLS == nil || cfg.AllowFallbackToPlaintext):
			t.Errorf("%q: %v, %+v", parameter, err, cfg)
		}
	}
}
