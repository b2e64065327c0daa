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

// fullSize says that the tests under load run at the sizes a deployment is expected to bear, which takes minutes.
var fullSize = os.Getenv("TEAMTALK_TEST_FULL") != ""

// size is a number for every day, and the full one.
func size(short, full int) int {
	if fullSize {
		return full
	}
	return short
}

// unlimited are flags for tests under load: senders are not slowed down, and nothing is sent again because a machine is slow.
var unlimited = []string{"--msg.rate", "0", "--msg.ack", "stored", "--msg.redeliver-after", "10m"}

// createGroup makes a temporary group.
func (w *wire) createGroup(seq uint16, members ...uint32) uint32 {
	w.t.Helper()
	w.send(seq, pb.IMGroupCreateReq_builder{UserId: new(uint32(0)), GroupType: pb.GroupType_GROUP_TYPE_TMP.Enum(), GroupName: new("group"),
		GroupAvatar: new(""), MemberIdList: members}.Build())
	var rsp pb.IMGroupCreateRsp
	w.expectSeq(seq, &rsp)
	if rsp.GetResultCode() != 0 {
		w.t.Fatalf("group not made: %v", &rsp)
	}
	return rsp.GetGroupId()
}

// deployThree runs a process for each server, and three message servers, or everything in one process; addrs are where clients connect.
func deployThree(t *testing.T, shape string, s settings) (sys *deployment, addrs []string) {
	if shape == allInOne {
		sys = deployAllInOne(t, s)
		return sys, sys.msgAddr[:1]
	}
	sys = deploySeparate(t, s)
	third := reserve(t)
	sys.server("msg3", s.flags, append([]string{"--roles", "msg", "--msg.listen", third}, sys.peers...)...).start()
	return sys, append(sys.msgAddr[:], third)
}

// crowd is clients of one group, and what they heard.
type crowd struct {
	clients []*wire
	group   uint32
	open    []chan struct{} // of each client, with an entry for each message that is not acked; nil: any number may be
}

// listen has every client count what it hears of the group until it has heard want messages, its own not counted, and as many acks as it sent. Ids must go
// up by one, but for its own, whose ids come in acks.
func (c *crowd) listen(sent func(i int) int, total int) (done *sync.WaitGroup) {
	done = &sync.WaitGroup{}
	for i, w := range c.clients {
		done.Go(func() { c.hear(i, w, sent(i), total) })
	}
	return done
}

func (c *crowd) hear(i int, w *wire, sent, total int) {
	own := map[uint32]bool{}
	var heard []uint32
	for len(own) < sent || len(heard) < total-sent {
		f, err := w.read()
		if err != nil {
			w.t.Errorf("client %d heard %d of %d messages and %d of %d acks: %v", i, len(heard), total-sent, len(own), sent, err)
			return
		}
		switch f.Command {
		case pb.CmdMsgDataAck:
			var ack pb.IMMsgDataAck
			if err := ack.ParseBody(f.body); err != nil || ack.GetSessionId() != c.group || own[ack.GetMsgId()] {
				w.t.Errorf("client %d: ack %v, %v", i, &ack, err)
			}
			own[ack.GetMsgId()] = true
			if c.open != nil {
				<-c.open[i]
			}
		case pb.CmdMsgData:
			var m pb.MsgData
			if err := m.ParseBody(f.body); err != nil || m.ToSessionID != c.group || m.HasGroupVersion || m.HasAttachData() {
				w.t.Errorf("client %d: message %v, %v", i, &m, err)
			}
			heard = append(heard, m.MsgID)
		default:
			w.t.Errorf("client %d got %s", i, f.Command)
		}
	}
	if !slices.IsSorted(heard) {
		w.t.Errorf("client %d heard messages out of order", i)
	}
	for id := range own {
		heard = append(heard, id)
	}
	slices.Sort(heard)
	for at, id := range heard {
		if id != uint32(at+1) {
			w.t.Errorf("client %d: message %d has the id %d: a gap, or one heard twice", i, at+1, id)
			return
		}
	}
}

// TestGroupFanOut: a group of 500, 300 of them online on three message servers that are processes of their own: messages of 20 senders arrive at everybody who
// is online exactly once and in order, and the rest has them unread.
func TestGroupFanOut(t *testing.T) {
	t.Parallel()
	const members, online, senders = 500, 300, 20
	const each = 50
	takeProcessor(t)
	sys, addrs := deployThree(t, separate, settings{users: members, flags: unlimited})
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
	// A message crosses the link to each other message server once, however many of its clients are members.
	for _, s := range sys.servers {
		if n := s.metric("teamtalk_session_panics_total", ""); n != 0 {
			t.Errorf("%s: %v panics", s.name, n)
		}
	}
}

