package file_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/budget"
	"teamtalk/core/config"
	"teamtalk/core/engine"
	"teamtalk/core/opt/opttest"
	"teamtalk/core/pdu"
	"teamtalk/core/spool"
	"teamtalk/handlers/file"
	"teamtalk/pool"
	"teamtalk/proto/pb"
)

// patience is the longest time that any step of a test may take.
const patience = time.Minute

// Roles of clients.
const (
	sender     = pb.ClientFileRole_CLIENT_REALTIME_SENDER
	receiver   = pb.ClientFileRole_CLIENT_REALTIME_RECVER
	uploader   = pb.ClientFileRole_CLIENT_OFFLINE_UPLOAD
	downloader = pb.ClientFileRole_CLIENT_OFFLINE_DOWNLOAD
	online     = pb.TransferFileType_FILE_TYPE_ONLINE
	offline    = pb.TransferFileType_FILE_TYPE_OFFLINE
)

// house is a file server with a spool and a pool, on TCP ports.
type house struct {
	t       testing.TB
	dir     string
	opt     file.Options
	spoolOp spool.Options
	server  *file.Server
	spool   *spool.Spool
	pool    *pool.Pool
	reg     *prometheus.Registry
	clients *engine.Server
	servers *engine.Server
	gate    *gate // between server and pool, in tests that need one
	loops   int   // event loops for clients
}

func open(t testing.TB, opt file.Options) *house { t.Helper(); return openOn(t, opt, 2) }

// openOn starts a server with this number of event loops for clients.
func openOn(t testing.TB, opt file.Options, loops int) *house {
	t.Helper()
	c := config.Default()
	h := &house{t: t, dir: t.TempDir(), loops: loops}
	h.spoolOp = spool.Options{
		Quota: 16 << 30, MaxFiles: c.File.MaxTasks, MaxUserFiles: 1000,
		KeepUnfinished: c.File.KeepUnfinished, KeepWaiting: c.File.KeepWaiting,
		KeepFetched: c.File.KeepFetched,
	}
	h.opt = opttest.Fill(opt, file.Options{
		Grace: c.File.CompareGrace, MaxTasks: c.File.MaxTasks, MaxUserTasks: c.File.MaxUserTasks,
		UploadWindow: c.File.UploadWindow, LoginDeadline: patience, IdleTimeout: patience,
		LinkTimeout: patience, LinkHeartbeat: patience,
	})
	h.start()
	t.Cleanup(h.stop)
	return h
}

func (h *house) start() {
	h.t.Helper()
	var err error
	h.spoolOp.Dir = h.dir
	if h.spool, err = spool.Open(h.spoolOp); err != nil {
		h.t.Fatal(err)
	}
	h.pool, h.reg = pool.New(pool.Options{Name: "file", Workers: 8}), prometheus.NewRegistry()
	opt := h.opt
	opt.Spool, opt.Tasks, opt.Registerer = h.spool, h.pool, h.reg
	if h.gate != nil {
		h.gate.Tasks = h.pool
		opt.Tasks = h.gate
	}
	h.server = file.New(opt)
	h.clients, err = engine.Start(engine.Options{Name: "file", Addr: "127.0.0.1:0",
		Clients: h.server.Clients(), Loops: h.loops, MaxFrame: file.MaxFrame,
		Budget: budget.Fixed(12_000)})
	if err == nil {
		h.servers, err = engine.Start(engine.Options{Name: "servers", Addr: "127.0.0.1:0",
			Links: h.server.Servers(), Loops: 1})
	}
	if err != nil {
		h.t.Fatal(err)
	}
	h.server.SetAddresses(file.Address{IP: "127.0.0.1", Port: 15860})
}

// stop stops the server as an operator does.
func (h *house) stop() {
	if h.spool == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := errors.Join(h.clients.Close(ctx), h.servers.Close(ctx), h.pool.Close(ctx),
		h.spool.Close())
	if err != nil {
		h.t.Errorf("stop: %v", err)
	}
	h.spool = nil
}

