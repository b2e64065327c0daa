package file

import (
	"testing"

	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// FuzzSegment: parseSegment returns the same values as the decoder.
func FuzzSegment(f *testing.F) {
	frame, data := segmentFrame(7, "6bd466b8-85bd-4ec3-94a6-01886865f3e0", 4936, 98304, 10)
	copy(data, "0123456789")
	body := frame[pdu.HeaderLen:]
	f.Add(body)
	f.Add(append(append([]byte{}, body...), body...))
	f.Add(body[:len(body)-1])
	f.Add([]byte{8, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		seg, err := parseSegment(b)
		var m pb.IMFilePullDataRsp
		decoded := m.ParseBody(b)
		if err == nil && decoded == nil && (seg.code != m.GetResultCode() ||
			string(seg.task) != m.GetTaskId() || seg.offset != m.GetOffset() ||
			seg.length != len(m.GetFileData())) {
			t.Fatalf("parsed: %+v, decoded: %v", seg, &m)
		}
		if decoded == nil && err != nil {
			t.Fatalf("the decoder accepts a segment that parseSegment rejects: %v", err)
		}
	})
}

// TestSegmentFrame: the frame equals the encoded message.
func TestSegmentFrame(t *testing.T) {
	for _, n := range []int{1, 127, 128, Segment} {
		got, data := segmentFrame(9, "6bd466b8-85bd-4ec3-94a6-01886865f3e0", 1<<32-1, 1<<32-1, n)
		for i := range data {
			data[i] = byte(i)
		}
		m := pb.IMFilePullDataRsp_builder{ResultCode: new(uint32(0)),
			TaskId: new("6bd466b8-85bd-4ec3-94a6-01886865f3e0"), UserId: new(uint32(1<<32 - 1)),
			Offset: new(uint32(1<<32 - 1)), FileData: data}.Build()
		want, err := pdu.Append(nil, 9, m)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) || len(got) > MaxFrame {
			t.Errorf("%d bytes: another frame, of %d bytes instead of %d", n, len(got), len(want))
		}
	}
}
