//go:build linux

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"teamtalk/core/client"
	"teamtalk/core/client/tcp"
	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// withoutNews are the families of exchanges that are about something else than who comes and goes: news of that are not looked at.
func withoutNews(name string) bool {
	return slices.ContainsFunc([]string{"group.", "msg.audio", "p2p.", "push.", "buddy.sign", "session.remove"},
		func(family string) bool { return strings.HasPrefix(name, family) })
}

// strand is what keeps an order of its own in a race: news of others, messages, and all else.
func strand(c pb.Command) int {
	switch c {
	case pb.CmdUserStatNotify, pb.CmdSignInfoChangedNotify:
		return 1
	case pb.CmdMsgData:
		return 2
	}
	return 0
}

// racing are the exchanges in which a client asks so soon after its login that the answer and the news of the login, which comes by way of
// the route server, are there in an order that is chance, or so soon after a message that the same is true of that. In them each of the two has an order
// of its own.
var racing = []string{"conn.heartbeat_echo", "login.client_types", "buddy.sign_info", "buddy.sign_info_too_long", "two_servers.sign_info",

	"group.msg_id_increments", "group.unread"}

// TestRecordedExchanges plays what clients said to the first implementation's message servers, and compares what each connection hears: the
// same commands in the same order, equal byte for byte but for times. The users have the ids of the recording, and nobody has written
// yet, so even ids are equal. Acks come when the message is stored, as they did there.
func TestRecordedExchanges(t *testing.T) {
	t.Parallel()
	exchanges := loadExchanges(t)
	if len(exchanges) < 79 {
		t.Fatalf("only %d exchanges in testdata", len(exchanges))
	}
	for _, e := range exchanges {
		if why, ok := notPlayed[e.name]; ok {
			t.Errorf("%s is played although %s", e.name, why)
		}
	}
	users := settings{csv: recordedUsers(t), flags: []string{"--msg.ack", "stored", "--loops", "1", "--msg.presence-window", "0s"}}
	forEachShape(t, users, func(t *testing.T, sys *deployment) {
		r := &replay{sys: sys, watch: [2]*tcp.Conn{
			conn(t, sys.msgAddr[0], "u00001", android), conn(t, sys.msgAddr[1], "u00002", android),
		}}
		for _, e := range exchanges {
			if !strings.HasPrefix(e.name, "two_servers.") {
				t.Run(e.name, func(t *testing.T) {
					r.begin()
					defer r.hangUp(t)
					r.play(t, e, nil)
				})
			}
		}
		r.begin()
		defer r.hangUp(t)
		for _, e := range exchanges {
			if who, ok := parties[e.name]; ok {
				r.play(t, e, who)
			} else if strings.HasPrefix(e.name, "two_servers.") {
				t.Errorf("%s: nobody knows who its connections are", e.name)
			}
		}
	})
}

// parties are the connections of the story that the two_servers exchanges tell one after the other, by their numbers in each file: whose
// it is, and after @ the message server.
var parties = map[string]map[int]string{
	"two_servers.login_pc_on_1_then_phone_on_2": {1: "8001 pc@1", 2: "8001 phone@2"},
	"two_servers.login_peer_on_2":               {1: "8002@2", 2: "8001 pc@1"},
	"two_servers.text_1_to_2":                   {1: "8001 pc@1", 2: "8001 phone@2", 3: "8002@2"},
	"two_servers.read_ack_on_2":                 {1: "8002@2"},
	"two_servers.status_query":                  {1: "8001 pc@1"},
	"two_servers.group_create_and_text":         {1: "8001 pc@1", 2: "8001 phone@2", 3: "8002@2"},
	"two_servers.group_add_member":              {1: "8001 pc@1", 2: "8001 phone@2", 3: "8002@2"},
	"two_servers.sign_info":                     {1: "8001 pc@1", 2: "8001 phone@2", 3: "8002@2"},
	"two_servers.p2p_typing":                    {1: "8001 pc@1", 2: "8001 phone@2", 3: "8002@2"},
	"two_servers.remove_session":                {1: "8001 pc@1", 2: "8001 phone@2"},
	"two_servers.kick_pc_by_login_on_2":         {1: "8001 new pc@2", 2: "8001 pc@1", 3: "8002@2", 4: "8001 phone@2"},
	"two_servers.logout":                        {1: "8002@2", 2: "8001 pc@1", 3: "8001 new pc@2"},
}

