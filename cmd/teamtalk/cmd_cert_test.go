package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/core/cert"
)

// TestCertCommands makes a CA and certificates that servers accept. No file is overwritten.
func TestCertCommands(t *testing.T) {
	dir := t.TempDir()
	command(t, "", "cert", "ca", "--dir", dir).want(t, cli.ExitOK, "made the CA ", "")
	command(t, "", "cert", "server", "fd00::1", "msg1.internal", "--dir", dir).want(t, cli.ExitOK,
		"[link_tls]", "")
	ca := filepath.Join(dir, "ca.pem")
	_, err := cert.LoadPeers(ca, cert.Options{Certificate: filepath.Join(dir, "fd00--1.pem"),
		Key: filepath.Join(dir, "fd00--1-key.pem"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Error(err)
	}
	before, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	command(t, "", "cert", "ca", "--dir", dir).want(t, cli.ExitFailure, "",
		"the folder has a CA. Go on with teamtalk cert server")
	command(t, "", "cert", "server", "fd00::1", "--dir", dir).want(t, cli.ExitFailure, "",
		"to renew a certificate remove it first")
	if after, err := os.ReadFile(ca); err != nil || string(after) != string(before) {
		t.Errorf("the CA was overwritten (%v)", err)
	}
	for _, name := range []string{"ca-key.pem", "fd00--1-key.pem"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil ||
			info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

func TestCertMistakes(t *testing.T) {
	dir := t.TempDir()
	command(t, "", "cert", "server", "10.0.0.1", "--dir", dir).want(t, cli.ExitFailure, "",
		"teamtalk cert ca makes a CA")
	command(t, "", "cert", "server", "--dir", dir).want(t, cli.ExitUsage, "",
		"want the addresses of a server")
	for _, name := range []string{"../x", "a/b", "-", "", "a b", "10.0.0.300",
		strings.Repeat("a", 300)} {
		command(t, "", "cert", "server", "--dir", dir, "--", name).want(t, cli.ExitUsage, "",
			"no IP address or host name")
	}
	for _, days := range []string{"0", "-5", "99999999999"} {
		command(t, "", "cert", "ca", "--dir", dir, "--days", days).want(t, cli.ExitUsage, "",
			"want 1 to 36525")
	}
}
