package route_test

import (
	"fmt"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/pdu"
	"teamtalk/handlers/route"
	"teamtalk/proto/pb"
)

// step is a list of messages from one of two message servers, and the notifies that both
// then receive.
type step struct {
	what   string
	server int // index of the sender
	send   []pb.Message
	want   []pb.Message // both servers receive the same
}

// presenceCases returns the ways in which the clients of user 7 connect and disconnect.
func presenceCases() map[string][]step {
	on, off := statNotify(7, statOnline), statNotify(7, statOffline)
	pcOn, pcOff := pcNotify(7, 1), pcNotify(7, 0)
	return map[string][]step{
		"phone only": {
			{"phone connects", 0, []pb.Message{online(7, ios)}, nil},
			{"phone disconnects", 0, []pb.Message{gone(7, ios)}, nil},
		},
		"pc and phone on two servers": {
			{"phone connects", 0, []pb.Message{online(7, android)}, nil},
			{"pc connects", 1, []pb.Message{online(7, windows)}, []pb.Message{pcOn, on}},
			{"pc disconnects", 1, []pb.Message{gone(7, windows)}, []pb.Message{pcOff, off}},
			{"phone disconnects", 0, []pb.Message{gone(7, android)}, nil},
		},
		"two pcs of one client type on one server count twice": {
			{"first connects", 0, []pb.Message{online(7, windows)}, []pb.Message{pcOn, on}},
			{"second connects", 0, []pb.Message{online(7, windows)}, []pb.Message{pcOn, on}},
			{"one disconnects", 0, []pb.Message{gone(7, windows)}, nil},
			{"the other disconnects", 0, []pb.Message{gone(7, windows)}, []pb.Message{off}},
		},
		"pc on each server": {
			{"first connects", 0, []pb.Message{online(7, windows)}, []pb.Message{pcOn, on}},
			{"second connects", 1, []pb.Message{online(7, mac)}, []pb.Message{pcOn, on}},
			{"first disconnects", 0, []pb.Message{gone(7, windows)}, nil},
			{"second disconnects", 1, []pb.Message{gone(7, mac)}, []pb.Message{off}},
		},
		"disconnects of unknown clients are ignored": {
			{"user not online", 0, []pb.Message{gone(7, windows)}, nil},
			{"pc connects to server 1", 0, []pb.Message{online(7, windows)},
				[]pb.Message{pcOn, on}},
			{"disconnect on the other server", 1, []pb.Message{gone(7, windows)}, nil},
			{"disconnect of another client type", 0, []pb.Message{gone(7, mac)}, nil},
			{"disconnect of the pc", 0, []pb.Message{gone(7, windows)}, []pb.Message{off}},
		},
		"away counts as online": {
			{"pc connects as away", 0, []pb.Message{update(3, 7, windows)}, []pb.Message{pcOn, on}},
		},
		"the first list causes no notifies, a later list does": {
			{"first list", 0, []pb.Message{info(held(7, windows), held(7, windows), held(8, ios))},
				nil},
			{"one of two disconnects", 0, []pb.Message{gone(7, windows)}, nil},
			{"list without 7", 0, []pb.Message{info(held(8, ios))}, []pb.Message{off}},
			{"list with 7 again", 0, []pb.Message{info(held(7, mac), held(8, ios))},
				[]pb.Message{pcOn, on}},
			{"same list again", 0, []pb.Message{info(held(7, mac), held(8, ios))}, nil},
			{"disconnects", 0, []pb.Message{gone(7, mac)}, []pb.Message{off}},
		},
	}
}

// TestPresence checks the notifies for each way in which clients connect and disconnect.
func TestPresence(t *testing.T) {
	l := listen(t)
	for name, steps := range presenceCases() {
		t.Run(name, func(t *testing.T) {
			dial := l.serve(t, route.Options{})
			peers := []*peer{dial(), dial()}
			for _, s := range steps {
				peers[s.server].send(0, s.send...)
				for i, got := range settleAll(peers...) {
					expect(t, fmt.Sprintf("%s: server %d", s.what, i+1), got, s.want...)
				}
			}
		})
	}
}

