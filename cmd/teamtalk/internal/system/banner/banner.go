// Package banner writes what a process tells at its start, for people: its addresses, and the
// commands to try next.
package banner

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"teamtalk/cmd/teamtalk/internal/admin"
	"teamtalk/core/config"
)

// Banner is the text of a process whose ports are open.
type Banner struct {
	Version string
	Roles   []string
	// Login is the address of login's HTTP port, as this machine dials it; empty without one.
	Login string
	// Page is the URL of the chat page, as this machine opens it; empty without one.
	Page string
	// Demo: the store has the demo users. Users: a command can add users, and they can chat.
	Demo, Users bool
	// Registers: new users can register. Anywhere: also on other machines.
	Registers, Anywhere bool

	lines []line
}

// line is a server and its address.
type line struct{ what, where string }

// Add adds a server and its address, or a further line of the last one with an empty name.
func (b *Banner) Add(what, where string) { b.lines = append(b.lines, line{what, where}) }

// Write writes the banner.
func (b *Banner) Write(w io.Writer) {
	fmt.Fprintf(w, "TeamTalk %s: %s\n\n", b.Version, strings.Join(b.Roles, ", "))
	for _, l := range b.lines {
		fmt.Fprintf(w, "  %-15s %s\n", l.what, l.where)
	}
	fmt.Fprintln(w)
	switch self := Self(); {
	case b.Demo:
		b.demo(w, self)
	case b.Users:
		fmt.Fprintf(w, "Next: %s user add NAME, then %s chat NAME%s\n\n", self, self,
			b.chatServer())
	}
}

// demo writes the commands to chat as the demo users. self is the name of this program.
func (b *Banner) demo(w io.Writer, self string) {
	fmt.Fprintf(w, "Two users, alice and bob, have the password %q. %s:\n\n",
		admin.DemoPassword, b.places())
	for i, name := range admin.DemoUsers {
		fmt.Fprintf(w, "  %s chat %s %s --password %s%s\n",
			self, name, admin.DemoUsers[1-i], admin.DemoPassword, b.chatServer())
	}
	fmt.Fprintln(w)
	if b.Registers {
		where := ""
		if !b.Anywhere {
			where = ", on this machine"
		}
		fmt.Fprintf(w, "For a new user%s:\n\n  %s chat NAME --register%s\n\n", where, self,
			b.chatServer())
	}
}

// places says where the demo users chat.
func (b *Banner) places() string {
	if b.Page == "" {
		return "In two more terminals"
	}
	return "Open " + b.Page + " in a browser. Or, in two more terminals"
}

// chatServer returns the flag that chat needs when login's HTTP port is not the default
// one.
func (b *Banner) chatServer() string {
	addr := b.Login
	if addr == "" || strings.HasSuffix(addr, ":8080") {
		return ""
	}
	return " --server http://" + addr
}

// Store returns the kind and the place of the store, for people.
func Store(cfg *config.Config) string {
	if cfg.Store != "embedded" {
		return fmt.Sprintf("MySQL %s, Redis %s", cfg.MySQL.Master,
			strings.Join(cfg.Redis.Addrs, ","))
	}
	dir, err := filepath.Abs(cfg.DataDir)
	if err != nil {
		dir = cfg.DataDir
	}
	return "embedded, in " + dir
}

// Self returns the command that started this program, to be typed again.
func Self() string {
	if strings.Contains(os.Args[0], "go-build") {
		return "go run ./cmd/teamtalk"
	}
	return os.Args[0]
}
