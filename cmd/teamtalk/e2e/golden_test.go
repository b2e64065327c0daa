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

// withoutNews reports whether an exchange has another subject than presence. The replay
// ignores presence changes in it.
func withoutNews(name string) bool {
	return slices.ContainsFunc([]string{"group.", "msg.audio", "p2p.", "push.", "buddy.sign",
		"session.remove"},
		func(family string) bool { return strings.HasPrefix(name, family) })
}

// strand returns the strand of a command. In a race each strand has its own order:
// notifications of other users, messages, and all other commands.
func strand(c pb.Command) int {
	switch c {
	case pb.CmdUserStatNotify, pb.CmdSignInfoChangedNotify:
		return 1
	case pb.CmdMsgData:
		return 2
	}
	return 0
}

// racing are exchanges whose frames have no fixed order. A client sends a request right
// after its login, or after a message. The answer may arrive before or after the
// notification of the login or of the message, which passes the route server. The first message
// of a group may wait for the list of its members while a change that came after it is told. Each
// strand must have its order.
var racing = []string{
	"conn.heartbeat_echo", "login.client_types", "buddy.sign_info", "buddy.sign_info_too_long",
	"two_servers.sign_info", "group.msg_id_increments", "group.unread",
	"group.del_and_add_again",
}

// TestRecordedExchanges sends the recorded frames of clients of C++ message servers, and
// compares the frames that each connection receives: the same commands in the same order,
// equal byte for byte except for times. The users have the ids of the recording, and the
// store has no messages, so ids are equal too. The servers ack a message once it is
// stored, as the C++ servers did.
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
	users := settings{csv: recordedUsers(t), flags: []string{"--msg.ack", "stored",
		"--loops", "1", "--msg.presence-window", "0s"}}
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
			if names, ok := parties[e.name]; ok {
				r.play(t, e, names)
			} else if strings.HasPrefix(e.name, "two_servers.") {
				t.Errorf("%s: parties has no names for its connections", e.name)
			}
		}
	})
}

// parties names the connections of the two_servers exchanges, which are parts of one
// story, by the number of the connection in each exchange. A name has the user, and after
// @ the message server.
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
	"two_servers.kick_pc_by_login_on_2": {1: "8001 new pc@2", 2: "8001 pc@1", 3: "8002@2",
		4: "8001 phone@2"},
	"two_servers.logout": {1: "8002@2", 2: "8001 pc@1", 3: "8001 new pc@2"},
}

// recordedUsers writes a file of users with the ids of the recording, all in one
// department, and returns its path.
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
	early map[*wire][]frame // received before the expected frames, in a race
	watch [2]*tcp.Conn      // one on each message server, for requests

	last   []byte // the message that was sent last
	groups uint32 // the id of the group that was created last
}

// begin resets the connections before an exchange.
func (r *replay) begin() { r.conns, r.early, r.last = map[string]*wire{}, map[*wire][]frame{}, nil }

