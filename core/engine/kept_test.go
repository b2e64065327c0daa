package engine

import (
	"bytes"
	"testing"

	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// TestKeptFramesAreSentWholeAndUnchanged sends frames without copying them among copied
// ones. They arrive whole and in order, even when the kernel takes a part of a frame or
// nothing. They do not change, because other sessions are sent the same bytes.
func TestKeptFramesAreSentWholeAndUnchanged(t *testing.T) {
	r := newRole()
	s := start(t, Options{Clients: r, Loops: 1, MaxBuffered: pdu.MaxServerFrame})
	slow := dial(t, s)
	to := next(t, r.sessions)
	fast := dial(t, s)
	also := next(t, r.sessions)
	var kept [][]byte
	for i := range 40 {
		kept = append(kept, frameOf(pb.CmdFilePullDataRsp, uint16(i),
			bytes.Repeat([]byte{byte(i)}, 8<<10+i*1000)))
	}
	before := bytes.Join(kept, nil)
	var want []byte
	for turn := range 20 { // the first ones fill the kernel's buffer
		var round [][]byte
		for i, frame := range kept {
			round = append(round, frame, frameOf(pb.CmdMsgData, uint16(turn),
				bytes.Repeat([]byte("s"), i*50)))
		}
		want = append(want, bytes.Join(round, nil)...)
		done := make(chan struct{})
		to.Loop().Post(func() {
			for _, frame := range round {
				for _, ses := range []*session.Client{to, also} {
					ses.SendShared(frame)
				}
			}
			close(done)
		})
		<-done
		fast.want(bytes.Join(round, nil))
	}
	if !bytes.Equal(bytes.Join(kept, nil), before) {
		t.Error("a frame was changed")
	}
	slow.want(want)
}
