package file_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"os"
	"strings"
	"testing"

	"teamtalk/core/pdu"
	"teamtalk/handlers/file"
	"teamtalk/proto/pb"
)

// line is one line of testdata/exchanges.txt.
type line struct {
	conn string
	in   bool
	raw  []byte
}

func load(t *testing.T) (names []string, exchanges map[string][]line) {
	t.Helper()
	text, err := os.ReadFile("testdata/exchanges.txt")
	if err != nil {
		t.Fatal(err)
	}
	exchanges = map[string][]line{}
	for row := range strings.Lines(string(text)) {
		row = strings.TrimSpace(row)
		if name, ok := strings.CutPrefix(row, "= "); ok {
			names = append(names, name)
			continue
		}
		if strings.HasPrefix(row, "#") {
			continue
		}
		var link, dir, frame string
		var conn int
		if _, err := fmt.Sscan(row, &link, &conn, &dir, &frame); err != nil {
			t.Fatalf("%.60q: %v", row, err)
		}
		raw, err := base64.StdEncoding.DecodeString(frame)
		if err != nil {
			t.Fatal(err)
		}
		name := names[len(names)-1]
		exchanges[name] = append(exchanges[name], line{fmt.Sprint(link, conn), dir == ">", raw})
	}
	return names, exchanges
}

// TestRecordedExchanges sends the frames that clients and message servers sent to the
// first implementation's file server. The answers are equal byte for byte: tasks get the
// ids of the recording.
func TestRecordedExchanges(t *testing.T) {
	names, exchanges := load(t)
	if len(names) != 7 {
		t.Fatalf("%d exchanges in testdata", len(names))
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			var ids []string
			for _, l := range exchanges[name] {
				if pdu.ParseHeader(l.raw).Command == pb.CmdFileTransferRsp {
					m, err := pdu.Decode(pb.CmdFileTransferRsp, l.raw[pdu.HeaderLen:])
					if err != nil {
						t.Fatal(err)
					}
					ids = append(ids, m.(*pb.IMFileTransferRsp).GetTaskId())
				}
			}
			h := open(t, file.Options{NewID: func() (string, error) {
				id := ids[0]
				ids = ids[1:]
				return id, nil
			}})
			peers := map[string]*peer{}
			for i, l := range exchanges[name] {
				p := peers[l.conn]
				if p == nil {
					addr := h.clients.Addr()
					if strings.HasPrefix(l.conn, "msg") {
						addr = h.servers.Addr()
					}
					p = dial(t, addr)
					peers[l.conn] = p
				}
				if l.in {
					if _, err := p.Write(l.raw); err != nil {
						t.Fatal(err)
					}
					continue
				}
				_, got, err := p.readRaw()
				if err != nil {
					t.Fatalf("frame %d: no answer: %v", i, err)
				}
				if !bytes.Equal(got, l.raw) {
					t.Errorf("frame %d:\n got %.200x\nwant %.200x", i, got, l.raw)
				}
			}
		})
	}
}
