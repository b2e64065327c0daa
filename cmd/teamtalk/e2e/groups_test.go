//go:build linux

package e2e

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"teamtalk/core/client"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// fullSize reports whether the tests under load run with the sizes of a real deployment,
// which takes minutes.
var fullSize = os.Getenv("TEAMTALK_TEST_FULL") != ""

// size returns the short size, or the full one with fullSize.
func size(short, full int) int {
	if fullSize {
		return full
	}
	return short
}

// rounds returns the short number of repetitions, or that of make nightly.
func rounds(short, nightly int) int {
	if long || fullSize {
		return nightly
	}
	return short
}

// unlimited are the flags of tests under load: no rate limits senders, and no message is
// redelivered because the machine is slow.
var unlimited = []string{"--msg.rate", "0", "--msg.ack", "stored", "--msg.redeliver-after", "10m"}

// createGroup creates a temporary group, and returns its id.
func (w *wire) createGroup(seq uint16, members ...uint32) uint32 {
	w.t.Helper()
	w.send(seq, pb.IMGroupCreateReq_builder{UserId: new(uint32(0)),
		GroupType: pb.GroupType_GROUP_TYPE_TMP.Enum(), GroupName: new("group"),
		GroupAvatar: new(""), MemberIdList: members}.Build())
	var rsp pb.IMGroupCreateRsp
	w.expectSeq(seq, &rsp)
	if rsp.GetResultCode() != 0 {
		w.t.Fatalf("group not created: %v", &rsp)
	}
	return rsp.GetGroupId()
}

// deployThree runs all servers in one process, or a process for each server with three
// message servers. It returns the addresses of the message servers.
func deployThree(t *testing.T, shape string, s settings) (sys *deployment, addrs []string) {
	if shape == allInOne {
		sys = deployAllInOne(t, s)
		return sys, sys.msgAddr[:1]
	}
	sys = deploySeparate(t, s)
	third := reserve(t)
	sys.server("msg3", s.flags, append([]string{"--roles", "msg", "--msg.listen", third},
		sys.peers...)...).start()
	return sys, append(sys.msgAddr[:], third)
}

// crowd has the clients of one group.
type crowd struct {
	clients []*wire
	group   uint32
	// open limits the unacked messages of each client: its channel has an entry for each.
	// nil: no limit.
	open []chan struct{}
}

// listen lets every client read frames until it has the acks of its own messages, sent(i)
// of them, and the other messages of total. The ids of both together must have no gap,
// and the messages must arrive in order.
func (c *crowd) listen(sent func(i int) int, total int) (done *sync.WaitGroup) {
	done = &sync.WaitGroup{}
	for i, w := range c.clients {
		done.Go(func() { c.receive(i, w, sent(i), total) })
	}
	return done
}

// receive reads the frames of client i.
func (c *crowd) receive(i int, w *wire, sent, total int) {
	own := map[uint32]bool{}
	var received []uint32
	for len(own) < sent || len(received) < total-sent {
		f, err := w.read()
		if err != nil {
			w.t.Errorf("client %d received %d of %d messages and %d of %d acks: %v", i,
				len(received), total-sent, len(own), sent, err)
			return
		}
		switch f.Command {
		case pb.CmdMsgDataAck:
			var ack pb.IMMsgDataAck
			if err := ack.ParseBody(f.body); err != nil || ack.GetSessionId() != c.group ||
				own[ack.GetMsgId()] {
				w.t.Errorf("client %d: ack %v, %v", i, &ack, err)
			}
			own[ack.GetMsgId()] = true
			if c.open != nil {
				<-c.open[i]
			}
		case pb.CmdMsgData:
			var m pb.MsgData
			if err := m.ParseBody(f.body); err != nil || m.ToSessionID != c.group ||
				m.HasGroupVersion || m.HasAttachData() {
				w.t.Errorf("client %d: message %v, %v", i, &m, err)
			}
			received = append(received, m.MsgID)
		default:
			w.t.Errorf("client %d got %s", i, f.Command)
		}
	}
	if !slices.IsSorted(received) {
		w.t.Errorf("client %d received messages out of order", i)
	}
	for id := range own {
		received = append(received, id)
	}
	slices.Sort(received)
	for at, id := range received {
		if id != uint32(at+1) {
			w.t.Errorf("client %d: message %d has the id %d: a gap, or a message received twice", i,
				at+1, id)
			return
		}
	}
}