// TestLostServer: when the link of a message server ends, its users go offline, with the
// same notifies as for single clients. They come online again when the server reports
// them.
func TestLostServer(t *testing.T) {
	l := listen(t)
	dial := l.serve(t, route.Options{})
	a, b := dial(), dial()
	// User 1: pc on a. User 2: pc on a, phone on b. User 3: pc on both. User 4: phone on
	// a. The order of notifies holds for each user alone, so that the stripes do not
	// matter.
	a.send(0, online(1, windows), online(2, windows), online(3, windows), online(4, ios))
	b.send(0, online(2, ios), online(3, mac))
	settleAll(a, b)

	a.conn.Close()
	for want := map[frame]bool{
		toFrame(t, 0, statNotify(1, statOffline)): true, toFrame(t, 0, pcNotify(2, 0)): true,
		toFrame(t, 0, statNotify(2, statOffline)): true,
	}; len(want) > 0; {
		f := b.read()
		if !want[f] {
			t.Fatalf("unexpected %s", describe([]frame{f}))
		}
		delete(want, f)
	}
	<-l.closed // phones go offline without a notify
	if got := statuses(t, b, nil, anyDevice, 1, 2, 3,
		4); fmt.Sprint(got) != "[false true true false]" {
		t.Errorf("online after loss of the server: %v", got)
	}

	// Server a reconnects, and user 5 logged in meanwhile. Users announced as offline are
	// announced again. User 5 was never announced as offline.
	a = dial()
	a.send(0, info(held(1, windows), held(2, windows), held(3, windows), held(4, ios),
		held(5, windows)))
	want := map[frame]int{}
	for _, user := range []uint32{1, 2} {
		want[toFrame(t, 0, pcNotify(user, 1))]++
		want[toFrame(t, 0, statNotify(user, statOnline))]++
	}
	for i, got := range settleAll(a, b) {
		if len(got) != 4 {
			t.Errorf("server %d receives\n  %s", i+1, describe(got))
		}
		for _, f := range got {
			if want[f] == 0 {
				t.Errorf("server %d receives %s", i+1, describe([]frame{f}))
			}
		}
	}
}

// TestLostServerWithManyUsers: when a server with a hundred thousand users is lost, the
// notifies do not overflow the links of the other servers.
func TestLostServerWithManyUsers(t *testing.T) {
	dial := start(t, route.Options{})
	a, b := dial(), dial()
	const users = 100_000
	var list []*pb.ServerUserStat
	for user := uint32(1); user <= users; user++ {
		list = append(list, held(user, windows))
	}
	a.send(0, info(list...))
	settleAll(a, b)
	a.conn.Close()
	for range users {
		if f := b.read(); f.cmd != pb.CmdUserStatNotify {
			t.Fatalf("unexpected %s", describe([]frame{f}))
		}
	}
	expect(t, "afterwards", b.settle())
}

// TestRoleSet: a message server with several route servers receives presence from one of
// them only.
func TestRoleSet(t *testing.T) {
	dial := start(t, route.Options{})
	a, b := dial(), dial()
	b.send(0, pb.IMRoleSet_builder{Master: proto.Uint32(0)}.Build())
	settleAll(a, b)
	a.send(0, online(7, windows))
	got := settleAll(a, b)
	expect(t, "master", got[0], pcNotify(7, 1), statNotify(7, statOnline))
	expect(t, "slave", got[1])
	b.send(0, pb.IMRoleSet_builder{Master: proto.Uint32(1)}.Build())
	settleAll(a, b)
	a.send(0, gone(7, windows))
	expect(t, "new master", settleAll(a, b)[1], statNotify(7, statOffline))
}

