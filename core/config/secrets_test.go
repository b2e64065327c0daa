package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"
)

const secret = "geheim/@:word"

// TestSecrets prints a configuration with passwords in every form of output. The output
// must not contain a password.
func TestSecrets(t *testing.T) {
	c, err := load(t, "", []string{
		"TEAMTALK_MYSQL_MASTER=tt:" + secret + "@tcp(db:3306)/teamtalk?charset=utf8mb4",
		"TEAMTALK_REDIS_PASSWORD=" + secret,
		"TEAMTALK_REDIS_UNREAD=redis://tt:" + secret + "@cache:6379/1",
		"TEAMTALK_REGISTRY_REDIS=redis://tt:" + secret + "@cache:6379/2",
		"TEAMTALK_KEYS_TEXT_KEY=geheim78901234567890123456789012",
		"TEAMTALK_TRACE_ENDPOINT=https://geheim:" + url.QueryEscape(secret) + "@otlp/v1?k=geheim",
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.MySQL.Master.Reveal() != "tt:"+secret+"@tcp(db:3306)/teamtalk?charset=utf8mb4" ||
		c.Redis.Password.Reveal() != secret {
		t.Error("Reveal does not return the secret")
	}
	var out bytes.Buffer
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, format+"\n", *c)
		fmt.Fprintf(&out, format+"\n", c.MySQL.Master)
		target, err := c.Redis.Target(c.Redis.Unread)
		fmt.Fprintf(&out, format+" %v\n", target, err)
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "config", *c, "dsn", c.MySQL.Master,
		"redis", c.Redis.Unread, "key", c.Keys.Text)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "config", *c, "mysql", c.MySQL,
		"redis", c.Redis, "key", c.Keys.Text)
	if err := json.NewEncoder(&out).Encode(c); err != nil {
		t.Fatal(err)
	}
	if err := c.WriteEffective(&out); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(&out, c.Effective())
	hex := fmt.Sprintf("%x", "geheim")
	if s := out.String(); strings.Contains(s, "geheim") || strings.Contains(s, ":word") ||
		strings.Contains(s, hex) {
		t.Errorf("a secret is shown:\n%s", s)
	}
	const masked = `master = "tt:********@tcp(db:3306)/teamtalk?charset=utf8mb4"`
	if !strings.Contains(out.String(), masked) {
		t.Errorf("the rest of the DSN is not shown:\n%s", out.String())
	}
}

// TestSecretsInErrors gives wrong values to settings with passwords. The errors must not
// quote them.
func TestSecretsInErrors(t *testing.T) {
	for _, s := range Settings() {
		if s.Type != "secret" {
			continue
		}
		for _, bad := range []string{"geheim", "mysql://u:geheim@h/d", "u:geheim@tcp(h:1)/",
			"redis://u:geheim%zz@h:1", "redis://u:geheim@h", "********geheim"} {
			for _, get := range []func() (*Config, error){
				func() (*Config, error) { return load(t, "", []string{s.Env() + "=" + bad}) },
				func() (*Config, error) {
					section, name := cutLast(s.Key)
					return load(t, "["+section+"]\n"+name+" = "+quoteTOML(bad), nil)
				},
				func() (*Config, error) {
					c := Default()
					return c, s.set(c, bad)
				},
			} {
				if _, err := get(); err != nil && strings.Contains(err.Error(), "geheim") {
					t.Errorf("%s = %s: %v", s.Key, bad, err)
				}
			}
		}
	}
}

func TestMaskWebURL(t *testing.T) {
	for in, want := range map[WebURL]string{
		"":                        "",
		"http://h:1":              "http://h:1",
		"https://h/v1/traces":     "https://h/v1/traces",
		"https://u:p@h/v1/traces": "https://********@h/v1/traces",
		"https://token@h?key=x":   "https://********@h?********",
		"https://u:p/x@h/":        "https://********@h/",
		"geheim":                  mask,
	} {
		if got := in.String(); got != want {
			t.Errorf("%s is shown as %s, want %s", in.Reveal(), got, want)
		}
	}
}

func TestMaskDSN(t *testing.T) {
	for in, want := range map[DSN]string{
		"":                            "",
		"u:p@tcp(h:1)/d":              "u:********@tcp(h:1)/d",
		"u:p/x@y:z@tcp(h:1)/d?a=b":    "u:********@tcp(h:1)/d?a=b",
		"u@unix(/run/mysqld.sock)/d":  "u@unix(/run/mysqld.sock)/d",
		"u:p@unix(/run/mysqld.sock)/": "u:********@unix(/run/mysqld.sock)/",
		"/d":                          "/d",
		"p":                           mask,
	} {
		if got := in.String(); got != want {
			t.Errorf("%s is shown as %s, want %s", string(in), got, want)
		}
	}
}