// TestGroupFanOut sends messages of 20 members to a group of 500. 300 members are online,
// on three message servers in processes of their own, and receive each message once and
// in order. For the others all messages are unread.
func TestGroupFanOut(t *testing.T) {
	t.Parallel()
	const members, online, senders = 500, 300, 20
	each := rounds(15, 50)
	takeProcessor(t)
	sys, addrs := deployThree(t, separate, settings{users: members, races: true, flags: unlimited})
	c := crowd{clients: make([]*wire, online)}
	for i := range c.clients {
		c.clients[i], _ = loggedIn(t, addrs[i%len(addrs)], fmt.Sprintf("u%05d", i+1), android)
	}
	all := make([]uint32, members)
	for i := range all {
		all[i] = uint32(i + 1)
	}
	c.group = c.clients[0].createGroup(1, all...)
	done := c.listen(func(i int) int {
		if i < senders {
			return each
		}
		return 0
	}, senders*each)
	atOnce(c.clients[:senders], func(i int, w *wire) {
		for n := range each {
			w.send(uint16(10+n), groupText(c.group, fmt.Sprint("from ", i, " number ", n)))
		}
	})
	done.Wait()
	for i := online; i < members; i += size(20, 1) {
		c := conn(t, addrs[0], fmt.Sprintf("u%05d", i+1), android)
		unread, err := client.Unread(bounded(t), c)
		if err != nil || len(unread) != 1 || unread[0].Count != uint32(senders*each) {
			t.Fatalf("unread of user %d: %v, %v", i+1, unread, err)
		}
		c.Close()
	}
	for _, s := range sys.servers {
		if n := s.metric("teamtalk_session_panics_total", ""); n != 0 {
			t.Errorf("%s: %v panics", s.name, n)
		}
	}
}

// TestManySenders lets all members of a group write at once, each with up to eight
// unacked messages. Every message is acked, ids have no gaps, and all members receive all
// messages in one order.
func TestManySenders(t *testing.T) {
	t.Parallel()
	for _, shape := range []string{allInOne, separate} {
		t.Run(shape, func(t *testing.T) {
			t.Parallel()
			takeProcessor(t)
			senders := rounds(100, 200)
			each := size(3, 1000) // about a minute
			_, addrs := deployThree(t, shape,
				settings{users: senders, races: true, flags: unlimited})
			c := crowd{clients: make([]*wire, senders), open: make([]chan struct{}, senders)}
			all := make([]uint32, senders)
			for i := range c.clients {
				c.clients[i], all[i] = loggedIn(t, addrs[i%len(addrs)], fmt.Sprintf("u%05d", i+1),
					android)
				c.open[i] = make(chan struct{}, 8)
			}
			c.group = c.clients[0].createGroup(1, all...)
			done := c.listen(func(int) int { return each }, senders*each)
			atOnce(c.clients, func(i int, w *wire) {
				for n := range each {
					select {
					case c.open[i] <- struct{}{}:
					case <-time.After(patience):
						t.Errorf("client %d has no ack of message %d or those before", i, n-8)
						return
					}
					w.send(uint16(10+n), groupText(c.group, fmt.Sprint("from ", i, " number ", n)))
				}
			})
			done.Wait()
		})
	}
}

// TestMemberChanges lets two members change the same group at the same time, from two
// message servers. Afterwards the store, the message servers and the answers agree on the
// members.
func TestMemberChanges(t *testing.T) {
	t.Parallel()
	forEachShape(t, settings{users: 260, flags: unlimited}, func(t *testing.T, sys *deployment) {
		changes := rounds(40, 100) // of each member
		creator, first := loggedIn(t, sys.msgAddr[0], "u00001", android)
		other, second := loggedIn(t, sys.msgAddr[1], "u00002", android)
		group := creator.createGroup(1, first, second)
		atOnce([]*wire{creator, other}, func(i int, w *wire) {
			for n := range uint32(changes) {
				switch {
				case i == 1:
					w.changeAmongNews(uint16(10+n), group, addMember, 150+n)
				case n%4 == 3:
					w.changeAmongNews(uint16(10+n), group, removeMember, 10+n-1)
				default:
					w.changeAmongNews(uint16(10+n), group, addMember, 10+n)
				}
			}
		})
		want := []uint32{first, second}
		for n := range uint32(changes) {
			want = append(want, 150+n)
			if n%4 != 3 && n%4 != 2 {
				want = append(want, 10+n)
			}
		}
		slices.Sort(want)
		asked := conn(t, sys.msgAddr[0], "u00002", mac)
		infos, err := client.GroupInfos(bounded(t), asked, []im.GroupVersion{{ID: group}})
		if err != nil || len(infos) != 1 {
			t.Fatalf("stored: %v, %v", infos, err)
		}
		equal(t, "stored members", infos[0].Members, want)
		equal(t, "version of the group", infos[0].Version, uint32(1+2*changes))
		heardByMembersOnly(t, sys, group, want)
	})
}

