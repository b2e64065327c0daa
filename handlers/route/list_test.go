package route_test

import (
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"teamtalk/handlers/route"
	"teamtalk/proto/pb"
)

// part is a part of a list of clients.
func part(offset, total uint32, clients ...*pb.ServerUserStat) pb.Message {
	m := info(clients...).(*pb.IMOnlineUserInfo)
	m.SetOffset(offset)
	m.SetTotal(total)
	return m
}

// online1to returns the users from 1 to n that are online with a pc.
func (p *peer) online1to(n uint32) (users []uint32) {
	p.t.Helper()
	req := pb.IMUsersStatReq_builder{UserId: proto.Uint32(0)}.Build()
	for user := uint32(1); user <= n; user++ {
		req.SetUserIdList(append(req.GetUserIdList(), user))
	}
	p.send(1, req)
	for {
		f := p.read()
		if f.cmd != pb.CmdUsersStatRsp {
			continue
		}
		rsp := &pb.IMUsersStatRsp{}
		if err := rsp.ParseBody([]byte(f.body)); err != nil {
			p.t.Fatal(err)
		}
		for _, u := range rsp.GetUserStatList() {
			if u.GetStatus() == statOnline {
				users = append(users, u.GetUserId())
			}
		}
		return users
	}
}

// TestListInParts: the list of a message server's clients counts when its last part has
// arrived, and replaces the list before. A list that was not finished, and parts that do not
// fit each other, change nothing.
func TestListInParts(t *testing.T) {
	server := start(t, route.Options{})()
	for _, c := range []struct {
		what string
		send []pb.Message
		want []uint32
	}{
		{"whole", []pb.Message{info(held(1, windows), held(2, windows))}, []uint32{1, 2}},
		{"first part", []pb.Message{part(0, 3, held(2, windows), held(3, windows))},
			[]uint32{1, 2}},
		{"last part", []pb.Message{part(2, 3, held(4, windows))}, []uint32{2, 3, 4}},
		{"not finished, then anew", []pb.Message{part(0, 3, held(5, windows)),
			part(0, 2, held(6, windows)), part(1, 2, held(7, windows))}, []uint32{6, 7}},
		{"a part is missing", []pb.Message{part(0, 3, held(5, windows)),
			part(2, 3, held(6, windows))}, []uint32{6, 7}},
		{"more than announced", []pb.Message{part(0, 3, held(1, windows), held(2, windows)),
			part(2, 3, held(3, windows), held(4, windows))}, []uint32{6, 7}},
		{"a list from a C++ server", []pb.Message{part(0, 3, held(1, windows)),
			info(held(2, windows))}, []uint32{2}},
		{"nobody", []pb.Message{info()}, nil},
	} {
		server.send(0, c.send...)
		if got := server.online1to(9); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v are online, want %v", c.what, got, c.want)
		}
	}
}
