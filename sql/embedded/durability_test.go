package embedded

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// childDir is the environment variable that makes the test binary a child, which appends
// until it is killed.
const childDir = "EMBEDDED_TEST_CHILD_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		appendForever(dir)
	}
	os.Exit(m.Run())
}

// appendForever prints "type user peer id body" for every stored message, and never
// returns.
func appendForever(dir string) {
	s, err := Open(context.Background(), Options{Dir: dir})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	users, err := s.ListUsers(context.Background(), 0, 10)
	if err != nil || len(users) != 10 {
		fmt.Println(users, err)
		os.Exit(1)
	}
	groups, err := s.ListGroups(context.Background(), 0, 10)
	if err != nil || len(groups) != 1 {
		fmt.Println(groups, err)
		os.Exit(1)
	}
	var out sync.Mutex
	for i := range 5 { // four conversations and a group, each in order
		go func() {
			a, b := users[2*i].ID, users[2*i+1].ID
			for n := 0; ; n++ {
				batch := make([]*im.Message, 1+n%7)
				for j := range batch {
					batch[j] = message(a, b, fmt.Sprintf("%d-%d-%d-%d", os.Getpid(), i, n, j))
					batch[j].ClientID = batch[j].Data
					if j%3 == 2 {
						batch[j].From, batch[j].To = b, a
					}
					if i == 4 {
						batch[j].Type, batch[j].To = pb.MsgType_MSG_TYPE_GROUP_TEXT, groups[0].ID
					}
				}
				s.AppendMessages(context.Background(), batch)
				out.Lock()
				for _, m := range batch {
					if m.Err != nil {
						fmt.Println(m.Err)
						os.Exit(1)
					}
					fmt.Printf("%d %d %d %d %s\n", m.Type, m.From, m.To, m.ID, m.Data)
				}
				out.Unlock()
			}
		}()
	}
	select {}
}