// changeAmongNews changes a member of a group, which must succeed. It skips the
// notifications of other changes.
func (w *wire) changeAmongNews(seq uint16, group uint32, change pb.GroupModifyType, user uint32) {
	w.send(seq, pb.IMGroupChangeMemberReq_builder{
		UserId: new(uint32(0)), ChangeType: change.Enum(), GroupId: new(group),
		MemberIdList: []uint32{user},
	}.Build())
	f := w.next()
	for f.Command != pb.CmdGroupChangeMemberRsp {
		f = w.next()
	}
	var rsp pb.IMGroupChangeMemberRsp
	if err := rsp.ParseBody(f.body); err != nil || rsp.GetResultCode() != 0 {
		w.t.Errorf("change %d: %v, %v", seq, &rsp, err)
	}
}

// heardByMembersOnly checks the members that each message server knows. It logs in some
// members and some other users, and sends a message through each server: members receive
// it, others do not.
func heardByMembersOnly(t *testing.T, sys *deployment, group uint32, members []uint32) {
	t.Helper()
	probes := map[uint32][2]*wire{}
	for _, user := range []uint32{10, 12, 13, 105, 106, 109, 150, 249, 250, 255} {
		for i, kind := range []pb.ClientType{android, windows} {
			p := probes[user]
			p[i], _ = loggedIn(t, sys.msgAddr[i], fmt.Sprintf("u%05d", user), kind)
			probes[user] = p
		}
	}
	for i, writer := range []*wire{probes[150][0], probes[150][1]} {
		body := fmt.Sprint("through ", i)
		writer.send(5, groupText(group, body))
		for user, both := range probes {
			for _, w := range both {
				if w == writer {
					var ack pb.IMMsgDataAck
					w.expectSeq(5, &ack)
				} else if slices.Contains(members, user) {
					var m pb.MsgData
					if w.expect(&m); string(m.Data) != body {
						t.Errorf("user %d received %q", user, m.Data)
					}
				} else {
					w.alive()
				}
			}
		}
	}
}

// TestFreshPairs lets the two users of many pairs write their first messages to each
// other at the same moment. Each pair has one conversation, the same for both users, with
// the ids 1 and 2.
func TestFreshPairs(t *testing.T) {
	t.Parallel()
	pairs := size(rounds(60, 150), 1000)
	forEachShape(t, settings{users: 2 * pairs, races: true, flags: unlimited},
		func(t *testing.T, sys *deployment) {
			clients, ids := make([]*wire, 2*pairs), make([]uint32, 2*pairs)
			for i := range clients {
				clients[i], ids[i] = loggedIn(t, sys.msgAddr[i%2], fmt.Sprintf("u%05d", i+1),
					android)
			}
			acks := make([]uint32, len(clients))
			atOnce(clients, func(i int, w *wire) {
				w.send(2, text(ids[i^1], "hello"))
				acks[i] = w.ackAmongMessages(2)
			})
			for i := range pairs {
				if a, b := acks[2*i], acks[2*i+1]; a+b != 3 || a == b {
					t.Errorf("pair %d has the ids %d and %d", i, a, b)
				}
			}
			for i, w := range clients {
				w.oneConversation(fmt.Sprint("client ", i), ids[i^1])
			}
		})
}

// ackAmongMessages reads n frames, messages and one ack, and returns the id of the ack.
func (w *wire) ackAmongMessages(n int) (id uint32) {
	for range n {
		f := w.next()
		if f.Command == pb.CmdMsgData {
			continue
		}
		var ack pb.IMMsgDataAck
		if err := ack.ParseBody(f.body); err != nil || f.Command != pb.CmdMsgDataAck {
			w.t.Errorf("got %s, %v", f.Command, err)
			return 0
		}
		id = ack.GetMsgId()
	}
	return id
}

// oneConversation checks that a client has one conversation, with a peer, and the
// messages 2 and 1.
func (w *wire) oneConversation(name string, peer uint32) {
	w.t.Helper()
	w.send(3, pb.IMRecentContactSessionReq_builder{
		UserId: new(uint32(0)), LatestUpdateTime: new(uint32(0)),
	}.Build())
	var recent pb.IMRecentContactSessionRsp
	w.expectSeq(3, &recent)
	list := recent.GetContactSessionList()
	if len(list) != 1 || list[0].GetSessionId() != peer || list[0].GetLatestMsgId() != 2 {
		w.t.Fatalf("conversations of %s: %v", name, list)
	}
	w.send(4, pb.IMGetMsgListReq_builder{
		UserId: new(uint32(0)), SessionType: pb.SessionType_SESSION_TYPE_SINGLE.Enum(),
		SessionId: &peer, MsgIdBegin: new(uint32(0)), MsgCnt: new(uint32(10)),
	}.Build())
	var msgs pb.IMGetMsgListRsp
	w.expectSeq(4, &msgs)
	if got := msgs.GetMsgList(); len(got) != 2 || got[0].GetMsgId() != 2 || got[1].GetMsgId() != 1 {
		w.t.Fatalf("history of %s: %v", name, got)
	}
}