// statuses asks p's route server which users are online. The answer must repeat the scope
// of the request when the server knows this scope.
func statuses(t *testing.T, p *peer, class *pb.ClientType, scope pb.DeviceScope,
	users ...uint32) []bool {
	t.Helper()
	req := pb.IMUsersStatReq_builder{UserId: proto.Uint32(9), UserIdList: users, SameClass: class,
		AttachData: []byte("way back")}.Build()
	if scope != 0 {
		req.SetScope(scope)
	}
	if scope == unknownScope {
		scope = 0
	}
	p.send(77, req)
	f := p.read()
	if f.cmd != pb.CmdUsersStatRsp || f.seq != 77 {
		t.Fatalf("no answer but %s", describe([]frame{f}))
	}
	var rsp pb.IMUsersStatRsp
	if err := rsp.ParseBody([]byte(f.body)); err != nil {
		t.Fatal(err)
	}
	if rsp.GetUserId() != 9 || string(rsp.GetAttachData()) != "way back" ||
		len(rsp.GetUserStatList()) != len(users) {
		t.Fatalf("answer %v", &rsp)
	}
	if rsp.HasScope() != (scope != 0) || rsp.HasScope() && rsp.GetScope() != scope {
		t.Errorf("asked with scope %v, answered with %v", scope, &rsp)
	}
	var got []bool
	for i, u := range rsp.GetUserStatList() {
		if u.GetUserId() != users[i] {
			t.Errorf("answer %d is about %d, want %d", i, u.GetUserId(), users[i])
		}
		got = append(got, u.GetStatus() == statOnline)
	}
	return got
}

const (
	anyDevice    = pb.DeviceScope_DEVICE_SCOPE_ANY
	acking       = pb.DeviceScope_DEVICE_SCOPE_ACKS
	unknownScope = pb.DeviceScope(77)
)

// TestUsersStat: a presence request counts pc clients, or the clients of its scope or
// class.
func TestUsersStat(t *testing.T) {
	dial := start(t, route.Options{})
	a, b := dial(), dial()
	a.send(0, online(1, windows), online(2, ios), online(3, windows), online(3, android))
	b.send(0, online(3, mac))
	a.send(0, acks(3, android, true))
	settleAll(a, b)
	pc, phone := mac, android
	for _, test := range []struct {
		what  string
		p     *peer
		class *pb.ClientType
		scope pb.DeviceScope
		want  string
	}{
		{"pcs, as in the first implementation", a, nil, 0, "[true false true false true]"},
		{"pcs, from the other", b, nil, 0, "[true false true false true]"},
		{"a scope that is not known", b, nil, unknownScope, "[true false true false true]"},
		{"any device", a, nil, anyDevice, "[true true true false true]"},
		{"any device, from the other", b, nil, anyDevice, "[true true true false true]"},
		{"devices elsewhere that acknowledge", b, nil, acking, "[false false true false false]"},
		{"devices here that acknowledge", a, nil, acking, "[false false false false false]"},
		{"pcs elsewhere", a, &pc, 0, "[false false true false false]"}, // 3's mac is on b
		{"pcs elsewhere, from the other", b, &pc, 0, "[true false true false true]"},
		{"phones elsewhere", a, &phone, 0, "[false false false false false]"},
		{"phones elsewhere, from the other", b, &phone, anyDevice, "[false true true false false]"},
	} {
		if got := statuses(t, test.p, test.class, test.scope, 1, 2, 3, 99,
			1); fmt.Sprint(got) != test.want {
			t.Errorf("%s: %v, want %s", test.what, got, test.want)
		}
	}
}

// TestAcks follows which users have a device that acknowledges deliveries. Message
// servers report it when it changes, and in their lists.
func TestAcks(t *testing.T) {
	dial := start(t, route.Options{})
	a, b, asking := dial(), dial(), dial()
	listed := held(4, ios)
	listed.SetAcks(true)
	steps := []struct {
		what string
		p    *peer
		send []pb.Message
		want string // of users 1 to 4
	}{
		{"those in a list", a, []pb.Message{info(held(1, windows), held(2, ios), listed)},
			"[false false false true]"},
		{"one begins", a, []pb.Message{acks(1, windows, true)}, "[true false false true]"},
		{"one of no such client", a, []pb.Message{acks(2, android, true), acks(3, ios, true)},
			"[true false false true]"},
		{"the same user elsewhere", b, []pb.Message{online(1, mac)}, "[true false false true]"},
		{"one ends", a, []pb.Message{acks(1, windows, false)}, "[false false false true]"},
		{"one elsewhere", b, []pb.Message{acks(1, mac, true)}, "[true false false true]"},
		{"it goes", b, []pb.Message{gone(1, mac)}, "[false false false true]"},
		{"it comes back", b, []pb.Message{online(1, mac)}, "[false false false true]"},
		{"another list", a, []pb.Message{info(held(1, windows), held(4, ios))},
			"[false false false false]"},
	}
	for _, s := range steps {
		s.p.send(0, s.send...)
		settleAll(a, b, asking)
		if got := statuses(t, asking, nil, acking, 1, 2, 3, 4); fmt.Sprint(got) != s.want {
			t.Errorf("%s: %v, want %s", s.what, got, s.want)
		}
	}
	if got := statuses(t, a, nil, anyDevice, 1, 2, 3,
		4); fmt.Sprint(got) != "[true false false true]" {
		t.Errorf("online afterwards: %v", got) // reports of acks count nobody
	}
}

