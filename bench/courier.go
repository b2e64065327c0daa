package bench

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"teamtalk/bench/swarm"
	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// segment is the length of a piece of a file, and segmentsAhead the number of pieces that
// the receiver requests in advance, as stock clients do.
const (
	segment       = 32 << 10
	segmentsAhead = 8
)

// courier transfers files between clients of one worker over the file server. The content
// of a file follows from its number, so the receiver can compare each byte.
type courier struct {
	w       *worker
	content []byte // a random block, repeated; each file starts at some offset of it
	next    uint32
	byID    map[uint32]*transfer
	byName  map[string]*transfer        // by the file's name: each side has its own id of the task
	early   map[string]*pb.IMFileNotify // by name; arrived before the sender received the task
	ended   func(t *transfer)           // called for each transfer that ended
	scratch []byte
}

// maxEarly bounds courier.early. Notifies without a transfer, from earlier runs, arrive
// too.
const maxEarly = 1024

// transfer is a file in transit.
type transfer struct {
	courier  *courier
	id       uint32
	from, to *client
	name     string
	size     int64
	online   bool
	due      int64 // scheduled time
	uploaded int64 // when the server had the whole file
	addr     netip.AddrPort
	sender   *fileConn
	receiver *fileConn
	deadline int64 // the transfer fails when no byte moves until then
	over     bool
}

func newCourier(w *worker, ended func(*transfer)) *courier {
	c := &courier{w: w, byID: map[uint32]*transfer{}, byName: map[string]*transfer{},
		early: map[string]*pb.IMFileNotify{}, ended: ended}
	// The same on each worker and in each generator.
	rng := rand.New(rand.NewPCG(uint64(w.part.run), 0xf11e))
	c.content = make([]byte, 4*segment)
	for i := 0; i < len(c.content); i += 8 {
		binary.LittleEndian.PutUint64(c.content[i:], rng.Uint64())
	}
	w.loop.At(w.loop.Now()+second, c.sweep)
	return c
}

// piece returns n bytes of a transfer's file at an offset. n is at most segment.
func (c *courier) piece(t *transfer, offset int64, n int) []byte {
	at := (int64(t.id)*7919 + offset) % int64(len(c.content)-segment)
	return c.content[at : at+int64(n)]
}

// send starts a transfer.
func (c *courier) send(from, to *client, size int64, online bool, due int64) {
	if !from.isOnline() || !to.isOnline() {
		return
	}
	c.next++
	t := &transfer{courier: c, id: c.next, from: from, to: to, size: size, online: online, due: due}
	t.name = fmt.Sprintf("bench-%d-%d-%d.bin", c.w.part.run, from.index, t.id)
	c.byID[t.id] = t
	c.w.waiting++
	t.moved()
	mode := pb.TransferFileType_FILE_TYPE_OFFLINE
	if online {
		mode = pb.TransferFileType_FILE_TYPE_ONLINE
	}
	req := pb.IMFileReq_builder{FromUserId: proto.Uint32(from.id), ToUserId: proto.Uint32(to.id),
		FileName: proto.String(t.name),
		FileSize: proto.Uint32(uint32(size)), TransMode: mode.Enum()}.Build()
	from.requestNumber(opFileRequest, t.id, due, req)
}

func (t *transfer) moved() {
	t.deadline = t.courier.w.loop.Now() + int64(t.courier.w.part.scenario.Timeout)
}

// sweep fails transfers in which nothing moved.
func (c *courier) sweep(now int64) int64 {
	for _, t := range c.byID {
		if now > t.deadline {
			t.fail(fmt.Errorf("nothing moved for %v", c.w.part.scenario.Timeout))
		}
	}
	return now + second
}

// fail ends a transfer with an error.
func (t *transfer) fail(err error) {
	if !t.over {
		t.from.refuse("file %s to user %d, %d bytes: %v", t.name, t.to.id, t.size, err)
		t.end()
	}
}

func (t *transfer) end() {
	t.over = true
	c := t.courier
	delete(c.byID, t.id)
	delete(c.byName, t.name)
	c.w.waiting--
	for _, f := range []*fileConn{t.sender, t.receiver} {
		if f != nil {
			f.conn.Close()
		}
	}
	c.ended(t)
}

// over fails the transfers that have not ended.
func (c *courier) over() {
	for _, t := range c.byID {
		t.fail(errors.New("not complete when the run ended"))
	}
}

