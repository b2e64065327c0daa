package link

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// partsRig is a link that puts answers together, and its peer.
type partsRig struct {
	*wire
	p *Remote
	o Options
}

func newPartsRig(t *testing.T, longest int) *partsRig {
	t.Helper()
	r := newRig(t)
	h := newRecorder()
	o := Options{Name: "peer", Addr: r.addr(), Handler: h, MaxFrame: 64 << 10,
		Answers:  NewAnswers(longest),
		Metrics:  NewMetrics(nil),
		Features: uint32(pb.ServerFeature_SERVER_FEATURE_PARTS)}
	p := dial(t, o)
	w := r.accept()
	<-h.opened
	w.read() // the features
	return &partsRig{w, p, o}
}

// call sends a request, and returns its result and the answer with n users to it.
func (r *partsRig) call(encoded bool, n int) (chan result, *pb.IMUsersStatRsp) {
	r.t.Helper()
	c := make(chan result, 2)
	done := func(m pb.Message, err error) { c <- result{m, err} }
	if encoded {
		r.p.CallEncoded(nil, 1, 7, statReq(5), done)
	} else {
		r.p.Call(nil, 1, 7, statReq(5), done)
	}
	_, m := r.read()
	return c, largeRsp(m, n)
}

// partsOf returns the frames of an answer in parts.
func (r *partsRig) partsOf(m pb.Message, size int) (frames [][]byte) {
	r.t.Helper()
	e, err := pb.Encode(m)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, p := range e.Parts(size) {
		frame, err := pdu.Append(nil, 7, p)
		if err != nil || len(frame) > size+100 {
			r.t.Fatalf("a part of %d bytes, %v", len(frame), err)
		}
		frames = append(frames, frame)
	}
	return frames
}

// wantWhole checks that a call ended with the answer.
func (r *partsRig) wantWhole(c chan result, want *pb.IMUsersStatRsp) {
	r.t.Helper()
	got := <-c
	if got.err != nil {
		r.t.Fatal(got.err)
	}
	if got.m.(pb.Attachment).HasAttachData() {
		r.t.Error("attach_data is passed on")
	}
	want.ClearAttachData()
	body, err := got.m.AppendBody(nil)
	wanted, _ := want.AppendBody(nil)
	if err != nil || !bytes.Equal(body, wanted) {
		r.t.Errorf("%d bytes, %v, want %d", len(body), err, len(wanted))
	}
}

// wantNone checks that nothing is being put together.
func (r *partsRig) wantNone() {
	r.t.Helper()
	if n := r.o.Answers.used.Load(); n != 0 {
		r.t.Errorf("%d bytes are reserved", n)
	}
}

// TestAnswersInParts checks that answers longer than a frame are put together, while parts
// of other answers and small answers arrive between their parts.
func TestAnswersInParts(t *testing.T) {
	r := newPartsRig(t, 1<<20)
	one, oneRsp := r.call(true, 30_000)
	two, twoRsp := r.call(false, 20_000)
	small, smallRsp := r.call(false, 1)
	a, b := r.partsOf(oneRsp, 32<<10), r.partsOf(twoRsp, 60<<10)
	if len(a) < 3 || len(b) < 3 {
		t.Fatalf("%d and %d parts", len(a), len(b))
	}
	r.write(slices.Concat(a[0], b[0], a[1]))
	r.send(7, smallRsp)
	r.wantWhole(small, smallRsp)
	r.write(slices.Concat(b[1:]...))
	r.wantWhole(two, twoRsp)
	r.write(slices.Concat(a[2:]...))
	r.wantWhole(one, oneRsp)
	r.p.Close()
	r.wantNone()
	m := r.o.Metrics
	if n := testutil.ToFloat64(m.inParts.WithLabelValues("peer")); n != 2 {
		t.Errorf("%v answers in parts are counted, want 2", n)
	}
}

// TestAnswersInPartsAreBounded checks that a call fails at the first part of an answer that
// exceeds a bound, that its other parts are ignored, and that other calls are answered.
func TestAnswersInPartsAreBounded(t *testing.T) {
	r := newPartsRig(t, 200<<10)
	long, longRsp := r.call(true, 30_000)
	first, firstRsp := r.call(true, 20_000)
	second, secondRsp := r.call(true, 20_000)
	third, thirdRsp := r.call(true, 20_000)
	wantTooLong := func(c chan result) {
		t.Helper()
		if got := <-c; !errors.Is(got.err, ErrTooLong) ||
			!strings.Contains(got.err.Error(), "link.max_answer") {
			t.Errorf("got %v, %v", got.m, got.err)
		}
	}
	r.write(slices.Concat(r.partsOf(longRsp, 32<<10)...))
	wantTooLong(long)
	a, b := r.partsOf(firstRsp, 32<<10), r.partsOf(secondRsp, 32<<10)
	c := r.partsOf(thirdRsp, 32<<10)
	r.write(slices.Concat(a[0], b[0], slices.Concat(c...)))
	wantTooLong(third)
	r.write(slices.Concat(slices.Concat(a[1:]...), slices.Concat(b[1:]...)))
	r.wantWhole(first, firstRsp)
	r.wantWhole(second, secondRsp)
	r.p.Close()
	r.wantNone()
}

// TestBrokenPartsFailTheirCall checks parts that do not fit each other, and a connection
// that ends within an answer.
func TestBrokenPartsFailTheirCall(t *testing.T) {
	r := newPartsRig(t, 1<<20)
	lost, lostRsp := r.call(true, 20_000)
	frames := r.partsOf(lostRsp, 32<<10)
	r.write(slices.Concat(frames[0], frames[2], frames[1]))
	if got := <-lost; got.err == nil {
		t.Errorf("a part is missing: %v", got.m)
	}
	cut, cutRsp := r.call(true, 20_000)
	r.write(r.partsOf(cutRsp, 32<<10)[0])
	r.nc.Close()
	if got := <-cut; got.err == nil {
		t.Errorf("the connection has ended: %v", got.m)
	}
	r.p.Close()
	r.wantNone()
}

// TestLongFrameCostsOnlyItsCall checks a frame above the limit, as a C++ db_proxy sends it:
// its call fails with the setting to change, and the link stays.
func TestLongFrameCostsOnlyItsCall(t *testing.T) {
	r := newPartsRig(t, 1<<20)
	long, longRsp := r.call(true, 30_000)
	other, otherRsp := r.call(true, 5)
	r.send(7, longRsp)
	if got := <-long; !errors.Is(got.err, ErrTooLong) ||
		!strings.Contains(got.err.Error(), "link.max_frame") {
		t.Errorf("got %v, %v", got.m, got.err)
	}
	r.send(7, otherRsp)
	r.wantWhole(other, otherRsp)
	if n := testutil.ToFloat64(r.o.Metrics.tooLong.WithLabelValues("peer")); n != 1 {
		t.Errorf("%v frames are counted, want 1", n)
	}
}
