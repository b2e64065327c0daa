package group

import (
	"testing"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/mono"
)

// TestGroupsBounded: the groups known are bounded in number and in members.
func TestGroupsBounded(t *testing.T) {
	gs := New(Options{Now: time.Now, AfterFunc: mono.AfterFunc})
	fill := func(id uint32, members int) {
		g := gs.of(id)
		g.mu.Lock()
		g.set(gs.era.Load(), make([]uint32, members), 1, nil, time.Now())
		g.mu.Unlock()
	}
	for id := range uint32(maxGroups + 100) {
		fill(id, 10)
	}
	if n := gs.table.Len(); n != maxGroups || gs.members != 10*maxGroups {
		t.Fatalf("%d groups, %d members", n, gs.members)
	}
	for id := range uint32(300) {
		fill(1<<20+id, im.MaxGroupMembers)
	}
	if gs.members > maxCachedMembers || gs.members < maxCachedMembers-im.MaxGroupMembers {
		t.Fatalf("%d members", gs.members)
	}
	sum := 0
	for _, g := range gs.table.Values() {
		sum += len(g.members)
	}
	if sum != gs.members {
		t.Fatalf("%d members, counted %d", sum, gs.members)
	}
}