// answered handles the answer to a request to send a file: the task and the address of
// the file server.
func (c *courier) answered(r request, body []byte) {
	t := c.byID[r.number]
	if t == nil {
		return
	}
	var rsp pb.IMFileRsp
	err := rsp.ParseBody(body)
	online := rsp.GetTransMode() == pb.TransferFileType_FILE_TYPE_ONLINE
	switch {
	case err != nil:
	case rsp.GetResultCode() != 0:
		err = fmt.Errorf("the server refuses the file: result %d", rsp.GetResultCode())
	case t.online && !online:
		err = errors.New("the server reports that the receiver is not online at a pc")
	default:
		t.addr, err = c.fileServer(rsp.GetIpAddrList())
	}
	if err != nil {
		t.fail(err)
		return
	}
	t.moved()
	c.byName[t.name] = t
	role := pb.ClientFileRole_CLIENT_OFFLINE_UPLOAD
	if t.online {
		role = pb.ClientFileRole_CLIENT_REALTIME_SENDER
	}
	t.sender = t.connect(t.from, role, rsp.GetTaskId())
	if n := c.early[t.name]; n != nil {
		delete(c.early, t.name)
		c.notified(n)
	}
}

// fileServer returns the first address of a list. An unspecified address stands for that
// of the message server.
func (c *courier) fileServer(list []*pb.IpAddr) (netip.AddrPort, error) {
	if len(list) == 0 {
		return netip.AddrPort{}, errors.New("no address of a file server")
	}
	ip, err := netip.ParseAddr(list[0].GetIp())
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("address of the file server: %w", err)
	}
	return netip.AddrPortFrom(ip, uint16(list[0].GetPort())), nil
}

// notify handles the notice of a file, or keeps it until the sender knows the task.
func (c *courier) notify(body []byte) {
	n := &pb.IMFileNotify{}
	if n.ParseBody(body) != nil {
		return
	}
	if c.byName[n.GetFileName()] == nil {
		if len(c.early) == maxEarly {
			clear(c.early)
		}
		c.early[n.GetFileName()] = n
		return
	}
	c.notified(n)
}

func (c *courier) notified(n *pb.IMFileNotify) {
	t := c.byName[n.GetFileName()]
	waits := n.GetOfflineReady() == 1
	if t == nil || t.over || t.receiver != nil || waits == t.online {
		return
	}
	t.moved()
	role := pb.ClientFileRole_CLIENT_OFFLINE_DOWNLOAD
	if t.online {
		role = pb.ClientFileRole_CLIENT_REALTIME_RECVER
	}
	t.receiver = t.connect(t.to, role, n.GetTaskId())
}

// fileConn is the connection of one side to the file server.
type fileConn struct {
	t     *transfer
	task  string // this side's id
	conn  *swarm.Conn
	user  uint32
	role  pb.ClientFileRole
	got   int64 // bytes received
	asked int64 // bytes requested
	seq   uint16
}

func (t *transfer) connect(c *client, role pb.ClientFileRole, task string) *fileConn {
	f := &fileConn{t: t, task: task, user: c.id, role: role}
	f.conn = t.courier.w.loop.Dial(t.addr, f)
	return f
}

// Open logs in to the task.
func (f *fileConn) Open(*swarm.Conn) {
	f.say(pb.IMFileLoginReq_builder{UserId: proto.Uint32(f.user), TaskId: proto.String(f.task),
		FileRole: f.role.Enum()}.Build())
}

func (f *fileConn) say(m pb.Message) {
	f.seq++
	if err := f.conn.Send(f.seq, m); err != nil {
		f.t.fail(err)
	}
}

// Close fails the transfer, because only connections that still have work are closed by
// the other side.
func (f *fileConn) Close(_ *swarm.Conn, err error) {
	if errors.Is(err, io.EOF) {
		err = errors.New("the file server closed the connection")
	}
	f.t.fail(err)
}

// Frame handles a frame of the file server.
func (f *fileConn) Frame(_ *swarm.Conn, h pdu.Header, body []byte) {
	t := f.t
	if t.over {
		return
	}
	t.moved()
	t.courier.w.progress++
	var err error
	switch h.Command {
	case pb.CmdFileLoginRsp:
		var m pb.IMFileLoginRsp
		if err = m.ParseBody(body); err == nil && m.GetResultCode() != 0 {
			err = fmt.Errorf("the file server refuses the login of user %d: result %d", f.user,
				m.GetResultCode())
		}
		if err == nil && f.role == pb.ClientFileRole_CLIENT_OFFLINE_DOWNLOAD {
			f.pull()
		}
	case pb.CmdFilePullDataReq:
		var m pb.IMFilePullDataReq
		if err = m.ParseBody(body); err == nil {
			err = f.give(h.Seq, int64(m.GetOffset()), int64(m.GetDataSize()))
		}
	case pb.CmdFilePullDataRsp:
		err = f.take(body)
	case pb.CmdFileState:
		var m pb.IMFileState
		if err = m.ParseBody(body); err == nil {
			err = f.told(m.GetState())
		}
	}
	if err != nil {
		t.fail(err)
	}
}

