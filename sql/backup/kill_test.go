package backup

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"teamtalk/core/im"
	"teamtalk/sql/embedded"
)

// killed names the variables of a process that TestKilled kills: what it does, from where, where
// to, and the part before which it waits to be killed.
const killed = "TEAMTALK_BACKUP_KILLED"

// TestMain runs the process of TestKilled, or the tests.
func TestMain(m *testing.M) {
	order := strings.Split(os.Getenv(killed), "|")
	if len(order) < 4 {
		os.Exit(m.Run())
	}
	wait := func(part string) {
		if part != order[3] {
			return
		}
		os.Stdout.WriteString("ready\n")
		io.Copy(io.Discard, os.Stdin) // until the parent kills this process, or ends
		os.Exit(1)
	}
	var err error
	if order[0] == "make" {
		_, err = Make(ctx, sourceOf(order[1]), Options{Target: order[2], Progress: wait})
	} else {
		_, err = Restore(ctx, RestoreOptions{Backup: order[1], DataDir: order[2], Progress: wait})
	}
	panic(err) // it should have waited
}

func sourceOf(dir string) Source {
	return Source{DataDir: dir, Small: filepath.Join(dir, "msfs"),
		Sounds: filepath.Join(dir, "audio"), Waiting: filepath.Join(dir, "files")}
}

// kill runs a process, calls while when it waits before a part, and kills it.
func kill(t *testing.T, while func(), order ...string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), killed+"="+strings.Join(order, "|"))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Errorf("the process wrote %q, %v", line, err)
	}
	while()
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait() // it says that the process was killed
}

// TestKilled kills a backup and a restore before each part. Nothing then has the name of the
// result, another run meanwhile is refused, and the next run succeeds and leaves nothing else.
func TestKilled(t *testing.T) {
	v := newServer(t)
	v.say("one")
	v.write("msfs/a", "a")
	v.write("audio/b", "b")
	parent := t.TempDir()
	target := filepath.Join(parent, "backup")
	absent := func(path string) {
		t.Helper()
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s exists after the kill", path)
		}
	}
	for _, part := range []string{LogFolder, embedded.FileName, soundFolder, smallFolder} {
		kill(t, func() {
			_, err := Make(ctx, v.source(), Options{Target: target})
			if im.KindOf(err) != im.Busy {
				t.Errorf("a second backup at the same time: %v", err)
			}
			other := filepath.Join(parent, "other")
			if _, err := Make(ctx, v.source(), Options{Target: other}); err != nil {
				t.Errorf("another backup at the same time: %v", err)
			}
			v.check(os.RemoveAll(other))
		}, "make", v.dir, target, part)
		absent(target)
	}
	_, err := Make(ctx, v.source(), Options{Target: filepath.Join(parent, "next")})
	v.check(err)
	if left := hidden(t, parent); left != nil {
		t.Errorf("the next backup left %q", left)
	}
	dir := filepath.Join(parent, "restored")
	next := filepath.Join(parent, "next")
	for _, part := range []string{embedded.FileName, soundFolder, smallFolder} {
		kill(t, func() {
			_, err := Restore(ctx, RestoreOptions{Backup: next, DataDir: dir})
			if im.KindOf(err) != im.Busy {
				t.Errorf("a second restore at the same time: %v", err)
			}
		}, "restore", next, dir, part)
		absent(dir)
	}
	_, err = Restore(ctx, RestoreOptions{Backup: next, DataDir: dir})
	v.check(err)
	if left := hidden(t, parent); left != nil || read(dir, "msfs/a") != "a" {
		t.Errorf("the next restore left %q, and the file %q", left, read(dir, "msfs/a"))
	}
}

// FuzzManifest reads manifests with any bytes.
func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"head":{"format":1}}` + "\n" + `{"file":{"path":"a/b","size":3}}` + "\n"))
	f.Add([]byte(`{"head":{"format":1}}` + "\n" + `{"file":{"path":"/etc/x","size":-3}}` + "\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := readHead(strings.NewReader(string(b)))
		for err == nil {
			var e Entry
			if e, err = m.next(); err == nil && !filepath.IsLocal(e.Path) {
				t.Errorf("the path %q leads out of the backup", e.Path)
			}
		}
	})
}
