//go:build linux

package e2e

import (
	"bytes"
	"path/filepath"
	"testing"
)

// TestBackup copies the store of a running server, loses what was said after it, and restores the
// copy. The same clients, which know the ids of the lost messages, continue to talk: every new
// message has an id that they do not know.
func TestBackup(t *testing.T) {
	t.Parallel()
	sys := deployAllInOne(t, settings{users: 2, flags: []string{"--msg.rate", "0"}})
	data, server := sys.store[1], sys.msg[0]
	picture := bytes.Repeat([]byte("picture "), 1000)
	stored := upload(t, "http://"+sys.files+"/", "photo.jpg", picture)
	at := where{addr: sys.msgAddr[0]}
	a, b := newTalker(t, "u00001", at), newTalker(t, "u00002", at)
	talk(a, b)
	awaitTalk(t, a, b, 2*maxWaiting+5)
	made := filepath.Join(t.TempDir(), "backup")
	mustRun(t, "backup", made, "--data-dir", data)
	mustRun(t, "backup", "verify", made)
	awaitTalk(t, a, b, 2*maxWaiting+5) // these will be lost
	server.kill()
	mustRun(t, "restore", made, "--data-dir", data, "--force")
	server.start()
	awaitTalk(t, a, b, 2*maxWaiting+5)
	hush(t, a, b)
	if got := fetch(t, stored.URL); !bytes.Equal(got, picture) {
		t.Errorf("the picture has %d bytes, want %d", len(got), len(picture))
	}
	for _, k := range []*talker{a, b} {
		k.mu.Lock()
		for _, bad := range k.bad {
			t.Errorf("%s: %s", k.name, bad)
		}
		k.mu.Unlock()
	}
}
