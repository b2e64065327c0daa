package chat

import (
	"os"
	"strings"
	"testing"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// onWrite is a writer that calls a function with each text.
type onWrite func(text string)

// Write calls the function.
func (f onWrite) Write(b []byte) (int, error) {
	f(string(b))
	return len(b), nil
}

// echoes reports whether a terminal shows what is typed.
func echoes(t *testing.T, terminal *os.File) bool {
	t.Helper()
	settings, err := unix.IoctlGetTermios(int(terminal.Fd()), getTermios)
	if err != nil {
		t.Fatal(err)
	}
	return settings.Lflag&unix.ECHO != 0
}

// TestSecretIsHiddenBeforePrompt answers at the moment in which the prompt is shown.
func TestSecretIsHiddenBeforePrompt(t *testing.T) {
	person, terminal, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer person.Close()
	defer terminal.Close()
	shown := false
	p := NewPrompter(t.Context(), terminal, onWrite(func(text string) {
		if !strings.Contains(text, "Password") {
			return
		}
		shown = echoes(t, terminal)
		if _, err := person.WriteString("secret\r"); err != nil {
			t.Error(err)
		}
	}))
	if text, err := p.Secret("Password: "); err != nil || text != "secret" {
		t.Errorf("got %q, %v", text, err)
	}
	if shown {
		t.Error("the terminal showed what was typed when the prompt was there")
	}
	if !echoes(t, terminal) {
		t.Error("the terminal shows nothing after the question")
	}
}
