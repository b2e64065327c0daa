package link

import (
	"net"
	"testing"
	"testing/synctest"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/session"
)

// lingering is a group that lets links stay open for 20 s after their server was removed, and
// the server's end of the links.
type lingering struct {
	*testing.T
	g     *Group
	h     *recorder
	peers []chan net.Conn // of the links, in the order of dialing
}

func newLingering(t *testing.T) *lingering {
	l := &lingering{T: t, h: newRecorder()}
	l.g = NewChangingGroup("route", nil, func(Address) []Peer {
		r, peer := pipeRemote(Options{Handler: l.h})
		l.peers = append(l.peers, peer)
		return []Peer{r}
	})
	l.g.Linger(20 * time.Second)
	return l
}

// connected returns the server's end of the n-th link, and the session of the handler.
func (l *lingering) connected(n int) (*wire, *session.Link) {
	l.Helper()
	w := newWire(l, <-l.peers[n])
	return w, <-l.h.opened
}

// TestLinger: a server that is removed gets no more requests. Its own messages arrive until it
// closes the link, and the handler may answer. It is not connected to again.
func TestLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLingering(t)
		l.g.SetServers([]Address{{"a", "1"}})
		w, s := l.connected(0)
		l.g.SetServers(nil)
		if err := l.g.Send(1, 0, text(1, "x")); l.g.Up() || im.KindOf(err) != im.Unavailable {
			t.Errorf("up %v, error %v", l.g.Up(), err)
		}
		w.send(3, text(1, "late"))
		if m := <-l.h.msgs; m.seq != 3 {
			t.Errorf("got %+v", m)
		}
		if err := s.Send(4, text(1, "answer")); err != nil {
			t.Error(err)
		}
		if seq, _ := w.read(); seq != 4 {
			t.Errorf("the server got %d", seq)
		}
		w.nc.Close()
		<-l.h.closed
		l.g.drains.Wait()
		if len(l.peers[0]) > 0 {
			t.Error("it was connected to again")
		}
	})
}

// TestLingerEnds: the link to a server that does not close it is closed after the time, and at once
// when another server has the name, when it has another address, and when the group is closed.
func TestLingerEnds(t *testing.T) {
	a := Address{"a", "1"}
	for name, x := range map[string]struct {
		remove bool // before end
		end    func(g *Group)
		after  time.Duration
	}{
		"time":    {true, func(*Group) {}, 20 * time.Second},
		"back":    {true, func(g *Group) { g.SetServers([]Address{a}) }, 0},
		"moved":   {false, func(g *Group) { g.SetServers([]Address{{"a", "2"}}) }, 0},
		"another": {true, func(g *Group) { g.SetServers([]Address{{"b", "2"}}) }, 20 * time.Second},
		"closed":  {true, func(g *Group) { go g.Close() }, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := newLingering(t)
			l.g.SetServers([]Address{a})
			w, _ := l.connected(0)
			if x.remove {
				l.g.SetServers(nil)
			}
			synctest.Wait()
			began := time.Now()
			x.end(l.g)
			w.waitClosed()
			<-l.h.closed
			if d := time.Since(began); d < x.after || d > x.after+time.Second {
				t.Errorf("%s: closed after %v, want %v", name, d, x.after)
			}
			l.g.Close()
		})
	}
}

// TestLingerTakesAnswers: answers that are due arrive while the link stays open, and after it.
func TestLingerTakesAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLingering(t)
		l.g.SetServers([]Address{{"a", "1"}})
		w, _ := l.connected(0)
		first := ask(nil, l.g, 1, 0, statReq(1))
		_, m := w.read()
		l.g.SetServers(nil)
		synctest.Wait()
		w.send(0, statRsp(m))
		wantAnswer(t, <-first, 1)
		go w.waitClosed()
		l.g.drains.Wait()
		wantKind(t, (<-ask(nil, l.g, 1, 0, statReq(2))).err, im.Unavailable)
	})
}
