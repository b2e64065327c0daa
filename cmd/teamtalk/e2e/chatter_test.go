//go:build linux

package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// chatFile is a file in the JSON of chat.
type chatFile struct {
	N      int    `json:"n"`
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	From   string `json:"from"`
	Online bool   `json:"online"`
	State  string `json:"state"`
	Moved  int64  `json:"moved"`
	Path   string `json:"path"`
	Error  string `json:"error"`
}

// chatEvent is a line of the JSON of chat.
type chatEvent struct {
	Event string      `json:"event"`
	Cmd   string      `json:"cmd"`
	From  string      `json:"from"`
	Text  string      `json:"text"`
	Error string      `json:"error"`
	File  *chatFile   `json:"file"`
	Files []*chatFile `json:"files"`

	Contacts []struct {
		Status string `json:"status"`
	} `json:"contacts"`
}

// chatter is a process of "teamtalk chat USER --json". A test may kill it and start it
// again with the same files.
type chatter struct {
	t         testing.TB
	user      string
	args      []string
	downloads string
	long      bool // its transfers take longer than patience

	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan chatEvent
	back  []chatEvent // events that await reads before lines
	log   *output
}

// newChatter starts a chatter of a user, which logs in to the message server at.
func newChatter(t testing.TB, sys *deployment, user string, at int) *chatter {
	t.Helper()
	// The first download creates the folder.
	c := &chatter{t: t, user: user,
		downloads: filepath.Join(t.TempDir(), "downloads of "+user)}
	c.args = []string{"chat", user, "--json", "--password", "pw",
		"--msg-server", sys.msgAddr[at], "--downloads", c.downloads,
		"--state", filepath.Join(t.TempDir(), "state"), "--timeout", "30s"}
	t.Cleanup(func() {
		if c.cmd != nil {
			c.kill()
		}
		if t.Failed() {
			t.Logf("%s: %s", user, tail([]byte(c.log.String()), 40))
		}
	})
	c.start()
	return c
}

// start runs the process and waits until it has logged in.
func (c *chatter) start() {
	c.t.Helper()
	cmd := exec.Command(program(c.t), c.args...)
	cmd.Env, cmd.Dir = environment(), c.t.TempDir()
	in, err := cmd.StdinPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	log := &output{}
	cmd.Stderr = log
	if err := startBound(cmd); err != nil {
		c.t.Fatal(err)
	}
	lines := make(chan chatEvent, 10_000)
	go func() {
		defer close(lines)
		for sc := bufio.NewScanner(out); sc.Scan(); {
			fmt.Fprintln(log, sc.Text())
			var e chatEvent
			if err := json.Unmarshal(sc.Bytes(), &e); err != nil {
				e = chatEvent{Event: "garbage", Error: err.Error()}
			}
			lines <- e
		}
	}()
	c.cmd, c.in, c.lines, c.back, c.log = cmd, in, lines, nil, log
	c.await("to be logged in", func(e chatEvent) bool { return e.Event == "ready" })
}

// kill ends the process with SIGKILL, as a power failure would.
func (c *chatter) kill() {
	c.t.Helper()
	_ = c.cmd.Process.Kill()
	for range c.lines {
	}
	_ = c.cmd.Wait()
	c.cmd = nil
}

// quit closes the input and waits for the end of the process. Its exit code must be 0.
func (c *chatter) quit() {
	c.t.Helper()
	c.in.Close()
	for range c.lines {
	}
	if err := c.cmd.Wait(); err != nil {
		c.t.Errorf("%s: %v", c.user, err)
	}
	c.cmd = nil
}

// enter writes a command.
func (c *chatter) enter(format string, args ...any) {
	c.t.Helper()
	if _, err := fmt.Fprintf(c.in, format+"\n", args...); err != nil {
		c.t.Fatal(err)
	}
}

// await reads events up to the first for which ok returns true. An error event fails the
// test.
func (c *chatter) await(what string, ok func(e chatEvent) bool) chatEvent {
	c.t.Helper()
	wait := patience
	if c.long {
		wait *= 10
	}
	limit := time.NewTimer(wait)
	defer limit.Stop()
	for {
		var e chatEvent
		if len(c.back) > 0 {
			e, c.back = c.back[0], c.back[1:]
		} else {
			more := true
			select {
			case e, more = <-c.lines:
			case <-limit.C:
				c.t.Fatalf("waited %v for %s %s", wait, c.user, what)
			}
			if !more {
				c.t.Fatalf("%s has ended, and was %s", c.user, what)
			}
		}
		switch {
		case ok(e):
			return e
		case e.Event == "error" || e.Event == "garbage":
			c.t.Fatalf("%s: %s", c.user, e.Error)
		}
	}
}

// file waits until a file is in a state.
func (c *chatter) file(state string) *chatFile {
	c.t.Helper()
	return c.await("to have a file that is "+state, func(e chatEvent) bool {
		if e.Event == "file" && e.File.State == "failed" && state != "failed" {
			c.t.Fatalf("%s: %s failed: %s", c.user, e.File.Name, e.File.Error)
		}
		return e.Event == "file" && e.File.State == state
	}).File
}

// waiting returns the number of files that wait at the server for the user. It does not
// count direct offers: no server notifies a receiver that an offer was cancelled.
func (c *chatter) waiting() int {
	c.t.Helper()
	c.enter(`{"cmd":"files"}`)
	n := 0
	for _, f := range c.await("to list files",
		func(e chatEvent) bool { return e.Event == "files" }).Files {
		if f.State == "waiting" {
			n++
		}
	}
	return n
}

// stop cancels a transfer and waits until it has ended. await reads the events of the
// meantime later.
func (c *chatter) stop(n int) {
	c.t.Helper()
	c.enter(`{"cmd":"cancel_file","n":%d}`, n)
	var passed []chatEvent
	c.await("to have cancelled", func(e chatEvent) bool {
		if e.Event == "done" && e.Cmd == "cancel_file" {
			return true
		}
		passed = append(passed, e)
		return false
	})
	c.back = append(passed, c.back...)
}

// sees waits until the user's message server knows that another user is online. It may
// learn that after the other user's own message server.
func (c *chatter) sees(other *chatter) {
	c.t.Helper()
	until(c.t, c.user+" to see "+other.user, func() bool {
		c.enter(`{"cmd":"status","users":[%q]}`, other.user)
		e := c.await("to have the status", func(e chatEvent) bool { return e.Event == "status" })
		return len(e.Contacts) == 1 && e.Contacts[0].Status == "online"
	})
}

// folder returns the names of the downloads.
func (c *chatter) folder() []string {
	c.t.Helper()
	list, err := os.ReadDir(c.downloads)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}