// TestKill kills a process that appends, with -9, several times on the same directory.
// Every message that the process had reported as stored must exist, with counts and
// sessions.
func TestKill(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := open(t, Options{Dir: dir})
	users := people(t, s, 10)
	newGroup(t, s, users...)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{} // bodies, to find duplicates
	for round := range 3 {
		acked := killedChild(t, dir, 300*(round+1))
		s := open(t, Options{Dir: dir})
		for _, line := range acked {
			m := parseAcked(t, line)
			read := s.MessagesByID
			if m.Type.IsGroup() {
				read = s.GroupMessagesByID
			}
			got, err := read(context.Background(), m.From, m.To, []uint32{m.ID})
			if err != nil || len(got) != 1 || string(got[0].Data) != string(m.Data) ||
				got[0].From != m.From {
				t.Fatalf("round %d: %q was acked; stored is %v, %v", round, line, got, err)
			}
			m.ClientID = m.Data
			again := *m
			s.AppendMessages(context.Background(), []*im.Message{&again})
			if again.Err != nil || !again.Duplicate || again.ID != m.ID {
				t.Fatalf("round %d: resent %q: id %d, duplicate %v, %v", round, line, again.ID,
					again.Duplicate, again.Err)
			}
			seen[string(m.Data)]++
		}
		checkWhole(t, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if len(seen) < 1800 {
		t.Errorf("only %d messages acked", len(seen))
	}
}

// killedChild runs a child on dir, kills it after it has acked n messages, and returns
// all messages that it acked.
func killedChild(t *testing.T, dir string, n int) (acked []string) {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childDir+"="+dir)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if err != nil { // a line without a newline is incomplete
			break
		}
		if acked = append(acked, strings.TrimSpace(line)); len(acked) == n {
			if err := child.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := child.Wait(); err == nil || len(acked) < n {
		t.Fatalf("the child ended by itself after %d messages, %v: %s", len(acked), err, acked)
	}
	return acked
}

func parseAcked(t *testing.T, line string) *im.Message {
	t.Helper()
	m := message(0, 0, "")
	var body string
	if _, err := fmt.Sscan(line, &m.Type, &m.From, &m.To, &m.ID, &body); err != nil {
		t.Fatalf("the child says %q", line)
	}
	m.Data = []byte(body)
	return m
}

// checkWhole requires that no conversation has a gap, and that unread counts and sessions
// agree with the messages. No message was read.
func checkWhole(t *testing.T, s *Store) {
	t.Helper()
	ctx := context.Background()
	users, err := s.ListUsers(ctx, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range users {
		sessions, err := s.RecentSessions(ctx, u.ID, 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		unread := map[uint32]uint32{}
		counts, _, err := s.UnreadCounts(ctx, u.ID, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range counts {
			if c.Type == pb.SessionType_SESSION_TYPE_SINGLE {
				unread[c.Peer] = c.Count
			}
		}
		for _, r := range sessions {
			if r.Type == pb.SessionType_SESSION_TYPE_GROUP {
				checkGroupWhole(t, s, u.ID, r)
				continue
			}
			history, err := s.History(ctx, u.ID, r.Peer, 0, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			toUser := uint32(0)
			for i, m := range history {
				if want := uint32(len(history) - i); m.ID != want {
					t.Fatalf("conversation %d-%d: id %d where %d should be", u.ID,
						r.Peer, m.ID, want)
				}
				if m.To == u.ID {
					toUser++
				}
			}
			if r.Latest.ID != uint32(len(history)) || unread[r.Peer] != toUser {
				t.Errorf("conversation %d-%d: %d messages, latest %d; %d to the user, %d unread",
					u.ID, r.Peer, len(history), r.Latest.ID, toUser, unread[r.Peer])
			}
		}
	}
	var result string
	if err := s.readers.QueryRow("pragma integrity_check").Scan(&result); err != nil ||
		result != "ok" {
		t.Errorf("integrity_check: %s, %v", result, err)
	}
}

// checkGroupWhole requires that a group has no gap, and that a member's session and
// unread count agree with the messages. Only sending has marked messages as read.
func checkGroupWhole(t *testing.T, s *Store, user uint32, r im.RecentSession) {
	t.Helper()
	history, err := s.GroupHistory(context.Background(), user, r.Peer, 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	unread, sent := uint32(0), false
	for i, m := range history {
		if want := uint32(len(history) - i); m.ID != want {
			t.Fatalf("group %d: id %d where %d should be", r.Peer, m.ID, want)
		}
		if sent = sent || m.From == user; !sent {
			unread++
		}
	}
	if got := unreadIn(t, s, user, r.Peer); got != unread || r.Latest.ID != uint32(len(history)) {
		t.Errorf("group %d: %d messages, latest %d; %d after the last of user %d, %d unread",
			r.Peer, len(history), r.Latest.ID, unread, user, got)
	}
}

// TestCloseWhileAppending closes the store during appends. Each batch must be stored
// whole, or fail with kind Closed.
func TestCloseWhileAppending(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := open(t, Options{Dir: dir})
	u := people(t, s, 8)
	var wg sync.WaitGroup
	started := make(chan struct{}, 4)
	stored := make([]int, 4)
	for i := range 4 {
		wg.Go(func() {
			for {
				batch := []*im.Message{message(u[2*i], u[2*i+1], "x"),
					message(u[2*i+1], u[2*i], "y")}
				s.AppendMessages(context.Background(), batch)
				if batch[0].Err != nil {
					if im.KindOf(batch[0].Err) != im.Closed || batch[1].Err == nil {
						t.Errorf("after Close: %v, %v", batch[0].Err, batch[1].Err)
					}
					return
				}
				if stored[i] += 2; stored[i] == 20 {
					started <- struct{}{}
				}
			}
		})
	}
	for range 4 {
		<-started
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	s = open(t, Options{Dir: dir})
	defer s.Close()
	for i := range 4 {
		if id, err := s.LatestID(context.Background(), u[2*i], u[2*i+1]); err != nil ||
			int(id) != stored[i] {
			t.Errorf("conversation %d: latest id %d, %v; %d were stored", i, id, err, stored[i])
		}
	}
	checkWhole(t, s)
}