// recordedUsers makes a file of users whose ids are those of the recording, and who are in the same department.
func recordedUsers(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("name,password,department\n")
	for i := 1; i <= 8003; i++ {
		fmt.Fprintf(&b, "u%05d,pw,1\n", i)
	}
	path := filepath.Join(t.TempDir(), "users.csv")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// replay plays exchanges.
type replay struct {
	sys   *deployment
	conns map[string]*wire  // open ones, by party
	early map[*wire][]frame // came before those expected, in a race
	watch [2]*tcp.Conn      // one on each message server, for questions

	last   []byte // the message that was said last
	groups uint32 // the id of the group made last
}

// begin forgets the connections of the exchange before.
func (r *replay) begin() { r.conns, r.early, r.last = map[string]*wire{}, map[*wire][]frame{}, nil }

// play says what the clients said and expects what they heard.
func (r *replay) play(t *testing.T, e exchange, who map[int]string) {
	t.Helper()
	lines := always(t, slices.Clone(e.lines))
	if withoutNews(e.name) {
		lines = slices.DeleteFunc(lines, func(l line) bool {
			return l.dir == "<" && (l.command() == pb.CmdUserStatNotify || l.command() == pb.CmdPCLoginStatusNotify)
		})
	}
	if d, ok := deviations[e.name]; ok {
		lines = d.edit(t, lines)
	}
	party := func(conn int) string {
		if who == nil {
			return fmt.Sprint(conn, "@1")
		}
		return who[conn]
	}
	for i, l := range lines {
		name := party(l.conn)
		w := r.conns[name]
		if w == nil {
			w = dial(t, r.sys.msgAddr[name[len(name)-1]-'1'])
			w.news = !withoutNews(e.name)
			r.conns[name] = w
		}
		w.t = t
		switch l.dir {
		case ">":
			if l.command() == pb.CmdGroupCreateReq {
				r.reachGroup(t, lines[i:])
			}
			if l.command() == pb.CmdMsgData {
				r.last = l.raw
			}
			w.write(l.raw)
		case "later":
			now, err := client.ServerTime(bounded(t), r.watch[0])
			if err != nil {
				t.Fatal(err)
			}
			until(t, "the next second", func() bool {
				t, err := client.ServerTime(context.Background(), r.watch[0])
				return err != nil || t > now
			})
		case "close":
			w.Close()
			delete(r.conns, name)
		case "<":
			f := r.next(w, slices.Contains(racing, e.name), l.command())
			got := withoutTimes(t, append(pdu.AppendHeader(nil, f.Command, f.Seq), f.body...))
			if want := withoutTimes(t, pushed(t, l.raw)); got != want {
				t.Fatalf("%s, line %d: connection %s got\n%s\nwant\n%s", e.name, i+1, name, got, want)
			}
			if ends(t, f) {
				w.closed()
				delete(r.conns, name)
			}
		}
	}
	for name, w := range r.conns {
		r.silent(t, e.name, name, w)
	}
}

// next is the connection's next frame; in a race the next of the strand of want.
func (r *replay) next(w *wire, race bool, want pb.Command) frame {
	w.t.Helper()
	meant := func(f frame) bool { return strand(f.Command) == strand(want) }
	if i := slices.IndexFunc(r.early[w], meant); i >= 0 {
		f := r.early[w][i]
		r.early[w] = slices.Delete(r.early[w], i, i+1)
		return f
	}
	f := w.next()
	for race && !meant(f) {
		r.early[w] = append(r.early[w], f)
		f = w.next()
	}
	return f
}

// ends reports whether a frame is the last of its connection.
func ends(t *testing.T, f frame) bool {
	t.Helper()
	switch f.Command {
	case pb.CmdKickUser, pb.CmdLogoutRsp:
		return true
	case pb.CmdLoginRes:
		var res pb.IMLoginRes
		if err := res.ParseBody(f.body); err != nil {
			t.Fatal(err)
		}
		return res.GetResultCode() != pb.ResultType_REFUSE_REASON_NONE
	}
	return false
}

// silent checks that a connection has heard everything: it asks every server something, and only the answers come.
func (r *replay) silent(t *testing.T, exchange, name string, w *wire) {
	t.Helper()
	for _, f := range r.early[w] {
		if r.isLast(t, f) {
			continue
		}
		t.Fatalf("%s: connection %s got one frame more: %s, seq %d, %x", exchange, name, f.Command, f.Seq, f.body)
	}
	for seq, ask := range map[uint16][2]pb.Message{
		60001: {pb.IMUsersStatReq_builder{UserId: new(uint32(0)), UserIdList: []uint32{1}}.Build(), &pb.IMUsersStatRsp{}},
		60002: {pb.IMGetLatestMsgIdReq_builder{UserId: new(uint32(0)), SessionType: pb.SessionType_SESSION_TYPE_SINGLE.Enum(),
			SessionId: new(uint32(1))}.Build(), &pb.IMGetLatestMsgIdRsp{}},
		60003: {&pb.IMHeartBeat{}, &pb.IMHeartBeat{}},
	} {
		w.send(seq, ask[0])
		f := w.next()
		for r.isLast(t, f) {
			f = w.next()
		}
		if f.Command != ask[1].Command() || f.Seq != seq {
			t.Fatalf("%s: connection %s got one frame more: %s, seq %d, %x", exchange, name, f.Command, f.Seq, f.body)
		}
	}
}

// isLast reports whether a frame brings the message that was said last: many recordings end before it.
func (r *replay) isLast(t *testing.T, f frame) bool {
	t.Helper()
	if f.Command != pb.CmdMsgData || r.last == nil {
		return false
	}
	said, heard := &pb.MsgData{}, &pb.MsgData{}
	if err := errors.Join(said.ParseBody(r.last[pdu.HeaderLen:]), heard.ParseBody(f.body)); err != nil {
		t.Fatal(err)
	}
	return bytes.Equal(said.Data, heard.Data) && said.ToSessionID == heard.ToSessionID
}

// reachGroup makes groups until the next has the id that the one made by the first line has in the recording: some were made by other means.
func (r *replay) reachGroup(t *testing.T, lines []line) {
	t.Helper()
	i := slices.IndexFunc(lines, func(l line) bool {
		return l.conn == lines[0].conn && l.dir == "<" && l.command() == pb.CmdGroupCreateRsp
	})
	if i < 0 {
		return
	}
	var made pb.IMGroupCreateRsp
	if err := made.ParseBody(lines[i].raw[pdu.HeaderLen:]); err != nil {
		t.Fatal(err)
	}
	if made.GetResultCode() != 0 {
		return
	}
	for ; r.groups+1 < made.GetGroupId(); r.groups++ {
		var rsp pb.IMGroupCreateRsp
		req := pb.IMGroupCreateReq_builder{UserId: new(uint32(0)), GroupType: pb.GroupType_GROUP_TYPE_TMP.Enum(), GroupName: new("between"),
			GroupAvatar: new(""), MemberIdList: []uint32{1}}.Build()
		if err := r.watch[0].Call(bounded(t), req, &rsp); err != nil || rsp.GetGroupId() != r.groups+1 {
			t.Fatalf("group %d: %v, %v", r.groups+1, &rsp, err)
		}
	}
	r.groups++
}

// hangUp closes what is open and waits until every server has noticed, so that nothing of it comes into the next exchange.
func (r *replay) hangUp(t *testing.T) {
	t.Helper()
	for _, w := range r.conns {
		w.Close()
	}
	for i, watcher := range r.watch {
		if r.sys.msg[0] == r.sys.msg[1] && i == 1 {
			break
		}
		until(t, "all clients to be gone", func() bool {
			want := 1.0
			if r.sys.msg[0] == r.sys.msg[1] {
				want = 2
			}
			return r.sys.msg[i].metric("teamtalk_msg_clients_online", "") == want
		})
		// What was told of their going has come before the answer to a question asked now.
		if _, err := client.Statuses(bounded(t), watcher, []uint32{1}); err != nil {
			t.Fatal(err)
		}
	}
}
