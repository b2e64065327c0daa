package msg

import (
	"testing"
	"time"

	"teamtalk/proto/pb"
)

// firstUsers returns the users 1 to n.
func firstUsers(n int) []uint32 {
	users := make([]uint32, n)
	for i := range users {
		users[i] = uint32(i + 1)
	}
	return users
}

// TestChangesOfMembersArePaced: every member is told of a change, with the ids of all. So a user
// that adds and removes members of a large group in a loop waits, on all of its connections, and
// is refused when it has too many changes on their way. Changes of small groups do not wait.
func TestChangesOfMembersArePaced(t *testing.T) {
	inWorld(t, Options{Policy: Unlimited}, func(w *world) {
		w.db.addGroup(50, firstUsers(1000)...)
		var list []*device
		for i := range 8 {
			list = append(list, w.user(i%2, 1, win))
		}
		bob := w.user(1, 2, android)
		begin, made, refused := time.Now(), 0, 0
		for i := 0; time.Since(begin) < 100*time.Second; i++ {
			typ := delMember
			if i%2 == 1 {
				typ = addMember
			}
			for k, d := range list {
				d.changeGroup(9, typ, uint32(900+k))
				for _, f := range d.got() {
					if m, ok := f.m.(*pb.IMGroupChangeMemberRsp); ok {
						refused += int(m.GetResultCode())
					}
				}
			}
			time.Sleep(50 * time.Millisecond)
			for _, f := range bob.got() {
				if f.m.Command() == pb.CmdGroupChangeMemberNotify {
					made++
				}
			}
		}
		// 50 at once, and one a second. Those that are on their way at the same time are more.
		if made < 120 || made > 200 {
			t.Errorf("%d changes in 100 s, want about 150", made)
		}
		if waited, n := w.counted("group_changes_paced_total", "waited"),
			w.counted("group_changes_paced_total", "refused"); waited == 0 || n == 0 ||
			refused == 0 {
			t.Errorf("%v counted as waited, %v as refused, %d answers", waited, n, refused)
		}
		for _, d := range list {
			d.hangUp()
		}
		time.Sleep(2 * time.Minute)
		w.db.addGroup(50, firstUsers(10)...)
		alice := w.user(0, 1, win)
		for range 100 {
			alice.changeGroup(9, delMember, 9)
			alice.wantChanged(9, 0)
			alice.changeGroup(10, addMember, 9)
			alice.wantChanged(10, 0)
			time.Sleep(200 * time.Millisecond)
		}
	})
}
