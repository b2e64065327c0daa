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
)

// remote is an agent as seen by the process that started it.
type remote struct {
	name    string
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	replies chan *agentReply
	emit    func(interval)
	skew    int64 // lead of its clock over ours, in nanoseconds; whole microseconds
	errText tail
	ended   chan struct{} // closed when the process has ended; err is set before
	err     error
}

// start starts the process.
func (a Agent) start(ctx context.Context, emit func(interval)) (*remote, error) {
	if len(a.Command) == 0 {
		return nil, fmt.Errorf("%s: no command", a.Name)
	}
	r := &remote{name: a.Name, cmd: exec.Command(a.Command[0], a.Command[1:]...),
		replies: make(chan *agentReply, 1), emit: emit, ended: make(chan struct{})}
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

// pid returns the id of the process started here. For an agent on another machine that is
// the process that connects to it.
func (r *remote) pid() int { return r.cmd.Process.Pid }

func (r *remote) read(out io.Reader) {
	defer close(r.ended)
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, agentLine)
	err := func() error {
		for lines.Scan() {
			var reply agentReply
			if err := json.Unmarshal(lines.Bytes(), &reply); err != nil {
				return fmt.Errorf("invalid answer: %w", err)
			}
			if in := reply.Interval; in != nil {
				rec, err := in.Record.unpack()
				if err != nil {
					return err
				}
				r.emit(interval{Index: in.Index, Start: in.Start - r.skew, End: in.End - r.skew,
					Waiting: in.Waiting, Open: in.Open, Checks: in.Checks, rec: rec})
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

// call sends a request to the agent and waits for the answer.
func (r *remote) call(ctx context.Context, req *agentRequest) (*agentReply, error) {
	b, err := json.Marshal(req)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.name, err)
	}
	// an error means that the process has ended, which closes ended
	_, _ = r.stdin.Write(append(b, '\n'))
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

// whyEnded returns the reason for the end of the process.
func (r *remote) whyEnded() error {
	err := r.err
	if err == nil {
		err = errors.New("without an error")
	}
	if text := r.errText.String(); text != "" {
		err = fmt.Errorf("%w: %s", err, text)
	}
	return err
}

// compareClocks measures the lead of the agent's clock, from the quickest of eight
// requests.
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
	return fmt.Errorf("%s: the answer belongs to another request", r.name)
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

// close ends the process by closing its input, and kills it if it has not ended after
// five seconds.
func (r *remote) close() {
	r.stdin.Close()
	for {
		select {
		case <-r.replies: // of a call that was abandoned
		case <-r.ended:
			return
		case <-time.After(5 * time.Second):
			_ = r.cmd.Process.Kill()
		}
	}
}

// tail keeps the last bytes that a process wrote to standard error.
type tail struct {
	mu sync.Mutex
	b  []byte
}

// Write appends p and keeps the last 4096 bytes.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if over := len(t.b) - 4096; over > 0 {
		t.b = append(t.b[:0], t.b[over:]...)
	}
	return len(p), nil
}

// String returns the bytes on one line.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(strings.Fields(string(t.b)), " ")
}
