package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Agent is a generator process to be started, on this machine or, through ssh and the like, on another: a command that runs ServeAgent on its standard input and
// output.
type Agent struct {
	Name    string
	Command []string
}

// agentRequest is what the process that was asked for a run tells an agent, a line of JSON.
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

// agentReply is what an agent tells, a line of JSON: the answer to a request, or an interval.
type agentReply struct {
	Interval *agentInterval `json:"interval,omitempty"`

	Error    string       `json:"error,omitempty"`
	Time     int64        `json:"time,omitempty"` // the agent's, in nanoseconds since 1970
	Prepared *prepared    `json:"prepared,omitempty"`
	Record   *agentRecord `json:"record,omitempty"` // of what was prepared
	Groups   []uint32     `json:"groups,omitempty"`
	Status   *status      `json:"status,omitempty"`
	Sent     []sentStream `json:"sent,omitempty"`
	Final    *final       `json:"final,omitempty"`
}

// agentInterval is an interval on its way.
type agentInterval struct {
	Index   int         `json:"index"`
	Start   int64       `json:"start"`
	End     int64       `json:"end"`
	Waiting int64       `json:"waiting"`
	Open    int64       `json:"open"`
	Checks  Checks      `json:"checks"`
	Record  agentRecord `json:"record"`
}

// agentRecord is a recorder on its way: what is not 0, by name, and histograms as in Latency.
type agentRecord struct {
	Counts  map[string]int64  `json:"counts,omitempty"`
	Counted map[string]string `json:"counted,omitempty"`
	Other   map[string]string `json:"other,omitempty"`
}

func packRecord(r *recorder) (agentRecord, error) {
	out := agentRecord{Counts: map[string]int64{}, Counted: map[string]string{}, Other: map[string]string{}}
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
			mergeInto(to.h, h) // into one of our own bounds
		}
	}
	return r, nil
}

// agentLine bounds a line between agents, in bytes: a report of what a million senders sent is long.
const agentLine = 1 << 30

// ServeAgent does as an agent what comes in over r, and answers over w, until r ends.
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
		write(&agentReply{Interval: &agentInterval{Index: in.Index, Start: in.Start, End: in.End, Waiting: in.Waiting, Open: in.Open, Checks: in.Checks, Record: rec}})
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

// serve does one request.
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
	return nil, fmt.Errorf("no such request: %q", req.Do)
}

// remote is an agent, seen from the process that started it.
type remote struct {
	name    string
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	replies chan *agentReply
	emit    func(interval)
	skew    int64 // how much its clock is ahead of ours, in nanoseconds; whole microseconds
	errText tail
	ended   chan struct{} // the process is gone, err says how
	err     error
}

// start starts the process.
func (a Agent) start(ctx context.Context, emit func(interval)) (*remote, error) {
	if len(a.Command) == 0 {
		return nil, fmt.Errorf("%s: no command", a.Name)
	}
	r := &remote{name: a.Name, cmd: exec.Command(a.Command[0], a.Command[1:]...), replies: make(chan *agentReply, 1), emit: emit, ended: make(chan struct{})}
	var err error
	if r.stdin, err = r.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("%s: %w", a.Name, err)
	}
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a.Name, err)
	}
	r.cmd.Stderr = &r.errText
	ownGroup(r.cmd)
	if err := r.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", a.Name, err)
	}
	go r.read(out)
	if err := r.compareClocks(ctx); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

// pid is the process started here: for an agent elsewhere the one that connects to it.
func (r *remote) pid() int { return r.cmd.Process.Pid }

func (r *remote) read(out io.Reader) {
	defer close(r.ended)
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, agentLine)
	err := func() error {
		for lines.Scan() {
			var reply agentReply
			if err := json.Unmarshal(lines.Bytes(), &reply); err != nil {
				return fmt.Errorf("what it says cannot be read: %w", err)
			}
			if in := reply.Interval; in != nil {
				rec, err := in.Record.unpack()
				if err != nil {
					return err
				}
				r.emit(interval{Index: in.Index, Start: in.Start - r.skew, End: in.End - r.skew, Waiting: in.Waiting, Open: in.Open, Checks: in.Checks, rec: rec})
				continue
			}
			r.replies <- &reply
		}
		return lines.Err()
	}()
	if err != nil {
		_ = r.cmd.Process.Kill()
	}
	if r.err = r.cmd.Wait(); err != nil {
		r.err = err
	}
}

