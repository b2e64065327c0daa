package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// SingleOptions sets up Single.
type SingleOptions struct {
	Target
	// Pairs is how many pairs of users write, the first of each to the second. Default 200.
	Pairs int
	// Rate is the messages a second of all pairs together; they leave on a schedule, and latency counts from the scheduled time, so
	// that a server that stalls cannot hide it. 0: as fast as Window allows.
	Rate float64
	// Window is how many messages of a pair may wait for their ack when Rate is 0. Default 16.
	Window int
	// Size is the length of each text, in bytes, at least 32. Default 64.
	Size int
	// Warmup is not counted, Duration is. Defaults 2 s and 10 s.
	Warmup, Duration time.Duration
}

// SingleReport is what Single found. Latencies are in milliseconds.
type SingleReport struct {
	Pairs      int     `json:"pairs"`
	Rate       float64 `json:"rate,omitempty"`
	Window     int     `json:"window,omitempty"`
	Seconds    float64 `json:"seconds"`
	Acked      int64   `json:"acked"`
	AckedRate  float64 `json:"acked_per_second"`
	Delivered  int64   `json:"delivered"`
	Ack        Summary `json:"ack_ms"`
	Delivery   Summary `json:"delivery_ms"`
	Lost       int64   `json:"lost"`          // acked, never delivered
	Unacked    int64   `json:"unacked"`       // sent, never acked
	Duplicates int64   `json:"duplicates"`    // delivered twice
	Reordered  int64   `json:"reordered"`     // delivered after a later one
	Errors     int64   `json:"broken_errors"` // connections that broke
}

// Summary is a distribution.
type Summary struct {
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99.9"`
	Max  float64 `json:"max"`
}

// Bad reports whether anything was lost, doubled, reordered or broken.
func (r *SingleReport) Bad() bool {
	return r.Lost+r.Unacked+r.Duplicates+r.Reordered+r.Errors > 0
}

// maxLatency bounds the histograms, in microseconds.
const maxLatency = 120_000_000

// pair is one sender and its recipient.
type pair struct {
	from, to *conn

	mu        sync.Mutex
	waiting   map[uint16]time.Time // by seq: when it was due
	acked     int64
	delivered int64
	ack, del  *hdrhistogram.Histogram

	sent      int64
	lastIn    uint64 // number of the last message delivered
	dups      int64
	reordered int64
	window    chan struct{}
}

type run struct {
	opt     SingleOptions
	begin   time.Time // of counting
	end     time.Time
	broken  atomic.Int64
	closing atomic.Bool
}

// Single has pairs of users write texts, one way, and measures the time from send to ack and from send to delivery.
func Single(ctx context.Context, opt SingleOptions) (*SingleReport, error) {
	if err := opt.defaults(); err != nil {
		return nil, err
	}
	if opt.Pairs <= 0 {
		opt.Pairs = 200
	}
	if opt.Window <= 0 {
		opt.Window = 16
	}
	if opt.Size < 32 {
		opt.Size = max(opt.Size, 64)
	}
	if opt.Warmup <= 0 {
		opt.Warmup = 2 * time.Second
	}
	if opt.Duration <= 0 {
		opt.Duration = 10 * time.Second
	}
	conns, err := opt.login(ctx, 1, 2*opt.Pairs, pb.ClientType_CLIENT_TYPE_ANDROID)
	if err != nil {
		return nil, err
	}
	defer closeAll(conns)

	r := &run{opt: opt, begin: time.Now().Add(opt.Warmup)}
	r.end = r.begin.Add(opt.Duration)
	pairs := make([]*pair, opt.Pairs)
	var readers, writers sync.WaitGroup
	for i := range pairs {
		p := &pair{
			from: conns[2*i], to: conns[2*i+1], waiting: map[uint16]time.Time{}, window: make(chan struct{}, opt.Window),
			ack: newHistogram(), del: newHistogram(),
		}
		pairs[i] = p
		readers.Go(func() { r.read(p.from, p.onSender(r)) })
		readers.Go(func() { r.read(p.to, p.onRecipient(r)) })
		writers.Go(func() { r.write(ctx, p, i) })
	}
	writers.Wait()
	r.settle(ctx, pairs)
	r.closing.Store(true)
	closeAll(conns)
	readers.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return r.report(pairs), nil
}