// give answers a request for a piece of the file.
func (f *fileConn) give(seq uint16, offset, n int64) error {
	t := f.t
	if n < 1 || n > segment || offset+n > t.size {
		return fmt.Errorf("asked for %d bytes at %d", n, offset)
	}
	b := pdu.AppendHeader(t.courier.scratch[:0], pb.CmdFilePullDataRsp, seq)
	b = protowire.AppendVarint(protowire.AppendTag(b, 1, protowire.VarintType), 0)
	b = protowire.AppendString(protowire.AppendTag(b, 2, protowire.BytesType), f.task)
	b = protowire.AppendVarint(protowire.AppendTag(b, 3, protowire.VarintType), uint64(f.user))
	b = protowire.AppendVarint(protowire.AppendTag(b, 4, protowire.VarintType), uint64(offset))
	b = protowire.AppendBytes(protowire.AppendTag(b, 5, protowire.BytesType),
		t.courier.piece(t, offset, int(n)))
	binary.BigEndian.PutUint32(b, uint32(len(b)))
	t.courier.scratch = b
	f.conn.Write(b)
	return nil
}

// pull requests as many pieces as may be in flight.
func (f *fileConn) pull() {
	t := f.t
	mode := pb.TransferFileType_FILE_TYPE_OFFLINE
	if t.online {
		mode = pb.TransferFileType_FILE_TYPE_ONLINE
	}
	for f.asked < t.size && f.asked-f.got < segmentsAhead*segment {
		n := min(segment, t.size-f.asked)
		f.say(pb.IMFilePullDataReq_builder{TaskId: proto.String(f.task),
			UserId: proto.Uint32(f.user), TransMode: mode.Enum(),
			Offset: proto.Uint32(uint32(f.asked)), DataSize: proto.Uint32(uint32(n))}.Build())
		f.asked += n
	}
}

// take compares a received piece with the content of the file.
func (f *fileConn) take(body []byte) error {
	t := f.t
	var code, offset uint64
	var data []byte
	ok := eachField(body, func(num protowire.Number, v uint64, b []byte) {
		switch num {
		case 1:
			code = v
		case 4:
			offset = v
		case 5:
			data = b
		}
	})
	switch {
	case !ok:
		return errors.New("a segment that cannot be parsed")
	case code != 0:
		return fmt.Errorf("the file server refuses to send it: result %d", code)
	case int64(offset) != f.got || int64(len(data)) != min(segment, t.size-f.got):
		return fmt.Errorf("%d bytes at %d arrived, after %d of %d", len(data), offset, f.got,
			t.size)
	}
	if !bytes.Equal(data, t.courier.piece(t, f.got, len(data))) {
		t.to.corrupt("file %s: the segment at %d has another content", t.name, offset)
	}
	f.got += int64(len(data))
	f.pull()
	if t.online && f.got == t.size {
		f.say(pb.IMFileState_builder{State: pb.ClientFileState_CLIENT_FILE_DONE.Enum(),
			TaskId: proto.String(f.task), UserId: proto.Uint32(f.user)}.Build())
		t.courier.w.took(opRelay, t.due)
	}
	return nil
}

// told handles a change of the transfer's state, from the other side or the server.
func (f *fileConn) told(state pb.ClientFileState) error {
	t, w := f.t, f.t.courier.w
	switch state {
	case pb.ClientFileState_CLIENT_FILE_PEER_READY:
		if f.role == pb.ClientFileRole_CLIENT_REALTIME_RECVER {
			f.pull()
		}
		return nil
	case pb.ClientFileState_CLIENT_FILE_DONE:
	default:
		return fmt.Errorf("ended by the other side: %v", state)
	}
	switch f.role {
	case pb.ClientFileRole_CLIENT_OFFLINE_UPLOAD:
		t.uploaded = w.loop.Now()
		w.took(opUpload, t.due)
		f.conn.Close()
		add := pb.IMFileAddOfflineReq_builder{FromUserId: proto.Uint32(t.from.id),
			ToUserId: proto.Uint32(t.to.id), TaskId: proto.String(f.task),
			FileName: proto.String(t.name), FileSize: proto.Uint32(uint32(t.size))}.Build()
		return t.from.conn.Send(0, add)
	case pb.ClientFileRole_CLIENT_OFFLINE_DOWNLOAD:
		if f.got != t.size {
			return fmt.Errorf("reported as done after %d of %d bytes", f.got, t.size)
		}
		w.rec.took(opDownload, w.loop.Now()-t.uploaded, w.plan.counts(t.due))
		del := pb.IMFileDelOfflineReq_builder{FromUserId: proto.Uint32(t.from.id),
			ToUserId: proto.Uint32(t.to.id), TaskId: proto.String(f.task)}.Build()
		if err := t.to.conn.Send(0, del); err != nil {
			return err
		}
	case pb.ClientFileRole_CLIENT_REALTIME_SENDER:
		if t.receiver == nil || t.receiver.got != t.size {
			return errors.New("reported as done before the receiver had all of it")
		}
	}
	w.rec.counts[countFiles]++
	w.rec.counts[countFileBytes] += t.size
	t.end()
	return nil
}
