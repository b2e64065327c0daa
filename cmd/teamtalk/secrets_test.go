package main

import (
	"strings"
	"testing"

	"teamtalk/cmd/teamtalk/internal/cli"
)

// TestErrorsHideSecrets gives flags that hold passwords or keys a wrong value. No error
// quotes it: errors of a server go to a journal.
func TestErrorsHideSecrets(t *testing.T) {
	for _, flag := range []string{
		"--keys.text-key=geheim", "--msfs.ticket-key=geheim", "--mysql.master=tt:geheim@db1",
		"--redis.unread=redis://u:geheim@h:port/1", "--msfs.url=ftp://u:geheim@h",
		"--login.register=ftp://u:geheim@h", "--audit.syslog=http://u:geheim@h",
	} {
		r := command(t, "", "config", "check", flag)
		name, _, _ := strings.Cut(flag, "=")
		if r.code != cli.ExitUsage || strings.Contains(r.out+r.err, "geheim") ||
			!strings.Contains(r.err, name) {
			t.Errorf("%s: exit code %d\n%s%s", name, r.code, r.out, r.err)
		}
	}
}
