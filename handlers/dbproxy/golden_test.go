package dbproxy_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/handlers/dbproxy"
	"teamtalk/proto/pb"
)

// line is one line of testdata/exchanges.txt.
type line struct {
	at     time.Time // approximate, by the clock of the recording machine
	conn   int
	in     bool
	header pdu.Header
	raw    []byte
	used   bool // an answer that was compared
}

func load(t *testing.T) (names []string, exchanges map[string][]*line) {
	t.Helper()
	text, err := os.ReadFile("testdata/exchanges.txt")
	if err != nil {
		t.Fatal(err)
	}
	exchanges = map[string][]*line{}
	for l := range strings.Lines(string(text)) {
		if strings.HasPrefix(l, "#") {
			continue
		}
		var name, dir, data string
		var unix int64
		var conn int
		if _, err := fmt.Sscan(l, &name, &unix, &conn, &dir, &data); err != nil {
			t.Fatalf("%q: %v", l, err)
		}
		raw, err := hex.DecodeString(data)
		if err != nil {
			t.Fatal(err)
		}
		if exchanges[name] == nil {
			names = append(names, name)
		}
		exchanges[name] = append(exchanges[name],
			&line{at: time.Unix(unix, 0), conn: conn, in: dir == ">", header: pdu.ParseHeader(raw),
				raw: raw})
	}
	return names, exchanges
}

// differs lists the answers that intentionally differ from the recorded ones: the change
// that is made to the recorded answer before the comparison, and the reason. Answers are
// named by exchange, command and seq; those with seq 0 by their number among answers of
// the same command.
var differs = map[string]struct {
	why  string
	edit func(m pb.Message)
}{
	"group.recent_session/IMRecentContactSessionReq/2": {atOnce, addGroupSession},
	"group.recent_session/IMRecentContactSessionReq/3": {atOnce, addGroupSession},
	"group.recent_session/IMRecentContactSessionReq/29": {
		"a conversation has the time of its last message, not the time of the run that updated it",
		lastMessageTime},

	"group.del_and_add_again/IMGroupInfoListReq#2": {
		"asked after the member was removed; then both were under way at once", func(m pb.Message) {
			g := m.(*pb.IMGroupInfoListRsp).GetGroupInfoList()[0]
			g.SetVersion(2)
			g.SetGroupMemberList([]uint32{2968})
		}},

	"file.offline_roundtrip/IMFileHasOfflineReq/4": {
		"asked after the file was taken off the list; then both were under way at once",
		func(m pb.Message) {
			m.(*pb.IMFileHasOfflineRsp).SetOfflineFileList(nil)
		}},
}

// atOnce is the reason for two of the answers.
const atOnce = "the members of a group have its conversation with its first message, not seconds " +
	"later"

func addGroupSession(m pb.Message) {
	m.(*pb.IMRecentContactSessionRsp).SetContactSessionList(
		[]*pb.ContactSessionInfo{pb.ContactSessionInfo_builder{
			SessionId: new(uint32(18)), SessionType: pb.SessionType_SESSION_TYPE_GROUP.Enum(),
			SessionStatus: pb.SessionStatusType_SESSION_STATUS_OK.Enum(),
			UpdatedTime:   new(uint32(1795412924)), LatestMsgId: new(uint32(1)),
			LatestMsgData:       []byte("aB2DX4QNrfu/pL+qb5TVWCy4N05QkzEbz2cGRlNnFmY="),
			LatestMsgType:       pb.MsgType_MSG_TYPE_GROUP_TEXT.Enum(),
			LatestMsgFromUserId: new(uint32(4848)),
		}.Build()})
}

func lastMessageTime(m pb.Message) {
	m.(*pb.IMRecentContactSessionRsp).GetContactSessionList()[0].SetUpdatedTime(1795412924)
}

