package pb_test

import (
	"bytes"
	"fmt"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"teamtalk/proto/pb"
)

// userList is the field of the list in IMAllUserRsp.
const userList = 3

// TestSplitDividesTheList checks that the parts have the update time and, together, the
// list, that none exceeds the limit, and that they share the bytes.
func TestSplitDividesTheList(t *testing.T) {
	m := directory(1000)
	e, err := pb.Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	const limit = 10_000
	parts := e.ForUser(8).Split(userList, limit, nil)
	if want := len(e.Shared())/limit + 1; len(parts) < want || len(parts) > want+1 {
		t.Fatalf("%d parts of %d bytes", len(parts), len(e.Shared()))
	}
	var all []*pb.UserInfo
	for i, p := range parts {
		body, err := p.AppendBody(nil)
		if err != nil || len(body) > limit {
			t.Errorf("part %d has %d bytes, %v", i, len(body), err)
		}
		var rsp pb.IMAllUserRsp
		if err := rsp.ParseBody(body); err != nil {
			t.Fatal(err)
		}
		if rsp.GetUserId() != 8 || rsp.GetLatestUpdateTime() != m.GetLatestUpdateTime() ||
			len(rsp.GetUserList()) == 0 {
			t.Errorf("part %d: user %d, time %d, %d users", i, rsp.GetUserId(),
				rsp.GetLatestUpdateTime(), len(rsp.GetUserList()))
		}
		all = append(all, rsp.GetUserList()...)
	}
	m.SetUserId(8)
	got := pb.IMAllUserRsp_builder{UserId: new(uint32(8)),
		LatestUpdateTime: new(m.GetLatestUpdateTime()), UserList: all}.Build()
	if !proto.Equal(got, m) {
		t.Error("the parts are not the whole")
	}
	again := e.ForUser(9).Split(userList, limit, nil)
	for i := range parts {
		if &parts[i].Shared()[0] != &again[i].Shared()[0] {
			t.Fatal("split twice")
		}
	}
	// The first element follows the time, without a copy.
	if at := bytes.Index(e.Shared(), parts[0].Shared()); at < 0 ||
		&e.Shared()[at] != &parts[0].Shared()[0] {
		t.Error("copied")
	}
	if one := e.Split(userList, len(e.Shared())+6, nil); len(one) != 1 || one[0] != e {
		t.Errorf("what fits became %d parts", len(one))
	}
}

// TestSplitRepeatsOtherFields has fields between the elements, as other encoders may
// write them.
func TestSplitRepeatsOtherFields(t *testing.T) {
	var b []byte
	for i := range uint64(100) {
		b = protowire.AppendBytes(protowire.AppendTag(b, 2, protowire.BytesType),
			bytes.Repeat([]byte{byte(i)}, 100))
		if i%30 == 5 {
			b = protowire.AppendVarint(protowire.AppendTag(b, 3, protowire.VarintType), i)
		}
	}
	e, err := pb.ParseEncoded(pb.CmdFileHasOfflineRsp, b)
	if err != nil {
		t.Fatal(err)
	}
	var others, elements []byte
	parts := e.Split(2, 1000, nil)
	for _, p := range parts {
		body, _ := p.AppendBody(nil)
		if len(body) > 1000 {
			t.Errorf("%d bytes", len(body))
		}
		head := p.AppendHead(nil)
		if others == nil {
			others = head
		}
		if len(head) != 8 || !bytes.Equal(head, others) {
			t.Errorf("fields %x", head)
		}
		elements = append(elements, p.Shared()...)
	}
	want, _ := pb.ParseEncoded(pb.CmdFileHasOfflineRsp, append(bytes.Clone(others), elements...))
	if len(parts) < 10 || len(want.Shared()) != len(b) {
		t.Errorf("%d parts", len(parts))
	}
}