// metric returns a metric's value, summed over its labels, or over those with one of values.
func (h *house) metric(name string, values ...string) float64 {
	h.t.Helper()
	families, err := h.reg.Gather()
	if err != nil {
		h.t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				counts := len(values) == 0
				for _, l := range m.GetLabel() {
					counts = counts || slices.Contains(values, l.GetValue())
				}
				if counts {
					sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
				}
			}
		}
	}
	return sum
}

// until polls until ok, for a condition that no event reports.
func (h *house) until(what string, ok func() bool) {
	h.t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			h.t.Fatalf("not reached within %v: %s", patience, what)
		}
	}
}

// peer is a connection to the server.
type peer struct {
	t testing.TB
	net.Conn
	r   *bufio.Reader
	out []byte
}

func (h *house) dial() *peer { return dial(h.t, h.clients.Addr()) }

func dial(t testing.TB, addr net.Addr) *peer {
	t.Helper()
	c, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(3 * patience)); err != nil {
		t.Fatal(err)
	}
	return &peer{t: t, Conn: c, r: bufio.NewReaderSize(c, 64<<10)}
}

// write sends a message. It fails on a closed connection.
func (p *peer) write(seq uint16, m pb.Message) error {
	frame, err := pdu.Append(p.out[:0], seq, m)
	if err != nil {
		return err
	}
	p.out = frame
	_, err = p.Write(frame)
	return err
}

func (p *peer) send(seq uint16, m pb.Message) {
	p.t.Helper()
	if err := p.write(seq, m); err != nil {
		p.t.Fatal(err)
	}
}

// read returns the next message.
func (p *peer) read() (uint16, pb.Message, error) {
	_, raw, err := p.readRaw()
	if err != nil {
		return 0, nil, err
	}
	h := pdu.ParseHeader(raw)
	m, err := pdu.Decode(h.Command, raw[pdu.HeaderLen:])
	return h.Seq, m, err
}

func (p *peer) readRaw() (pdu.Header, []byte, error) {
	raw := make([]byte, pdu.HeaderLen)
	if _, err := io.ReadFull(p.r, raw); err != nil {
		return pdu.Header{}, nil, err
	}
	h := pdu.ParseHeader(raw)
	if h.Length < pdu.HeaderLen || h.Length > 1<<20 {
		return h, nil, fmt.Errorf("frame of %d bytes", h.Length)
	}
	raw = append(raw, make([]byte, h.Length-pdu.HeaderLen)...)
	_, err := io.ReadFull(p.r, raw[pdu.HeaderLen:])
	return h, raw, err
}

// next returns the next message, which must be of type M.
func next[M pb.Message](p *peer) M {
	p.t.Helper()
	_, m, err := p.read()
	if err != nil {
		p.t.Fatalf("no answer: %v", err)
	}
	typed, ok := m.(M)
	if !ok {
		p.t.Fatalf("got %s: %v", m.Command(), m)
	}
	return typed
}

// closed fails unless the server closes the connection without a further message.
func (p *peer) closed(what string) {
	p.t.Helper()
	if _, m, err := p.read(); err == nil {
		p.t.Errorf("%s: got %s, want the end of the connection", what, m.Command())
	} else if errors.Is(err, os.ErrDeadlineExceeded) {
		p.t.Errorf("%s: the connection stays open", what)
	}
}

// task creates a task over a message server's link.
func (h *house) task(from, to uint32, size int, mode pb.TransferFileType) string {
	h.t.Helper()
	p := dial(h.t, h.servers.Addr())
	defer p.Close()
	rsp := p.task(from, to, size, mode)
	if rsp.GetResultCode() != 0 || rsp.GetTaskId() == "" {
		h.t.Fatalf("no task: %v", rsp)
	}
	return rsp.GetTaskId()
}

func (p *peer) task(from, to uint32, size int, mode pb.TransferFileType) *pb.IMFileTransferRsp {
	p.t.Helper()
	n := uint32(size)
	p.send(1, pb.IMFileTransferReq_builder{FromUserId: &from, ToUserId: &to, FileName: new("a.bin"),
		FileSize: &n, TransMode: &mode, AttachData: []byte("back")}.Build())
	return next[*pb.IMFileTransferRsp](p)
}