// write sends messages until the end. Each carries its number and the time it was due.
func (r *run) write(ctx context.Context, p *pair, index int) {
	text := make([]byte, r.opt.Size)
	for i := range text {
		text[i] = 'x'
	}
	var frame []byte
	var every time.Duration
	next := time.Now()
	if r.opt.Rate > 0 {
		every = time.Duration(float64(time.Second) * float64(r.opt.Pairs) / r.opt.Rate)
		next = next.Add(every * time.Duration(index) / time.Duration(r.opt.Pairs)) // pairs take turns
	}
	for ctx.Err() == nil {
		var due time.Time
		if every > 0 {
			due = next
			next = next.Add(every)
			if pause(ctx, time.Until(due)) != nil {
				return
			}
		} else {
			select {
			case p.window <- struct{}{}:
			case <-ctx.Done():
				return
			}
			due = time.Now()
		}
		if due.After(r.end) {
			return
		}
		p.sent++
		encodeStamp(text, uint64(p.sent), due)
		seq := uint16(p.sent%0xffff) + 1
		m := &pb.MsgData{FromUserID: p.from.user, ToSessionID: p.to.user, Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, Data: text}
		p.mu.Lock()
		p.waiting[seq] = due
		p.mu.Unlock()
		frame, _ = pdu.Append(frame[:0], seq, m) // cannot fail: every field has a value
		if _, err := p.from.Write(frame); err != nil {
			r.broke(err)
			return
		}
	}
}

// encodeStamp writes number and time into the text, in letters, so that it stays one for every store.
func encodeStamp(text []byte, n uint64, due time.Time) {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], n)
	binary.BigEndian.PutUint64(b[8:], uint64(due.UnixMicro()))
	const digits = "abcdefghijklmnop"
	for i := range min(32, len(text)/2*2) / 2 {
		text[2*i], text[2*i+1] = digits[b[i]>>4], digits[b[i]&15]
	}
}

func decodeStamp(text []byte) (n uint64, due time.Time, ok bool) {
	if len(text) < 32 {
		return 0, time.Time{}, false
	}
	var b [16]byte
	for i := range b {
		hi, lo := text[2*i]-'a', text[2*i+1]-'a'
		if hi > 15 || lo > 15 {
			return 0, time.Time{}, false
		}
		b[i] = hi<<4 | lo
	}
	return binary.BigEndian.Uint64(b[:]), time.UnixMicro(int64(binary.BigEndian.Uint64(b[8:]))), true
}

func (r *run) counts(due time.Time) bool { return !due.Before(r.begin) && due.Before(r.end) }

func (p *pair) onSender(r *run) func(h pdu.Header, body []byte) {
	return func(h pdu.Header, _ []byte) {
		if h.Command != pb.CmdMsgDataAck {
			return
		}
		now := time.Now()
		p.mu.Lock()
		due, ok := p.waiting[h.Seq]
		delete(p.waiting, h.Seq)
		if ok && r.counts(due) {
			p.acked++
			_ = p.ack.RecordValue(min(maxLatency, max(1, now.Sub(due).Microseconds())))
		}
		p.mu.Unlock()
		if ok && r.opt.Rate == 0 {
			<-p.window
		}
	}
}