// TestManySenders: 200 members of a group write into it at once, each up to eight messages ahead of their acks: every message is acked, ids have no gaps, and everybody hears
// everything in one order.
func TestManySenders(t *testing.T) {
	t.Parallel()
	for _, shape := range []string{allInOne, separate} {
		t.Run(shape, func(t *testing.T) {
			t.Parallel()
			takeProcessor(t)
			const senders = 200
			each := size(3, 1000) // about a minute
			_, addrs := deployThree(t, shape, settings{users: senders, flags: unlimited})
			c := crowd{clients: make([]*wire, senders), open: make([]chan struct{}, senders)}
			all := make([]uint32, senders)
			for i := range c.clients {
				c.clients[i], all[i] = loggedIn(t, addrs[i%len(addrs)], fmt.Sprintf("u%05d", i+1), android)
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

// TestMemberChanges: two members change the same group from two message servers at the same time, many times. Afterwards all agree on who is in it: the
// store, the members that the message servers know, and what the answers said.
func TestMemberChanges(t *testing.T) {
	t.Parallel()
	forEachShape(t, settings{users: 260, flags: unlimited}, func(t *testing.T, sys *deployment) {
		const changes = 100 // each
		creator, first := loggedIn(t, sys.msgAddr[0], "u00001", android)
		other, second := loggedIn(t, sys.msgAddr[1], "u00002", android)
		group := creator.createGroup(1, first, second)
		change := func(w *wire, seq uint16, how pb.GroupModifyType, users ...uint32) {
			w.send(seq, pb.IMGroupChangeMemberReq_builder{UserId: new(uint32(0)), ChangeType: how.Enum(), GroupId: new(group), MemberIdList: users}.Build())
			for {
				f := w.next()
				var rsp pb.IMGroupChangeMemberRsp
				if f.Command != pb.CmdGroupChangeMemberRsp {
					continue // what the other one did
				}
				if err := rsp.ParseBody(f.body); err != nil || rsp.GetResultCode() != 0 {
					t.Errorf("change %d: %v, %v", seq, &rsp, err)
				}
				return
			}
		}
		const add, del = pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD, pb.GroupModifyType_GROUP_MODIFY_TYPE_DEL
		atOnce([]*wire{creator, other}, func(i int, w *wire) {
			for n := range uint32(changes) {
				switch {
				case i == 1:
					change(w, uint16(10+n), add, 150+n)
				case n%4 == 3:
					change(w, uint16(10+n), del, 10+n-1)
				default:
					change(w, uint16(10+n), add, 10+n)
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
		asked := conn(t, sys.msgAddr[0], "u00003", ios)
		infos, err := client.GroupInfos(bounded(t), asked, []im.GroupVersion{{ID: group}})
		if err != nil || len(infos) != 1 || !slices.Equal(infos[0].Members, want) {
			t.Fatalf("the store says %v, %v, want %v", infos, err, want)
		}
		if infos[0].Version != 1+2*changes {
			t.Errorf("version %d after %d changes", infos[0].Version, 2*changes)
		}
		heardByMembersOnly(t, sys, group, want)
	})
}

// heardByMembersOnly checks what each message server knows of a group's members: some who are and some who are not are there, and a message through each
// server reaches those who are.
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
						t.Errorf("user %d heard %q", user, m.Data)
					}
				} else {
					w.alive()
				}
			}
		}
	}
}

// TestFreshPairs: two who have never written write to each other at the same moment, many pairs: each pair has one conversation, on both sides, with the ids 1 and 2.
func TestFreshPairs(t *testing.T) {
	t.Parallel()
	pairs := size(150, 1000)
	forEachShape(t, settings{users: 2 * pairs, flags: unlimited}, func(t *testing.T, sys *deployment) {
		clients, ids := make([]*wire, 2*pairs), make([]uint32, 2*pairs)
		for i := range clients {
			clients[i], ids[i] = loggedIn(t, sys.msgAddr[i%2], fmt.Sprintf("u%05d", i+1), android)
		}
		acks := make([]uint32, len(clients))
		start := make(chan struct{})
		var wg sync.WaitGroup
		for i, w := range clients {
			wg.Go(func() {
				<-start
				w.send(2, text(ids[i^1], "hello"))
				for heard := 0; heard < 2; heard++ {
					f := w.next()
					if f.Command == pb.CmdMsgData {
						continue
					}
					var ack pb.IMMsgDataAck
					if err := ack.ParseBody(f.body); err != nil || f.Command != pb.CmdMsgDataAck {
						t.Errorf("client %d got %s, %v", i, f.Command, err)
						return
					}
					acks[i] = ack.GetMsgId()
				}
			})
		}
		close(start)
		wg.Wait()
		for i := range pairs {
			if a, b := acks[2*i], acks[2*i+1]; a+b != 3 || a == b {
				t.Errorf("pair %d has the ids %d and %d", i, a, b)
			}
		}
		for i, w := range clients {
			w.send(3, pb.IMRecentContactSessionReq_builder{UserId: new(uint32(0)), LatestUpdateTime: new(uint32(0))}.Build())
			var recent pb.IMRecentContactSessionRsp
			w.expectSeq(3, &recent)
			list := recent.GetContactSessionList()
			if len(list) != 1 || list[0].GetSessionId() != ids[i^1] || list[0].GetLatestMsgId() != 2 {
				t.Fatalf("conversations of client %d: %v", i, list)
			}
			w.send(4, pb.IMGetMsgListReq_builder{UserId: new(uint32(0)), SessionType: pb.SessionType_SESSION_TYPE_SINGLE.Enum(), SessionId: new(ids[i^1]),
				MsgIdBegin: new(uint32(0)), MsgCnt: new(uint32(10))}.Build())
			var msgs pb.IMGetMsgListRsp
			w.expectSeq(4, &msgs)
			if got := msgs.GetMsgList(); len(got) != 2 || got[0].GetMsgId() != 2 || got[1].GetMsgId() != 1 {
				t.Fatalf("history of client %d: %v", i, got)
			}
		}
	})
}