func (p *peer) login(user uint32, task string, role pb.ClientFileRole) {
	p.t.Helper()
	p.send(1, pb.IMFileLoginReq_builder{UserId: &user, TaskId: &task, FileRole: &role}.Build())
}

// in logs a client in. The login must succeed.
func (h *house) in(user uint32, task string, role pb.ClientFileRole) *peer {
	h.t.Helper()
	p := h.dial()
	p.login(user, task, role)
	if rsp := next[*pb.IMFileLoginRsp](p); rsp.GetResultCode() != 0 || rsp.GetTaskId() != task {
		h.t.Fatalf("login: %v", rsp)
	}
	return p
}

func pullReq(task string, user uint32, mode pb.TransferFileType, at, n int) *pb.IMFilePullDataReq {
	return pb.IMFilePullDataReq_builder{TaskId: &task, UserId: &user, TransMode: &mode,
		Offset: new(uint32(at)), DataSize: new(uint32(n))}.Build()
}

func data(task string, user uint32, at int, b []byte) *pb.IMFilePullDataRsp {
	return pb.IMFilePullDataRsp_builder{ResultCode: new(uint32(0)), TaskId: &task, UserId: &user,
		Offset: new(uint32(at)), FileData: b}.Build()
}

func state(task string, user uint32, st pb.ClientFileState) *pb.IMFileState {
	return pb.IMFileState_builder{State: &st, TaskId: &task, UserId: &user}.Build()
}

// serve answers pulls from content until the transfer has ended or after bytes are
// requested; then it returns without a message. It returns the last state.
func (p *peer) serve(task string, user uint32, content []byte, after int) (pb.ClientFileState,
	error) {
	for {
		seq, m, err := p.read()
		if err != nil {
			return 0, err
		}
		switch m := m.(type) {
		case *pb.IMFilePullDataReq:
			at := int(m.GetOffset())
			if at >= after {
				return 0, nil
			}
			if err := p.write(seq, data(task, user, at,
				content[at:min(len(content), at+int(m.GetDataSize()))])); err != nil {
				return 0, err
			}
		case *pb.IMFileState:
			return m.GetState(), nil
		default:
			return 0, fmt.Errorf("got %s", m.Command())
		}
	}
}

// fetch pulls from offset at, with a number of pulls in flight, until it has the whole
// file or more than after bytes.
func (p *peer) fetch(task string, user uint32, mode pb.TransferFileType, size, at, window,
	after int) ([]byte, error) {
	var got []byte
	asked := at
	for at < size && at <= after {
		for asked < size && asked < at+window*file.Segment {
			n := min(file.Segment, size-asked)
			if err := p.write(9, pullReq(task, user, mode, asked, n)); err != nil {
				return got, err
			}
			asked += n
		}
		_, m, err := p.read()
		if err != nil {
			return got, err
		}
		rsp, ok := m.(*pb.IMFilePullDataRsp)
		if !ok || rsp.GetResultCode() != 0 || int(rsp.GetOffset()) != at ||
			len(rsp.GetFileData()) == 0 {
			return got, fmt.Errorf("at %d: got %s with %d bytes", at, m.Command(),
				len(rsp.GetFileData()))
		}
		got = append(got, rsp.GetFileData()...)
		at += len(rsp.GetFileData())
	}
	return got, nil
}

// random returns bytes that depend on the seed only.
func random(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 1))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func sameBytes(t testing.TB, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got %d bytes that differ from the %d sent", what, len(got), len(want))
	}
}

// gate blocks the work on the spool until hold is closed.
type gate struct {
	file.Tasks
	hold chan struct{}
}

func (g *gate) Do(key uint64, task func(context.Context)) error {
	return g.Tasks.Do(key, func(ctx context.Context) {
		<-g.hold
		task(ctx)
	})
}
