package spool

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"teamtalk/core/im"
)

// errKilled ends a process in TestCrashAtEveryStep.
var errKilled = errors.New("killed")

// life runs a file through the spool, and returns the phase in which it was killed, or "end".
func life(t *testing.T, s *Spool, content []byte) (phase string) {
	defer func() {
		if r := recover(); r != nil && r != any(errKilled) {
			panic(r)
		}
	}()
	phase = "create"
	must(t, s.Create(file(len(content))))
	phase = "upload"
	must(t, s.Append(id, 0, content[:1000]))
	phase = "upload more"
	must(t, s.Append(id, 1000, content[1000:]))
	phase = "finish"
	must(t, s.Finish(id))
	phase = "fetch"
	must(t, s.MarkFetched(id))
	phase = "delete"
	must(t, s.Delete(id))
	return "end"
}

// TestCrashAtEveryStep ends the process before every change of the disk, and checks the
// files that the next process finds.
func TestCrashAtEveryStep(t *testing.T) {
	content := bytes.Repeat([]byte("x1y2"), 500)
	seen := map[string]bool{}
	for after := 0; ; after++ {
		dir := t.TempDir()
		s := mustOpen(t, Options{Dir: dir})
		steps, at := 0, ""
		s.step = func(what string) {
			if steps++; steps > after {
				at = what
				panic(errKilled)
			}
		}
		phase := life(t, s, content)
		must(t, s.Close()) // releases the lock, as a kill does
		seen[phase] = true
		s = mustOpen(t, Options{Dir: dir})
		what := fmt.Sprintf("killed in %s before %q", phase, at)
		checkKilled(t, s, dir, what, phase, content)
		if phase == "end" {
			break
		}
		must(t, s.Close())
	}
	for _, phase := range []string{"create", "upload", "upload more", "finish", "fetch", "delete",
		"end"} {
		if !seen[phase] {
			t.Errorf("no step in %s", phase)
		}
	}
}

// checkKilled checks what a restart finds after a kill in a phase: the file as a whole, or
// nothing of it.
func checkKilled(t *testing.T, s *Spool, dir, what, phase string, content []byte) {
	t.Helper()
	found, state, ok := s.Lookup(id)
	switch {
	case phase == "create" || phase == "end":
		// The file was not announced yet, or is deleted: it exists as a whole or not
		// at all.
		if ok && (state != Unfinished || found != file(len(content))) {
			t.Errorf("%s: %+v %v", what, found, state)
		}
	case phase != "delete" && (!ok || found != file(len(content))):
		t.Errorf("%s: found %v, %+v", what, ok, found)
	}
	if ok {
		complete(t, s, what, content, state)
	}
	for _, name := range names(t, dir) {
		if _, _, there := s.Lookup(id); !there || strings.HasSuffix(name, extTemp) {
			t.Errorf("%s: %s is left", what, name)
		}
	}
}

// complete uploads the missing bytes and reads the whole file.
func complete(t *testing.T, s *Spool, what string, content []byte, state State) {
	t.Helper()
	if state == Unfinished {
		wantKind(t, what+": Read of an unfinished file", s.Read(id, 0, make([]byte, 1)),
			im.NotFound)
		at, err := s.Resume(id)
		must(t, err)
		if at != 0 && at != 1000 && at != int64(len(content)) {
			t.Errorf("%s: resumed at %d", what, at)
		}
		must(t, s.Append(id, at, content[at:]))
		must(t, s.Finish(id))
	}
	got := make([]byte, len(content))
	if err := s.Read(id, 0, got); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%s: Read returned other bytes than were appended: %v", what, err)
	}
}

// TestUploadResumesAfterATornWrite leaves a part that a write filled halfway.
func TestUploadResumesAfterATornWrite(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, Options{Dir: dir})
	content := bytes.Repeat([]byte("abcdefg"), 1000)
	must(t, s.Create(file(len(content))))
	must(t, s.Append(id, 0, content[:3000]))
	must(t, s.Close())
	must(t, os.Truncate(filepath.Join(dir, id+extPart), 2500))
	s = mustOpen(t, Options{Dir: dir})
	if at, err := s.Resume(id); at != 2500 || err != nil {
		t.Fatalf("Resume: %d, %v", at, err)
	}
	must(t, s.Append(id, 2500, content[2500:]))
	must(t, s.Finish(id))
	complete(t, s, "torn", content, Waiting)
}
