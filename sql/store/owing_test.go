package store

import (
	"testing"

	"teamtalk/core/im"
)

// TestRebuildDuringABatch rebuilds the counts while a batch is committed, and its counts are
// not applied. The rebuild finds the messages in the tables. They must not count twice.
func TestRebuildDuringABatch(t *testing.T) {
	t.Parallel()
	for name, cluster := range map[string]bool{"server": false, "cluster": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t)
			if cluster {
				e.onCluster(t)
			}
			e.o.NoRebuild = false
			var afterCommit, owing func()
			e.o.hooks.AfterCommit = func() error {
				if do := afterCommit; do != nil {
					afterCommit = nil
					do()
				}
				return nil
			}
			e.o.hooks.Owing = func() { owing() }
			s := e.store(t)
			// marks began before the messages of the test
			e.exec(t, "UPDATE IMReadMark SET msgId=msgId-1000 WHERE userId=0")
			u := users(t, s, 2)
			g := newGroup(t, s, u...)
			for _, batch := range [][]*im.Message{texts(u[0], u[1], 3), groupTexts(u[0], g, 3)} {
				send(t, s, batch...) // each side has a count
				found, applied, done := make(chan bool), make(chan bool), make(chan bool)
				owing = func() {
					close(found)
					<-applied
				}
				afterCommit = func() {
					go func() {
						defer close(done)
						if _, err := s.RebuildUnread(t.Context()); err != nil {
							t.Error(err)
						}
					}()
					select {
					case <-found:
					case <-done:
					}
				}
				send(t, s, batch...)
				close(applied)
				<-done
			}
			counts, _, err := s.UnreadCounts(t.Context(), u[1], 1<<20)
			if err != nil || len(counts) != 2 {
				t.Fatalf("unread %v, %v", counts, err)
			}
			for _, c := range counts {
				if c.Count != 6 {
					t.Errorf("%v %d: %d unread, want 6", c.Type, c.Peer, c.Count)
				}
			}
		})
	}
}
