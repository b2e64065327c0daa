//go:build linux

package e2e

import (
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// line is one line of a recorded exchange.
type line struct {
	conn int
	dir  string // ">", "<", "close" or "later"
	raw  []byte
}

// command returns the command of the line's frame.
func (l line) command() pb.Command { return pdu.ParseHeader(l.raw).Command }

// exchange is a recorded exchange.
type exchange struct {
	name  string
	lines []line
}

// loadExchanges reads testdata/exchanges.txt.
func loadExchanges(t *testing.T) []exchange {
	t.Helper()
	text, err := os.ReadFile("testdata/exchanges.txt")
	if err != nil {
		t.Fatal(err)
	}
	var all []exchange
	for row := range strings.Lines(string(text)) {
		row = strings.TrimSpace(row)
		if strings.HasPrefix(row, "#") {
			continue
		}
		if name, ok := strings.CutPrefix(row, "= "); ok {
			all = append(all, exchange{name: name})
			continue
		}
		var l line
		var frame string
		if n, _ := fmt.Sscan(row, &l.conn, &l.dir, &frame); n < 2 ||
			n == 2 && l.dir != "close" && l.dir != "later" {
			t.Fatalf("line %q", row)
		}
		if l.raw, err = hex.DecodeString(frame); err != nil {
			t.Fatal(err)
		}
		e := &all[len(all)-1]
		e.lines = append(e.lines, l)
	}
	return all
}

// deviations edits the lines of exchanges in which these servers differ from the recorded
// ones, each with its reason. All other frames are equal byte for byte, except for times.
var deviations = map[string]struct {
	why  string
	edit func(t *testing.T, lines []line) []line
}{
	"login.ok": {"the recording ends before the notification of the user's own status, " +
		"which every other one has", addOwnStatus},
	"kick.same_type":     {afterKick, dropAfterKick},
	"kick.same_class_pc": {afterKick, dropAfterKick},
	"kick.pc_from_mobile": {"a kicked connection is closed, so the phone is notified that the " +
		"pc is offline", addOfflinePC},
	"two_servers.kick_pc_by_login_on_2": {afterKick, dropAfterKick},
	"group.history":                     {latePush, dropLatePushes},
	"group.unread":                      {latePush, dropLatePushes},
	"two_servers.logout": {"the connection was kicked before, and is closed",
		func(_ *testing.T, lines []line) []line {
			return slices.DeleteFunc(lines, func(l line) bool { return l.conn == 2 })
		}},
}

// The reasons of several deviations.
const (
	afterKick = "a kicked connection is closed, and receives no more frames"
	latePush  = "a message is pushed before its ack: a client that logs in after the ack finds " +
		"it " +
		"in the history"
)

// addOwnStatus appends the notification of the user's own status.
func addOwnStatus(t *testing.T, lines []line) []line {
	stat := pb.UserStat_builder{UserId: new(uint32(108)), Status: isOnline.Enum()}.Build()
	return append(lines, line{1, "<", encode(t, 0,
		pb.IMUserStatNotify_builder{UserStat: stat}.Build())})
}

// addOfflinePC inserts the notification that the kicked pc is offline.
func addOfflinePC(t *testing.T, lines []line) []line {
	at := slices.IndexFunc(lines, func(l line) bool { return l.command() == pb.CmdKickPCClientRsp })
	gone := pb.IMPCLoginStatusNotify_builder{
		UserId: new(uint32(724)), LoginStat: isOffline.Enum(),
	}.Build()
	return slices.Insert(dropAfterKick(t, lines), at+1, line{2, "<", encode(t, 0, gone)})
}

// notPlayed are recorded exchanges with clients that the test does not play, each with
// its reason. The exchanges with the file server are not among them.
var notPlayed = map[string]string{
	"buddy.departments":   "the answer has the rows of the last seconds again: TestSyncSince",
	"session.incremental": "as above",
	"rate.limit": "the C++ servers ack pipelined messages in any order: TestRate and " +
		"TestPipelined",
	"http.create_group":           "begins with the HTTP API: TestHTTPAPI",
	"http.change_members":         "begins with the HTTP API: TestHTTPAPI",
	"group.normal_change_refused": "begins with the HTTP API: TestNormalGroup",
	"startup.servers_connect":     "has only frames between servers, and one login",
}

// always removes repeated notifications from any exchange: the C++ servers notify a new
// member twice, as a member and as a new one.
func always(t *testing.T, lines []line) []line {
	last := map[int]string{}
	return slices.DeleteFunc(lines, func(l line) bool {
		if l.dir != "<" {
			return false
		}
		again := l.command() == pb.CmdGroupChangeMemberNotify && last[l.conn] == string(l.raw)
		last[l.conn] = string(l.raw)
		return again
	})
}

// pushed returns a recorded frame as these servers send it: a push has seq 0 and no
// attach_data.
func pushed(t *testing.T, raw []byte) []byte {
	switch pdu.ParseHeader(raw).Command {
	case pb.CmdMsgData:
		m := &pb.MsgData{}
		if err := m.ParseBody(raw[pdu.HeaderLen:]); err != nil {
			t.Fatal(err)
		}
		m.AttachData = nil
		return encode(t, 0, m)
	case pb.CmdP2PCmdMsg:
		var m pb.IMP2PCmdMsg
		if err := m.ParseBody(raw[pdu.HeaderLen:]); err != nil {
			t.Fatal(err)
		}
		return encode(t, 0, &m)
	}
	return raw
}

// dropLatePushes removes messages to connections that were opened after the ack of the
// message.
func dropLatePushes(_ *testing.T, lines []line) []line {
	opened := map[int]bool{}
	acked := map[string]bool{}
	late := map[int]map[string]bool{}
	return slices.DeleteFunc(lines, func(l line) bool {
		if !opened[l.conn] {
			opened[l.conn] = true
			late[l.conn] = maps.Clone(acked)
		}
		if l.dir == ">" || l.dir == "<" {
			switch l.command() {
			case pb.CmdMsgData:
				m := &pb.MsgData{}
				if m.ParseBody(l.raw[pdu.HeaderLen:]) != nil {
					return false
				}
				if l.dir == ">" {
					acked[string(m.Data)] = true
					return false
				}
				return late[l.conn][string(m.Data)]
			}
		}
		return false
	})
}

// dropAfterKick removes the frames of a connection after its kick.
func dropAfterKick(_ *testing.T, lines []line) []line {
	kicked := map[int]bool{}
	return slices.DeleteFunc(lines, func(l line) bool {
		drop := kicked[l.conn]
		if l.dir == "<" && l.command() == pb.CmdKickUser {
			kicked[l.conn] = true
		}
		return drop
	})
}

// times are the fields that hold a time, by command: field numbers, separated by a point
// inside another message.
var times = map[pb.Command]string{
	pb.CmdLoginRes: "1", pb.CmdClientTimeRsp: "1", pb.CmdMsgData: "4",
	pb.CmdGetMsgListRsp: "5.3", pb.CmdGetMsgByIdRsp: "4.3",
	pb.CmdRecentContactSessionRsp: "2.4",
}

// withoutTimes returns a frame in hex with its times set to 0.
func withoutTimes(t *testing.T, raw []byte) string {
	t.Helper()
	h := pdu.ParseHeader(raw)
	body := clearField(t, raw[pdu.HeaderLen:], times[h.Command])
	return fmt.Sprintf("%s %x %x", h.Command, raw[4:pdu.HeaderLen], body)
}

// clearField returns a body in which the number at path is 0.
func clearField(t *testing.T, b []byte, path string) []byte {
	t.Helper()
	head, rest, nested := strings.Cut(path, ".")
	var out []byte
	for len(b) > 0 {
		tag, n := varint(t, b)
		field := b[:n]
		value, m := varint(t, b[n:])
		here := fmt.Sprint(tag>>3) == head
		switch {
		case tag&7 == 0 && here && !nested:
			out = append(append(out, field...), 0)
			b = b[n+m:]
		case tag&7 == 0:
			out = append(out, b[:n+m]...)
			b = b[n+m:]
		default: // the other fields have a length
			inner := b[n+m : n+m+int(value)]
			if here && nested {
				inner = clearField(t, inner, rest)
			}
			out = append(append(append(out, field...), byte(len(inner))), inner...)
			b = b[n+m+int(value):]
		}
	}
	return out
}

// varint returns the number at the start of b, and its length in bytes.
func varint(t *testing.T, b []byte) (v uint64, n int) {
	t.Helper()
	for shift := 0; n < len(b); shift += 7 {
		v |= uint64(b[n]&127) << shift
		n++
		if b[n-1] < 128 {
			return v, n
		}
	}
	t.Fatalf("varint %x", b)
	return 0, 0
}
