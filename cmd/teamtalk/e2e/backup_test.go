//go:build linux

package e2e

import (
	"bytes"
	"maps"
	"path/filepath"
	"testing"
)

// idGap is the number of ids that a restore leaves out.
const idGap = 100_000

// newest returns the highest id of the talker's own messages.
func (k *talker) newest() (id uint32) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, acked := range k.acked {
		id = max(id, acked)
	}
	return id
}

// excuse forgets the messages of the talker with ids after one id and up to another, which the
// other talker had not received when they were lost.
func (k *talker) excuse(after, upTo uint32) {
	received := map[uint32]bool{}
	k.other.mu.Lock()
	for _, m := range k.other.got {
		received[m.ID] = true
	}
	k.other.mu.Unlock()
	k.mu.Lock()
	defer k.mu.Unlock()
	maps.DeleteFunc(k.acked, func(_ string, id uint32) bool {
		return after < id && id <= upTo && !received[id]
	})
}

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
	made, kept := filepath.Join(t.TempDir(), "backup"), max(a.newest(), b.newest())
	mustRun(t, "backup", made, "--data-dir", data)
	mustRun(t, "backup", "verify", made)
	awaitTalk(t, a, b, 2*maxWaiting+5) // these will be lost
	server.kill()
	for _, k := range []*talker{a, b} {
		id := k.UserID()
		k.mu.Lock()
		k.lostOwn = id
		k.mu.Unlock()
	}
	mustRun(t, "restore", made, "--data-dir", data, "--force")
	server.start()
	awaitTalk(t, a, b, 2*maxWaiting+5)
	for _, k := range []*talker{a, b} {
		k.excuse(kept, idGap)
	}
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