// TestSplitReplacesLongElements has an element that exceeds the limit alone.
func TestSplitReplacesLongElements(t *testing.T) {
	list := make([]*pb.MsgInfo, 5)
	for i := range list {
		size := 10
		if i%2 == 1 {
			size = 5000
		}
		list[i] = pb.MsgInfo_builder{MsgId: new(uint32(i + 1)), FromSessionId: new(uint32(2)),
			CreateTime: new(uint32(3)),
			MsgType:    pb.MsgType_MSG_TYPE_SINGLE_AUDIO.Enum(), MsgData: make([]byte,
				size)}.Build()
	}
	e, err := pb.Encode(pb.IMGetMsgListRsp_builder{UserId: new(uint32(1)),
		SessionType: pb.SessionType_SESSION_TYPE_SINGLE.Enum(),
		SessionId:   new(uint32(2)), MsgIdBegin: new(uint32(0)), MsgList: list}.Build())
	if err != nil {
		t.Fatal(err)
	}
	for _, keep := range []bool{true, false} {
		parts := e.Split(5, 1000, func(b []byte) []byte {
			var m pb.MsgInfo
			if err := proto.Unmarshal(b, &m); err != nil || len(m.GetMsgData()) != 5000 {
				t.Errorf("asked to replace %d bytes, %v", len(b), err)
			}
			if !keep {
				return nil
			}
			m.SetMsgData([]byte("too long"))
			b, _ = proto.Marshal(&m)
			return b
		})
		if len(parts) != 1 {
			t.Fatalf("%d parts", len(parts))
		}
		m, err := parts[0].Decode()
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, i := range m.(*pb.IMGetMsgListRsp).GetMsgList() {
			got += fmt.Sprint(i.GetMsgId(), ":", len(i.GetMsgData()), " ")
		}
		if want := map[bool]string{true: "1:10 2:8 3:10 4:8 5:10 ",
			false: "1:10 3:10 5:10 "}[keep]; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// FuzzSplit checks that the parts are well-formed, hold the list in its order and all
// other fields, and exceed the limit only with an element that does.
func FuzzSplit(f *testing.F) {
	for _, frame := range recordedFrames(f) {
		f.Add(frame[16:], uint8(2), uint16(40), true)
	}
	f.Add([]byte{0x1a, 2, 1, 2, 0x08, 1, 0x1a, 1, 3, 0x1b, 0x1c, 0xa2, 0x01, 1, 'x', 0x1a, 0},
		uint8(3), uint16(9), false)
	f.Fuzz(func(t *testing.T, b []byte, field uint8, limit uint16, replace bool) {
		e, err := pb.ParseEncoded(pb.CmdAllUserRsp, b)
		if err != nil {
			return
		}
		e.ClearAttachData()
		list := protowire.Number(field%18) + 2
		short := func(element []byte) []byte { return element[:min(len(element), 1)] }
		whole := fieldsOf(t, e)
		var parts []*pb.Encoded
		if replace {
			parts = e.Split(list, int(limit), short)
		} else {
			parts = e.Split(list, int(limit), nil)
		}
		var elements [][]byte
		for i, p := range parts {
			got := fieldsOf(t, p)
			if len(parts) > 1 && len(got[list]) == 0 {
				t.Fatalf("part %d of %x has no element", i, b)
			}
			size := 0
			for num, fields := range got {
				for _, field := range fields {
					size += len(field)
				}
				if num != list && !equalFields(fields, whole[num]) {
					t.Fatalf("part %d of %x: field %d is %x, want %x", i, b, num, fields,
						whole[num])
				}
			}
			if size > int(limit) && len(got[list]) > 1 {
				t.Fatalf("part %d of %x has %d bytes and %d elements", i, b, size, len(got[list]))
			}
			elements = append(elements, got[list]...)
		}
		if replace && len(elements) != len(whole[list]) || !replace && !equalFields(elements,
			whole[list]) {
			t.Fatalf("%x: elements %x, want %x", b, elements, whole[list])
		}
	})
}

// fieldsOf returns the fields of e by number.
func fieldsOf(t *testing.T, e *pb.Encoded) map[protowire.Number][][]byte {
	t.Helper()
	b, err := e.AppendBody(nil)
	if err != nil {
		t.Fatal(err)
	}
	fields := map[protowire.Number][][]byte{}
	for len(b) > 0 {
		num, _, n := protowire.ConsumeField(b)
		if n < 0 {
			t.Fatalf("not well-formed: %x", b)
		}
		fields[num] = append(fields[num], b[:n])
		b = b[n:]
	}
	return fields
}

func equalFields(a, b [][]byte) bool {
	return bytes.Equal(bytes.Join(a, nil), bytes.Join(b, nil)) && len(a) == len(b)
}

// BenchmarkSplit splits a directory of 20,000 users, as for the first of many mobile
// clients.
func BenchmarkSplit(b *testing.B) {
	body, err := directory(20_000).AppendBody(nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		e, err := pb.ParseEncoded(pb.CmdAllUserRsp, body)
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if len(e.Split(userList, 400<<10, nil)) < 2 {
			b.Fatal("not split")
		}
	}
}