// call asks the agent and waits for its answer.
func (r *remote) call(ctx context.Context, req *agentRequest) (*agentReply, error) {
	b, err := json.Marshal(req)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.name, err)
	}
	_, _ = r.stdin.Write(append(b, '\n')) // when it is gone, ended tells
	select {
	case reply := <-r.replies:
		if reply.Error != "" {
			return nil, fmt.Errorf("%s: %s", r.name, reply.Error)
		}
		return reply, nil
	case <-r.ended:
		return nil, fmt.Errorf("%s ended: %w", r.name, r.whyEnded())
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// whyEnded is what is known once the process is gone.
func (r *remote) whyEnded() error {
	err := r.err
	if err == nil {
		err = errors.New("without a word")
	}
	if text := r.errText.String(); text != "" {
		err = fmt.Errorf("%w: %s", err, text)
	}
	return err
}

// compareClocks learns how much the agent's clock is ahead, from the quickest of some questions.
func (r *remote) compareClocks(ctx context.Context) error {
	best := time.Duration(never)
	for range 8 {
		before := time.Now()
		reply, err := r.call(ctx, &agentRequest{Do: "time"})
		if err != nil {
			return err
		}
		trip := time.Since(before)
		if trip < best {
			best = trip
			r.skew = whole(reply.Time - before.UnixNano() - int64(trip/2))
		}
	}
	if r.skew < int64(best) && r.skew > -int64(best) {
		r.skew = 0 // the same clock, most likely
	}
	return nil
}

func (r *remote) prepare(ctx context.Context, j job) (*prepared, error) {
	reply, err := r.call(ctx, &agentRequest{Do: "prepare", Job: &j})
	if err != nil {
		return nil, err
	}
	if reply.Prepared == nil || reply.Record == nil {
		return nil, r.nonsense()
	}
	reply.Prepared.rec, err = reply.Record.unpack()
	return reply.Prepared, err
}

func (r *remote) nonsense() error {
	return fmt.Errorf("%s: an answer to another question", r.name)
}

func (r *remote) createGroups(ctx context.Context, specs []groupSpec) ([]uint32, error) {
	reply, err := r.call(ctx, &agentRequest{Do: "groups", Specs: specs})
	if err != nil {
		return nil, err
	}
	if len(reply.Groups) != len(specs) {
		return nil, r.nonsense()
	}
	return reply.Groups, nil
}

func (r *remote) start(ctx context.Context, p plan, groups, users []uint32) error {
	p.Start, p.Begin, p.End, p.Skew = p.Start+r.skew, p.Begin+r.skew, p.End+r.skew, r.skew
	_, err := r.call(ctx, &agentRequest{Do: "start", Plan: &p, Groups: groups, Users: users})
	return err
}

func (r *remote) stop(ctx context.Context, end int64) error {
	_, err := r.call(ctx, &agentRequest{Do: "stop", End: end + r.skew})
	return err
}

func (r *remote) status(ctx context.Context) (status, error) {
	reply, err := r.call(ctx, &agentRequest{Do: "status"})
	if err != nil {
		return status{}, err
	}
	if reply.Status == nil {
		return status{}, r.nonsense()
	}
	return *reply.Status, nil
}

func (r *remote) sent(ctx context.Context) ([]sentStream, error) {
	reply, err := r.call(ctx, &agentRequest{Do: "sent"})
	if err != nil {
		return nil, err
	}
	return reply.Sent, nil
}

func (r *remote) finish(ctx context.Context, all []sentStream) (*final, error) {
	reply, err := r.call(ctx, &agentRequest{Do: "finish", Sent: all})
	if err != nil {
		return nil, err
	}
	if reply.Final == nil {
		return nil, r.nonsense()
	}
	return reply.Final, nil
}

// close ends the process: it ends by itself when its input does, and otherwise is killed after a while.
func (r *remote) close() {
	r.stdin.Close()
	for {
		select {
		case <-r.replies: // of a call that was given up
		case <-r.ended:
			return
		case <-time.After(5 * time.Second):
			_ = r.cmd.Process.Kill()
		}
	}
}

// tail keeps the end of what a process said on standard error.
type tail struct {
	mu sync.Mutex
	b  []byte
}

// Write keeps the last bytes of p.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if over := len(t.b) - 4096; over > 0 {
		t.b = append(t.b[:0], t.b[over:]...)
	}
	return len(p), nil
}

// String is the end, on one line.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(strings.Fields(string(t.b)), " ")
}