// TestRecordedExchanges sends the requests that message servers sent to the first
// implementation's db_proxy. The answers are equal byte for byte: the store is prepared
// with the users, conversations and groups of the recording, and times are set by the
// message server.
func TestRecordedExchanges(t *testing.T) {
	h := open(t, options{users: 8100, db: dbproxy.Options{Sounds: newSounds(t)}, recorded: true})
	names, exchanges := load(t)
	if len(names) < 60 {
		t.Fatalf("only %d exchanges in testdata", len(names))
	}
	if _, err := h.store.CreateDepart(t.Context(), im.Depart{Name: "bench"}); err != nil {
		t.Fatal(err)
	}
	answers, differences := 0, map[string]bool{}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			// The exchanges overlapped. The store follows its clock back only over hours.
			h.recorded.set(time.Unix(0, 0))
			h.store.Store.Now()
			peers := map[int]*peer{}
			lines := exchanges[name]
			nth := map[pb.Command]int{}
			for i, req := range lines {
				if !req.in {
					continue
				}
				h.recorded.set(req.at)
				p := peers[req.conn]
				if p == nil {
					p = h.dial()
					peers[req.conn] = p
				}
				p.t = t
				key := fmt.Sprintf("%s/%s/%d", name, req.header.Command, req.header.Seq)
				if req.header.Seq == 0 {
					nth[req.header.Command]++
					key = fmt.Sprintf("%s/%s#%d", name, req.header.Command, nth[req.header.Command])
				}
				p.write(req.raw)
				want := recordedAnswer(t, lines[i:], req)
				if want == nil {
					p.settle(decode(t, req))
					continue
				}
				answers++
				if d, ok := differs[key]; ok {
					differences[key] = true
					d.edit(want)
				}
				compare(t, p, key, req, want)
			}
		})
	}
	if answers < 500 {
		t.Errorf("only %d answers compared", answers)
	}
	for key, d := range differs {
		if !differences[key] {
			t.Errorf("%s is not among the answers (%s)", key, d.why)
		}
	}
}

// settle waits until m, which is not answered, has run: the next request may be sent on
// another connection.
func (p *peer) settle(m pb.Message) {
	p.t.Helper()
	var user uint32
	switch m := m.(type) {
	case interface{ GetUserId() uint32 }:
		user = m.GetUserId()
	case interface{ GetToUserId() uint32 }: // of files
		user = m.GetToUserId()
	default:
		p.t.Fatalf("the user of %v is not known", m)
	}
	ask[*pb.IMUnreadMsgCntRsp](p, 60000, pb.IMUnreadMsgCntReq_builder{UserId: &user}.Build())
}

// compare reads the next answer and compares it with want.
func compare(t *testing.T, p *peer, key string, req *line, want pb.Message) {
	t.Helper()
	seq, m, got := p.read()
	// The first implementation does not have this field.
	if change, ok := m.(*pb.IMGroupChangeMemberRsp); ok {
		if change.HasVersion() != (change.GetResultCode() == 0) {
			t.Errorf("%s: version in %v", key, change)
		}
		change.ClearVersion()
		frame, err := pdu.Append(nil, seq, change)
		if err != nil {
			t.Fatal(err)
		}
		got = frame
	}
	frame, err := pdu.Append(nil, req.header.Seq, want)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, frame) {
		t.Errorf("%s: answer\n got %v\nwant %v\n got %x\nwant %x", key, m, want, got, frame)
	}
}

// recordedAnswer finds the answer to req in the following lines; nil when there is none.
// A message that was not stored had no answer in the recording, and is answered with id 0
// now.
func recordedAnswer(t *testing.T, lines []*line, req *line) pb.Message {
	t.Helper()
	asked := decode(t, req)
	want := req.header.Command + 1
	if req.header.Command == pb.CmdMsgData {
		want = pb.CmdMsgData
	}
	for _, l := range lines {
		if l.in || l.used || l.conn != req.conn || l.header.Seq != req.header.Seq ||
			l.header.Command != want {
			continue
		}
		m := decode(t, l)
		if a, ok := asked.(pb.Attachment); ok &&
			!bytes.Equal(a.GetAttachData(), m.(pb.Attachment).GetAttachData()) {
			continue
		}
		l.used = true
		return m
	}
	if req.header.Command == pb.CmdMsgData {
		return asked
	}
	return nil
}

func decode(t *testing.T, l *line) pb.Message {
	t.Helper()
	m, err := pdu.Decode(l.header.Command, l.raw[pdu.HeaderLen:])
	if err != nil {
		t.Fatal(err)
	}
	return m
}
