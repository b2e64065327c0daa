package msg

import (
	"testing"
	"testing/synctest"

	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// recorder is a handler that counts the frames and messages of links.
type recorder struct {
	session.LinkHandler
	got chan struct{}
}

func (r recorder) Frame(*session.Link, pdu.Header, []byte)   { r.got <- struct{}{} }
func (r recorder) Message(*session.Link, uint16, pb.Message) { r.got <- struct{}{} }

// TestFramesWaitForConnect sends a frame and a message of a route server before Connect.
// The handlers get both after it.
func TestFramesWaitForConnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, connected := recorder{got: make(chan struct{}, 2)}, make(chan struct{})
		link := connectedLink{r, connected}
		go func() {
			link.Frame(nil, pdu.Header{}, nil)
			link.Message(nil, 0, &pb.IMHeartBeat{})
		}()
		synctest.Wait()
		if n := len(r.got); n != 0 {
			t.Errorf("%d were handled before Connect", n)
		}
		close(connected)
		synctest.Wait()
		if n := len(r.got); n != 2 {
			t.Errorf("%d were handled after Connect, want 2", n)
		}
	})
}
