package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Agent is a generator process to start: a command that runs ServeAgent on its standard
// input and output. It runs on this machine or, through ssh or the like, on another.
type Agent struct {
	Name    string
	Command []string
}

// agentRequest is what the coordinator asks of an agent, as a line of JSON.
type agentRequest struct {
	Do     string       `json:"do"` // time, prepare, groups, start, stop, status, sent, finish
	Job    *job         `json:"job,omitempty"`
	Specs  []groupSpec  `json:"specs,omitempty"`
	Plan   *plan        `json:"plan,omitempty"`
	Groups []uint32     `json:"groups,omitempty"`
	Users  []uint32     `json:"users,omitempty"`
	Sent   []sentStream `json:"sent,omitempty"`
	End    int64        `json:"end,omitempty"`
}

// agentReply is what an agent answers, as a line of JSON: the answer to a request, or an
// interval.
type agentReply struct {
	Interval *agentInterval `json:"interval,omitempty"`

	Error    string       `json:"error,omitempty"`
	Time     int64        `json:"time,omitempty"` // by the agent's clock, in nanoseconds since 1970
	Prepared *prepared    `json:"prepared,omitempty"`
	Record   *agentRecord `json:"record,omitempty"` // of the preparation
	Groups   []uint32     `json:"groups,omitempty"`
	Status   *status      `json:"status,omitempty"`
	Sent     []sentStream `json:"sent,omitempty"`
	Final    *final       `json:"final,omitempty"`
}

// agentInterval is an interval in transit.
type agentInterval struct {
	Index   int         `json:"index"`
	Start   int64       `json:"start"`
	End     int64       `json:"end"`
	Waiting int64       `json:"waiting"`
	Open    int64       `json:"open"`
	Checks  Checks      `json:"checks"`
	Record  agentRecord `json:"record"`
}

// agentRecord is a recorder in transit: counts that are not 0, by name, and histograms as
// in Latency.
type agentRecord struct {
	Counts  map[string]int64  `json:"counts,omitempty"`
	Counted map[string]string `json:"counted,omitempty"`
	Other   map[string]string `json:"other,omitempty"`
}

func packRecord(r *recorder) (agentRecord, error) {
	out := agentRecord{Counts: map[string]int64{}, Counted: map[string]string{},
		Other: map[string]string{}}
	for i, n := range r.counts {
		if n != 0 {
			out.Counts[counterNames[i]] = n
		}
	}
	pack := func(into map[string]string, hs *[ops]*hdrhistogram.Histogram) error {
		for i, h := range hs {
			if h == nil || h.TotalCount() == 0 {
				continue
			}
			b, err := h.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
			if err != nil {
				return fmt.Errorf("encode histogram of %s: %w", opNames[i], err)
			}
			into[opNames[i]] = string(b)
		}
		return nil
	}
	return out, errors.Join(pack(out.Counted, &r.counted), pack(out.Other, &r.other))
}

func (a *agentRecord) unpack() (*recorder, error) {
	r := &recorder{}
	for i, name := range counterNames {
		r.counts[i] = a.Counts[name]
	}
	for i, name := range opNames {
		for _, to := range []struct {
			h    **hdrhistogram.Histogram
			text string
		}{{&r.counted[i], a.Counted[name]}, {&r.other[i], a.Other[name]}} {
			if to.text == "" {
				continue
			}
			h, err := hdrhistogram.Decode([]byte(to.text))
			if err != nil {
				return nil, fmt.Errorf("decode histogram of %s: %w", name, err)
			}
			mergeInto(to.h, h) // into a histogram with our own bounds
		}
	}
	return r, nil
}

// agentLine bounds a line of JSON, in bytes. A list of what a million senders sent is
// long.
const agentLine = 1 << 30

// ServeAgent executes the requests read from r and writes the answers to w, until r ends.
func ServeAgent(ctx context.Context, r io.Reader, w io.Writer) error {
	var mu sync.Mutex
	var writeErr error
	enc := json.NewEncoder(w)
	write := func(reply *agentReply) {
		mu.Lock()
		defer mu.Unlock()
		writeErr = errors.Join(writeErr, enc.Encode(reply))
	}
	p := newLocal(func(in interval) {
		rec, err := packRecord(in.rec)
		if err != nil {
			in.Checks.example("%v", err)
		}
		write(&agentReply{Interval: &agentInterval{Index: in.Index, Start: in.Start, End: in.End,
			Waiting: in.Waiting, Open: in.Open, Checks: in.Checks, Record: rec}})
	})
	defer p.close()
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, agentLine)
	for lines.Scan() {
		var req agentRequest
		if err := json.Unmarshal(lines.Bytes(), &req); err != nil {
			return fmt.Errorf("read request: %w", err)
		}
		reply, err := p.serve(ctx, &req)
		if err != nil {
			reply = &agentReply{Error: err.Error()}
		}
		write(reply)
		mu.Lock()
		err = writeErr
		mu.Unlock()
		if err != nil {
			return err
		}
	}
	return lines.Err()
}

// serve executes one request.
func (p *local) serve(ctx context.Context, req *agentRequest) (*agentReply, error) {
	switch {
	case req.Do == "time":
		return &agentReply{Time: time.Now().UnixNano()}, nil
	case req.Do == "prepare" && req.Job != nil && p.swarm == nil:
		out, err := p.prepare(ctx, *req.Job)
		if err != nil {
			return nil, err
		}
		rec, err := packRecord(out.rec)
		return &agentReply{Prepared: out, Record: &rec}, err
	case p.swarm == nil:
		return nil, errors.New("not prepared")
	case req.Do == "groups":
		ids, err := p.createGroups(ctx, req.Specs)
		return &agentReply{Groups: ids}, err
	case req.Do == "start" && req.Plan != nil:
		return &agentReply{}, p.start(ctx, *req.Plan, req.Groups, req.Users)
	case req.Do == "stop":
		return &agentReply{}, p.stop(ctx, req.End)
	case req.Do == "status":
		st, err := p.status(ctx)
		return &agentReply{Status: &st}, err
	case req.Do == "sent":
		sent, err := p.sent(ctx)
		return &agentReply{Sent: sent}, err
	case req.Do == "finish":
		f, err := p.finish(ctx, req.Sent)
		return &agentReply{Final: f}, err
	}
	return nil, fmt.Errorf("unknown request %q", req.Do)
}
