package route_test

import (
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"teamtalk/core/pdu"
	"teamtalk/handlers/route"
	"teamtalk/proto/pb"

	"github.com/google/go-cmp/cmp"
)

// recorded is one line of testdata/exchanges.txt.
type recorded struct {
	conn  int // from 0
	in    bool
	frame frame
	raw   []byte
}

func load(t *testing.T) (names []string, exchanges map[string][]recorded) {
	t.Helper()
	text, err := os.ReadFile("testdata/exchanges.txt")
	if err != nil {
		t.Fatal(err)
	}
	exchanges = map[string][]recorded{}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		var name, dir, data string
		var conn int
		if _, err := fmt.Sscan(line, &name, &conn, &dir, &data); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		raw, err := hex.DecodeString(data)
		if err != nil {
			t.Fatal(err)
		}
		h, body, n, err := pdu.Next(raw, pdu.MaxServerFrame)
		if err != nil || n != len(raw) {
			t.Fatalf("%q: %v", line, err)
		}
		if exchanges[name] == nil {
			names = append(names, name)
		}
		exchanges[name] = append(exchanges[name],
			recorded{conn - 1, dir == ">", frame{h.Command, h.Seq, string(body)}, raw})
	}
	return names, exchanges
}

// before holds the users that were online at the start of an exchange whose recording
// began with clients connected. Connections count from 0.
var before = map[string]map[int][]pb.Message{
	"two_servers.kick_pc_by_login_on_2": {1: {online(8001, windows)}, 0: {online(8001, ios)}},
	"two_servers.logout":                {0: {online(8002, mac)}},
	"two_servers.p2p_typing":            {0: {online(8001, mac)}, 1: {online(8002, mac)}},
	"two_servers.read_ack_on_2":         {0: {online(8002, mac)}, 1: {online(8001, mac)}},
	"two_servers.remove_session":        {0: {online(8001, ios)}, 1: {online(8001, mac)}},
	"two_servers.status_query":          {1: {online(8002, mac)}},
	"two_servers.text_1_to_2":           {0: {online(8001, mac)}, 1: {online(8002, mac)}},
}

// TestRecordedExchanges replays the frames that message servers sent to the first
// implementation's route server, and compares the frames that each connection receives.
// With Flood they are equal, byte for byte and in order. Without it the only difference
// is that a frame for certain users is not sent to servers that hold none of them.
func TestRecordedExchanges(t *testing.T) {
	names, exchanges := load(t)
	if len(names) < 80 {
		t.Fatalf("only %d exchanges in testdata", len(names))
	}
	l := listen(t)
	for _, flood := range []bool{true, false} {
		for _, name := range names {
			t.Run(fmt.Sprintf("flood=%v/%s", flood, name), func(t *testing.T) {
				play(t, l, flood, name, slices.Clone(exchanges[name]))
			})
		}
	}
}

func play(t *testing.T, l *listener, flood bool, name string, lines []recorded) {
	dial := l.serve(t, route.Options{Flood: flood})
	peers := []*peer{dial(), dial(), dial()}
	where := whereabouts{}
	for conn, ms := range before[name] {
		peers[conn].send(0, ms...)
		for _, m := range ms {
			where.note(conn, toFrame(t, 0, m))
		}
	}
	settleAll(peers...)

	want := make([][]frame, len(peers))
	got := make([][]frame, len(peers))
	for i, line := range lines {
		if !line.in {
			continue
		}
		where.note(line.conn, line.frame)
		// The frames that the others receive stand further down, in the order of their
		// connection. Mark the frames that ours does not send now, while it is known
		// which users are on which connection.
		if !flood {
			users := concerned(t, line.frame)
			for j := range lines {
				if o := &lines[j]; j > i && !o.in && o.frame == line.frame && users != nil &&
					!where.holds(o.conn, users) {
					o.frame.cmd = 0 // ours does not send it
				}
			}
		}
		peers[line.conn].write(line.raw)
		for c, frames := range settleAll(peers...) {
			got[c] = append(got[c], frames...)
		}
	}
	for _, line := range lines {
		if !line.in && line.frame.cmd != 0 {
			want[line.conn] = append(want[line.conn], line.frame)
		}
	}
	for c := range peers {
		if !slices.Equal(got[c], want[c]) {
			t.Errorf("connection %d: the frames differ (-want +got):\n%s", c+1,
				cmp.Diff(describe(want[c]), describe(got[c])))
		}
	}
}

// concerned returns the users that a forwarded frame is for; nil when it is for all
// servers.
func concerned(t *testing.T, f frame) []uint32 {
	t.Helper()
	m, err := pdu.Decode(f.cmd, []byte(f.body))
	if err != nil {
		t.Fatal(err)
	}
	switch m := m.(type) {
	case *pb.MsgData:
		if m.Type.IsGroup() {
			return nil
		}
		return []uint32{m.FromUserID, m.ToSessionID}
	case *pb.IMP2PCmdMsg:
		return []uint32{m.GetFromUserId(), m.GetToUserId()}
	case *pb.IMMsgDataReadNotify:
		return []uint32{m.GetUserId()}
	case *pb.IMServerKickUser:
		return []uint32{m.GetUserId()}
	case *pb.IMFileNotify:
		return []uint32{m.GetToUserId()}
	case *pb.IMRemoveSessionNotify:
		return []uint32{m.GetUserId()}
	}
	return nil
}

// whereabouts is the test's own record of the users on each connection: connections by
// user, one entry per client.
type whereabouts map[uint32][]int

func (w whereabouts) note(conn int, f frame) {
	if f.cmd != pb.CmdUserStatusUpdate {
		return
	}
	var m pb.IMUserStatusUpdate
	if err := m.ParseBody([]byte(f.body)); err != nil {
		panic(err)
	}
	user := m.GetUserId()
	if m.GetUserStatus() != 2 {
		w[user] = append(w[user], conn)
	} else if i := slices.Index(w[user], conn); i >= 0 {
		w[user] = slices.Delete(w[user], i, i+1)
	}
}

func (w whereabouts) holds(conn int, users []uint32) bool {
	return slices.ContainsFunc(users, func(u uint32) bool { return slices.Contains(w[u], conn) })
}

func describe(fs []frame) string {
	var lines []string
	for _, f := range fs {
		lines = append(lines, fmt.Sprintf("%s seq %d %x", f.cmd, f.seq, f.body))
	}
	return strings.Join(lines, "\n  ")
}
