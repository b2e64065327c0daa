package dbproxy_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"

	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// line is one line of testdata/exchanges.txt.
type line struct {
	conn   int
	in     bool
	header pdu.Header
	raw    []byte
}

func load(t *testing.T) (names []string, exchanges map[string][]line) {
	t.Helper()
	text, err := os.ReadFile("testdata/exchanges.txt")
	if err != nil {
		t.Fatal(err)
	}
	exchanges = map[string][]line{}
	for l := range strings.Lines(string(text)) {
		if strings.HasPrefix(l, "#") {
			continue
		}
		var name, dir, data string
		var conn int
		if _, err := fmt.Sscan(l, &name, &conn, &dir, &data); err != nil {
			t.Fatalf("%q: %v", l, err)
		}
		raw, err := hex.DecodeString(data)
		if err != nil {
			t.Fatal(err)
		}
		if exchanges[name] == nil {
			names = append(names, name)
		}
		exchanges[name] = append(exchanges[name], line{conn, dir == ">", pdu.ParseHeader(raw), raw})
	}
	return names, exchanges
}

// differs are answers that are meant to be others than the recorded ones.
var differs = map[string]string{
	// Conversations changed at or after the time asked, not only after it: many share one second.
	"session.incremental/4": "one",
	"session.incremental/6": "two",
	"session.incremental/7": "two",
}

// TestRecordedExchanges asks what message servers asked the first implementation's db_proxy. The answers are equal byte for
// byte: users have the ids, conversations the message ids they had then, and times are the message server's.
func TestRecordedExchanges(t *testing.T) {
	h := open(t, options{users: 2000})
	names, exchanges := load(t)
	if len(names) < 25 {
		t.Fatalf("only %d exchanges in testdata", len(names))
	}
	answers := 0
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			peers := map[int]*peer{}
			lines := exchanges[name]
			for i, req := range lines {
				if !req.in {
					continue
				}
				p := peers[req.conn]
				if p == nil {
					p = h.dial()
					peers[req.conn] = p
				}
				p.t = t
				p.write(req.raw)
				want := recordedAnswer(lines[i:], req)
				if want == nil {
					continue
				}
				answers++
				_, m, got := p.read()
				if n := differs[fmt.Sprintf("%s/%d", name, req.header.Seq)]; n != "" {
					if len(m.(*pb.IMRecentContactSessionRsp).GetContactSessionList()) != map[string]int{"one": 1, "two": 2}[n] {
						t.Errorf("seq %d: %v, want %s", req.header.Seq, m, n)
					}
					continue
				}
				if !bytes.Equal(got, want) {
					t.Errorf("answer to %s seq %d\n got %x\nwant %x", req.header.Command, req.header.Seq, got, want)
				}
			}
		})
	}
	if answers < 120 {
		t.Errorf("only %d answers compared", answers)
	}
}

// recordedAnswer finds the answer to req in what follows; nil when there is none.
func recordedAnswer(lines []line, req line) []byte {
	want := req.header.Command + 1
	if req.header.Command == pb.CmdMsgData {
		want = pb.CmdMsgData
	}
	for _, l := range lines {
		if !l.in && l.conn == req.conn && l.header.Seq == req.header.Seq && l.header.Command == want {
			return l.raw
		}
	}
	return nil
}