func (p *pair) onRecipient(r *run) func(h pdu.Header, body []byte) {
	var m pb.MsgData
	var ack []byte
	return func(h pdu.Header, body []byte) {
		if h.Command != pb.CmdMsgData || m.ParseBody(body) != nil || m.FromUserID != p.from.user {
			return
		}
		a := &pb.IMMsgDataAck{}
		a.SetUserId(p.to.user)
		a.SetSessionId(p.from.user)
		a.SetMsgId(m.MsgID)
		a.SetSessionType(pb.SessionType_SESSION_TYPE_SINGLE)
		ack, _ = pdu.Append(ack[:0], 0, a)
		if _, err := p.to.Write(ack); err != nil {
			r.broke(err)
		}
		n, due, ok := decodeStamp(m.Data)
		if !ok {
			return
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		switch {
		case n == p.lastIn:
			p.dups++
			return
		case n < p.lastIn:
			p.reordered++
		default:
			p.lastIn = n
		}
		p.delivered++
		if r.counts(due) {
			_ = p.del.RecordValue(min(maxLatency, max(1, time.Since(due).Microseconds())))
		}
	}
}

func (r *run) read(c *conn, on func(h pdu.Header, body []byte)) {
	for {
		h, body, err := c.next()
		if err != nil {
			r.broke(err)
			return
		}
		on(h, body)
	}
}

func (r *run) broke(err error) {
	if !r.closing.Load() && !errors.Is(err, net.ErrClosed) && !errors.Is(err, os.ErrDeadlineExceeded) {
		r.broken.Add(1)
	}
}

// settle waits until everything sent is acked and delivered, or nothing has come for five seconds.
func (r *run) settle(ctx context.Context, pairs []*pair) {
	last, since := int64(-1), time.Now()
	for time.Since(since) < 5*time.Second {
		var got, want int64
		for _, p := range pairs {
			p.mu.Lock()
			got += p.delivered + p.sent - int64(len(p.waiting))
			want += 2 * p.sent
			p.mu.Unlock()
		}
		if got >= want {
			return
		}
		if got != last {
			last, since = got, time.Now()
		}
		if pause(ctx, 20*time.Millisecond) != nil {
			return
		}
	}
}

func (r *run) report(pairs []*pair) *SingleReport {
	out := &SingleReport{Pairs: r.opt.Pairs, Rate: r.opt.Rate, Seconds: r.opt.Duration.Seconds(), Errors: r.broken.Load()}
	if r.opt.Rate == 0 {
		out.Window = r.opt.Window
	}
	ack, del := newHistogram(), newHistogram()
	for _, p := range pairs {
		out.Acked += p.acked
		out.Delivered += p.delivered
		out.Unacked += int64(len(p.waiting))
		out.Lost += max(0, p.sent-int64(len(p.waiting))-p.delivered)
		out.Duplicates += p.dups
		out.Reordered += p.reordered
		ack.Merge(p.ack)
		del.Merge(p.del)
	}
	out.AckedRate = float64(out.Acked) / out.Seconds
	out.Ack, out.Delivery = summarize(ack), summarize(del)
	return out
}

func summarize(h *hdrhistogram.Histogram) Summary {
	ms := func(q float64) float64 { return float64(h.ValueAtQuantile(q)) / 1000 }
	return Summary{P50: ms(50), P90: ms(90), P99: ms(99), P999: ms(99.9), Max: float64(h.Max()) / 1000}
}

// Print writes the report for people.
func (r *SingleReport) Print(w io.Writer) {
	if r.Rate > 0 {
		fmt.Fprintf(w, "%d pairs, %.0f messages/s on schedule, %.0f s\n", r.Pairs, r.Rate, r.Seconds)
	} else {
		fmt.Fprintf(w, "%d pairs, up to %d messages of each on their way, %.0f s\n", r.Pairs, r.Window, r.Seconds)
	}
	fmt.Fprintf(w, "acked %.0f/s\n", r.AckedRate)
	for _, l := range []struct {
		name string
		s    Summary
	}{{"send → ack", r.Ack}, {"send → delivery", r.Delivery}} {
		fmt.Fprintf(w, "%-16s p50 %.2f  p90 %.2f  p99 %.2f  p99.9 %.2f  max %.2f ms\n", l.name, l.s.P50, l.s.P90, l.s.P99, l.s.P999, l.s.Max)
	}
	verdict := "everything acked, delivered once and in order"
	if r.Bad() {
		verdict = "NOT CLEAN"
	}
	fmt.Fprintf(w, "%s: %d lost, %d unacked, %d doubled, %d reordered, %d connections broken\n",
		verdict, r.Lost, r.Unacked, r.Duplicates, r.Reordered, r.Errors)
}

// newHistogram takes microseconds, with three digits.
func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, maxLatency, 3) }
