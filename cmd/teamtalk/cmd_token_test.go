package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"teamtalk/cmd/teamtalk/internal/cli"
)

// TestTokenCommands makes, lists and removes tokens.
func TestTokenCommands(t *testing.T) {
	dir := t.TempDir()
	file, log := filepath.Join(dir, "tokens"), filepath.Join(dir, "audit")
	t.Setenv("TEAMTALK_ADMIN_API_TOKENS", file)
	t.Setenv("TEAMTALK_AUDIT_FILE", log)
	command(t, "", "token", "list").want(t, cli.ExitFailure, "", "read tokens")
	r := command(t, "", "token", "add", "ops")
	r.want(t, cli.ExitOK, "ttadm_", "")
	secret := strings.TrimSpace(r.out)
	command(t, "", "token", "add", "monitor", "--role", "read-only").
		want(t, cli.ExitOK, "ttadm_", "")
	command(t, "", "token", "add", "ops").want(t, cli.ExitFailure, "", "has a token ops")
	command(t, "", "token", "add", "a b").want(t, cli.ExitUsage, "", "letters, digits")
	command(t, "", "token", "add", "x", "--role", "root").want(t, cli.ExitUsage, "", "read-only")
	r = command(t, "", "token", "list")
	r.want(t, cli.ExitOK, "NAME     ROLE\nops      admin\nmonitor  read-only\n", "")
	command(t, "", "token", "remove", "ops").want(t, cli.ExitOK, "removed the token ops\n", "")
	command(t, "", "token", "remove", "ops").want(t, cli.ExitFailure, "", "has no token ops")
	command(t, "", "token", "list", "--file", file+"x").want(t, cli.ExitFailure, "", "read tokens")
	data, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	lines := string(data)
	if strings.Contains(lines, secret) || !strings.Contains(lines, `"what":"token add ops"`) ||
		!strings.Contains(lines, `"what":"token remove ops"`) {
		t.Errorf("audit log:\n%s", lines)
	}
	t.Setenv("TEAMTALK_ADMIN_API_TOKENS", "")
	command(t, "", "token", "list").want(t, cli.ExitUsage, "", "admin_api.tokens")
}