// play sends the recorded frames of the clients and expects the recorded frames of the
// servers. names are the parties of the exchange; nil: each connection is one of its own.
func (r *replay) play(t *testing.T, e exchange, names map[int]string) {
	t.Helper()
	lines := r.edited(t, e)
	for i, l := range lines {
		name := fmt.Sprint(l.conn, "@1")
		if names != nil {
			name = names[l.conn]
		}
		w := r.conns[name]
		if w == nil {
			w = dial(t, r.sys.msgAddr[name[len(name)-1]-'1'])
			w.news = !withoutNews(e.name)
			r.conns[name] = w
		}
		w.t = t
		switch l.dir {
		case ">":
			r.send(t, w, lines[i:])
		case "later":
			r.awaitSecond(t)
		case "close":
			w.Close()
			delete(r.conns, name)
		case "<":
			f := r.next(w, slices.Contains(racing, e.name), l.command())
			got := withoutTimes(t, append(pdu.AppendHeader(nil, f.Command, f.Seq), f.body...))
			if want := withoutTimes(t, pushed(t, l.raw)); got != want {
				t.Fatalf("%s, line %d: connection %s got\n%s\nwant\n%s", e.name, i+1, name, got,
					want)
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

// edited returns the lines of an exchange with the deviations of these servers.
func (r *replay) edited(t *testing.T, e exchange) []line {
	t.Helper()
	lines := always(t, slices.Clone(e.lines))
	if withoutNews(e.name) {
		lines = slices.DeleteFunc(lines, func(l line) bool {
			return l.dir == "<" && (l.command() == pb.CmdUserStatNotify ||
				l.command() == pb.CmdPCLoginStatusNotify)
		})
	}
	if d, ok := deviations[e.name]; ok {
		lines = d.edit(t, lines)
	}
	return lines
}

// send sends the frame of the first line.
func (r *replay) send(t *testing.T, w *wire, lines []line) {
	t.Helper()
	switch lines[0].command() {
	case pb.CmdGroupCreateReq:
		r.reachGroup(t, lines)
	case pb.CmdMsgData:
		r.last = lines[0].raw
	}
	w.write(lines[0].raw)
}

// awaitSecond waits for the next second of the server's clock.
func (r *replay) awaitSecond(t *testing.T) {
	t.Helper()
	now, err := client.ServerTime(bounded(t), r.watch[0])
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the next second", func() bool {
		t, err := client.ServerTime(context.Background(), r.watch[0])
		return err != nil || t > now
	})
}

// next returns the connection's next frame, or in a race the next frame of the strand of
// want.
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

// silent checks that a connection has no more frames to receive: after a request to each
// server only the answers arrive.
func (r *replay) silent(t *testing.T, exchange, name string, w *wire) {
	t.Helper()
	for _, f := range r.early[w] {
		if r.isLast(t, f) {
			continue
		}
		t.Fatalf("%s: connection %s got one frame more: %s, seq %d, %x", exchange, name,
			f.Command, f.Seq, f.body)
	}
	for seq, ask := range map[uint16][2]pb.Message{
		60001: {pb.IMUsersStatReq_builder{UserId: new(uint32(0)), UserIdList: []uint32{1}}.Build(),
			&pb.IMUsersStatRsp{}},
		60002: {pb.IMGetLatestMsgIdReq_builder{UserId: new(uint32(0)),
			SessionType: pb.SessionType_SESSION_TYPE_SINGLE.Enum(),
			SessionId:   new(uint32(1))}.Build(), &pb.IMGetLatestMsgIdRsp{}},
		60003: {&pb.IMHeartBeat{}, &pb.IMHeartBeat{}},
	} {
		w.send(seq, ask[0])
		f := w.next()
		for r.isLast(t, f) {
			f = w.next()
		}
		if f.Command != ask[1].Command() || f.Seq != seq {
			t.Fatalf("%s: connection %s got one frame more: %s, seq %d, %x", exchange, name,
				f.Command, f.Seq, f.body)
		}
	}
}

// isLast reports whether a frame is the message that was sent last: many recordings end
// before its delivery.
func (r *replay) isLast(t *testing.T, f frame) bool {
	t.Helper()
	if f.Command != pb.CmdMsgData || r.last == nil {
		return false
	}
	sent, got := &pb.MsgData{}, &pb.MsgData{}
	if err := errors.Join(sent.ParseBody(r.last[pdu.HeaderLen:]),
		got.ParseBody(f.body)); err != nil {
		t.Fatal(err)
	}
	return bytes.Equal(sent.Data, got.Data) && sent.ToSessionID == got.ToSessionID
}

// reachGroup creates groups until the next one gets the id of the recording: the recorded
// system created some groups by other means. The first line is the request.
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
		req := pb.IMGroupCreateReq_builder{UserId: new(uint32(0)),
			GroupType: pb.GroupType_GROUP_TYPE_TMP.Enum(), GroupName: new("between"),
			GroupAvatar: new(""), MemberIdList: []uint32{1}}.Build()
		if err := r.watch[0].Call(bounded(t), req, &rsp); err != nil ||
			rsp.GetGroupId() != r.groups+1 {
			t.Fatalf("group %d: %v, %v", r.groups+1, &rsp, err)
		}
	}
	r.groups++
}

// hangUp closes all connections and waits until every server has noticed. So the next
// exchange receives none of their notifications.
func (r *replay) hangUp(t *testing.T) {
	t.Helper()
	for _, w := range r.conns {
		w.Close()
	}
	for i, watcher := range r.watch {
		if r.sys.msg[0] == r.sys.msg[1] && i == 1 {
			break
		}
		until(t, "the logout of all clients", func() bool {
			want := 1.0
			if r.sys.msg[0] == r.sys.msg[1] {
				want = 2
			}
			return r.sys.msg[i].metric("teamtalk_msg_clients_online", "") == want
		})
		// The answer to this request arrives after the notifications of the logouts.
		if _, err := client.Statuses(bounded(t), watcher, []uint32{1}); err != nil {
			t.Fatal(err)
		}
	}
}