// TestFeatures: a message server that sends its features receives the route server's. One
// that sends none receives no answer. A text that is sent again goes to those that
// recognise it, and so does the news that a message server is connected again.
func TestFeatures(t *testing.T) {
	dial := start(t, route.Options{})
	ours, older, other, sender := dial(), dial(), dial(), dial()
	hello := func(features pb.ServerFeature) pb.Message {
		return pb.IMRoleSet_builder{Master: proto.Uint32(1),
			Features: proto.Uint32(uint32(features))}.Build()
	}
	const receipts, all = pb.ServerFeature_SERVER_FEATURE_RECEIPTS,
		pb.ServerFeature_SERVER_FEATURE_RECEIPTS | pb.ServerFeature_SERVER_FEATURE_REPEATS |
			pb.ServerFeature_SERVER_FEATURE_RESENT | pb.ServerFeature_SERVER_FEATURE_KICKS |
			pb.ServerFeature_SERVER_FEATURE_FILES
	ours.send(0, hello(all))
	older.send(0, hello(receipts))
	other.send(0, pb.IMRoleSet_builder{Master: proto.Uint32(1)}.Build())
	got := settleAll(ours, older, other)
	expect(t, "ours", got[0], hello(all))
	expect(t, "an older one", got[1], hello(all))
	expect(t, "another", got[2])

	m := &pb.MsgData{FromUserID: 1, ToSessionID: 50, MsgID: 3,
		Type: pb.MsgType_MSG_TYPE_GROUP_TEXT, Data: []byte("x")}
	again := *m
	again.Resent, again.Age = true, 1500
	sender.send(0, m, &again)
	got = settleAll(sender, ours, older, other)
	expect(t, "ours", got[1], m, &again)
	expect(t, "an older one", got[2], m)
	expect(t, "another", got[3], m)

	back, missed := dial(), hello(all).(*pb.IMRoleSet)
	missed.SetMissed(3000)
	back.send(0, missed)
	back.send(0, info())
	missed.SetMaster(0)
	got = settleAll(back, ours, older, other)
	expect(t, "one that was away", got[0], hello(all))
	expect(t, "ours", got[1], missed)
	expect(t, "an older one", got[2])
	expect(t, "another", got[3])
}

// TestLastWordIsTrue: many servers report the same user at the same time. The last notify
// that each receives is the final state.
func TestLastWordIsTrue(t *testing.T) {
	dial := start(t, route.Options{})
	watch := dial()
	var frames []byte
	for range 100 { // many at once, so that the loops are busy at the same time
		for _, m := range []pb.Message{online(7, windows), gone(7, windows)} {
			var err error
			if frames, err = pdu.Append(frames, 0, m); err != nil {
				t.Fatal(err)
			}
		}
	}
	const servers, rounds = 4, 30
	var wg sync.WaitGroup
	for range servers {
		p := dial()
		wg.Go(func() {
			for range rounds {
				if _, err := p.conn.Write(frames); err != nil {
					t.Error(err)
					return
				}
			}
			p.settle()
		})
	}
	wg.Wait()
	var last frame
	for _, f := range watch.settle() {
		if f.cmd == pb.CmdUserStatNotify {
			if f == last && f == toFrame(t, 0, statNotify(7, statOffline)) {
				t.Fatal("two notifies in a row report the user as offline")
			}
			last = f
		}
	}
	if last != toFrame(t, 0, statNotify(7, statOffline)) {
		t.Errorf("the last notify is %s", describe([]frame{last}))
	}
}
