package bench

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// faults says how many of 100 messages or deliveries get each fault. A message or
// delivery gets at most one.
type faults struct {
	ignored   int // neither stored nor acked nor delivered
	ackLost   int // delivered, not acked
	ackTwice  int
	ackOther  int // answered with another command
	notStored int // acked with id 0, delivered
	lost      int // of deliveries
	twice     int
	swapped   int // delivered after the next one
	textBad   int // a letter of the text changed
	stampBad  int // a letter of the stamp changed
	astray    int // delivered to another user too
	mute      int // heartbeats without an echo, of 100
	refused   int // logins, of 100
	hangsUp   int // the sender's connection is closed after the message, of 100 messages
	fileNo    int // files refused
	fileBad   int // a byte of a file segment changed
	fileEnds  int // the connection closed instead of a file segment
}

// happened counts the faults of the server.
type happened struct {
	ignored, ackLost, ackTwice, ackOther, notStored, lost, twice, swapped, textBad, stampBad,
	astray, mute, refused, hungUp, fileNo, fileBad, fileEnds int64
}

// faulty is a message server that makes faults on purpose and counts them.
type faulty struct {
	faults
	mu     sync.Mutex
	rng    *rand.Rand
	conns  map[uint32]net.Conn // by user
	groups map[uint32][]uint32
	held   map[[2]uint32][]byte // a delivery that follows the next one, by receiver and sender
	did    happened
	nextID uint32
	addr   string
	files  map[string]*fakeFile
}

// fakeFile is a file that the server keeps or passes on.
type fakeFile struct {
	from, to, size   uint32
	name             string
	data             []byte
	sender, receiver net.Conn
}

func newFaulty(t *testing.T, f faults) *faulty {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &faulty{faults: f, rng: rand.New(rand.NewPCG(1, 2)), conns: map[uint32]net.Conn{},
		groups: map[uint32][]uint32{}, held: map[[2]uint32][]byte{}, files: map[string]*fakeFile{},
		addr: l.Addr().String()}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer nc.Close()
				s.serve(nc)
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return s
}

func (s *faulty) serve(nc net.Conn) {
	r := bufio.NewReader(nc)
	var user uint32
	for {
		head := make([]byte, pdu.HeaderLen)
		if _, err := io.ReadFull(r, head); err != nil {
			return
		}
		h := pdu.ParseHeader(head)
		body := make([]byte, int(h.Length)-pdu.HeaderLen)
		if _, err := io.ReadFull(r, body); err != nil {
			return
		}
		s.mu.Lock()
		goOn := s.frame(nc, &user, h, body)
		s.mu.Unlock()
		if !goOn {
			return
		}
	}
}

// chance returns true in n of 100 cases.
func (s *faulty) chance(percent int) bool { return percent > 0 && s.rng.IntN(100) < percent }

func send(nc net.Conn, seq uint16, m pb.Message) {
	b, err := pdu.Append(nil, seq, m)
	if err != nil {
		panic(err)
	}
	_, _ = nc.Write(b)
}

func (s *faulty) frame(nc net.Conn, user *uint32, h pdu.Header, body []byte) bool {
	switch h.Command {
	case pb.CmdLoginReq:
		return s.login(nc, user, h.Seq, body)
	case pb.CmdLogoutReq:
		rsp := &pb.IMLogoutRsp{}
		rsp.SetResultCode(0)
		send(nc, h.Seq, rsp)
		return false
	case pb.CmdHeartBeat:
		if s.chance(s.mute) {
			s.did.mute++
			return true
		}
		_, _ = nc.Write(pdu.AppendHeader(nil, pb.CmdHeartBeat, h.Seq))
	case pb.CmdGroupCreateReq:
		var m pb.IMGroupCreateReq
		if m.ParseBody(body) != nil {
			return false
		}
		rsp := &pb.IMGroupCreateRsp{}
		id := uint32(len(s.groups) + 1)
		s.groups[id] = m.GetMemberIdList()
		rsp.SetUserId(*user)
		rsp.SetResultCode(0)
		rsp.SetGroupId(id)
		rsp.SetGroupName(m.GetGroupName())
		send(nc, h.Seq, rsp)
	case pb.CmdFileReq, pb.CmdFileAddOfflineReq, pb.CmdFileLoginReq, pb.CmdFilePullDataReq,
		pb.CmdFilePullDataRsp, pb.CmdFileState:
		return s.file(nc, user, h, body)
	case pb.CmdMsgData:
		var m pb.MsgData
		if m.ParseBody(body) != nil {
			return false
		}
		return s.message(nc, *user, h.Seq, &m)
	}
	return true
}

// login accepts or refuses a login, and sets the user of the connection.
func (s *faulty) login(nc net.Conn, user *uint32, seq uint16, body []byte) bool {
	var m pb.IMLoginReq
	if m.ParseBody(body) != nil {
		return false
	}
	var n uint32
	_, _ = fmt.Sscanf(m.GetUserName(), "u%d", &n)
	res := &pb.IMLoginRes{}
	res.SetServerTime(1)
	res.SetResultCode(pb.ResultType_REFUSE_REASON_NONE)
	if s.chance(s.refused) {
		s.did.refused++
		res.SetResultCode(pb.ResultType_REFUSE_REASON_DB_VALIDATE_FAILED)
		res.SetResultString("no")
		send(nc, seq, res)
		return false
	}
	u := &pb.UserInfo{}
	u.SetUserId(n + 1000)
	for _, set := range []func(string){u.SetUserNickName, u.SetAvatarUrl, u.SetEmail,
		u.SetUserRealName, u.SetUserTel, u.SetUserDomain} {
		set("")
	}
	u.SetUserGender(0)
	u.SetDepartmentId(0)
	u.SetStatus(0)
	res.SetUserInfo(u)
	*user = n + 1000
	s.conns[*user] = nc
	send(nc, seq, res)
	return true
}

func (s *faulty) message(nc net.Conn, user uint32, seq uint16, m *pb.MsgData) bool {
	if s.chance(s.ignored) {
		s.did.ignored++
		return true
	}
	s.nextID++
	m.MsgID, m.FromUserID = s.nextID, user
	ack := appendAck(nil, pb.CmdMsgDataAck, user, m.ToSessionID, m.MsgID,
		pb.SessionType_SESSION_TYPE_SINGLE)
	ack[12], ack[13] = byte(seq>>8), byte(seq)
	enough := false // whether a message that is not acked is also lost is not counted
	switch {
	case s.chance(s.ackLost):
		s.did.ackLost++
		ack, enough = nil, true
	case s.chance(s.ackTwice):
		s.did.ackTwice++
		ack = append(ack, ack...)
	case s.chance(s.ackOther):
		s.did.ackOther++
		ack = appendAck(nil, pb.CmdUnreadMsgCntRsp, user, m.ToSessionID, m.MsgID,
			pb.SessionType_SESSION_TYPE_SINGLE)
		ack[12], ack[13] = byte(seq>>8), byte(seq)
	case s.chance(s.notStored):
		s.did.notStored++
		ack = appendAck(nil, pb.CmdMsgDataAck, user, m.ToSessionID, 0,
			pb.SessionType_SESSION_TYPE_SINGLE)
		ack[12], ack[13] = byte(seq>>8), byte(seq)
	}
	_, _ = nc.Write(ack)
	receivers := []uint32{m.ToSessionID}
	if m.Type.IsGroup() {
		receivers = s.groups[m.ToSessionID]
	}
	for _, to := range receivers {
		if to != user {
			s.deliver(to, m, enough)
		}
	}
	if s.chance(s.hangsUp) {
		s.did.hungUp++
		return false
	}
	return true
}

func (s *faulty) deliver(to uint32, m *pb.MsgData, well bool) {
	nc := s.conns[to]
	frame, _ := pdu.Append(nil, 0, m)
	text := len(frame) - len(m.Data)
	key := [2]uint32{to, m.FromUserID}
	if before := s.held[key]; before != nil {
		delete(s.held, key)
		s.did.swapped++
		_, _ = nc.Write(append(frame, before...))
		return
	}
	switch {
	case well:
	case s.chance(s.lost):
		s.did.lost++
		return
	case s.chance(s.twice):
		s.did.twice++
		frame = append(frame, frame...)
	case s.chance(s.swapped):
		s.held[key] = frame
		time.AfterFunc(200*time.Millisecond, func() { // when no message follows
			s.mu.Lock()
			defer s.mu.Unlock()
			if b := s.held[key]; b != nil && &b[0] == &frame[0] {
				delete(s.held, key)
				_, _ = nc.Write(frame)
			}
		})
		return
	case s.chance(s.textBad):
		s.did.textBad++
		frame[text+stampLen+s.rng.IntN(len(m.Data)-stampLen)] ^= 1
	case s.chance(s.stampBad):
		s.did.stampBad++
		frame[text+s.rng.IntN(stampLen)] ^= 1
	case s.chance(s.astray):
		s.did.astray++
		for other, nc := range s.conns {
			if other != to && other != m.FromUserID {
				_, _ = nc.Write(frame)
				break
			}
		}
	}
	_, _ = nc.Write(frame)
}

// file is the file server, in the same process.
func (s *faulty) file(nc net.Conn, user *uint32, h pdu.Header, body []byte) bool {
	m, err := pdu.Decode(h.Command, body)
	if err != nil {
		return false
	}
	switch m := m.(type) {
	case *pb.IMFileReq:
		s.fileRequest(nc, user, h.Seq, m)
	case *pb.IMFileAddOfflineReq:
		f := s.files[m.GetTaskId()]
		send(s.conns[f.to], 0, pb.IMFileNotify_builder{FromUserId: user, ToUserId: &f.to,
			FileName: &f.name, FileSize: &f.size, TaskId: new(m.GetTaskId()),
			TransMode:    pb.TransferFileType_FILE_TYPE_OFFLINE.Enum(),
			OfflineReady: new(uint32(1))}.Build())
	case *pb.IMFileLoginReq:
		s.fileLogin(nc, user, h.Seq, m)
	case *pb.IMFilePullDataReq:
		f := s.files[m.GetTaskId()]
		if f.sender != nil {
			send(f.sender, h.Seq, m)
			return true
		}
		at, end := m.GetOffset(), m.GetOffset()+m.GetDataSize()
		if !s.segment(nc, h.Seq, m.GetTaskId(), at, f.data[at:end]) {
			return false
		}
		if end == f.size {
			send(nc, 0, state(user, m.GetTaskId(), pb.ClientFileState_CLIENT_FILE_DONE))
		}
	case *pb.IMFilePullDataRsp:
		f := s.files[m.GetTaskId()]
		if f.receiver != nil {
			return s.segment(f.receiver, h.Seq, m.GetTaskId(), m.GetOffset(), m.GetFileData())
		}
		if f.data = append(f.data, m.GetFileData()...); uint32(len(f.data)) == f.size {
			send(nc, 0, state(user, m.GetTaskId(), pb.ClientFileState_CLIENT_FILE_DONE))
		}
	case *pb.IMFileState:
		send(s.files[m.GetTaskId()].sender, 0, m)
	}
	return true
}

// state returns the notice of a state of a task.
func state(user *uint32, task string, st pb.ClientFileState) pb.Message {
	return pb.IMFileState_builder{State: st.Enum(), TaskId: &task, UserId: user}.Build()
}

// fileRequest creates a task for a file, and notifies the receiver of a file passed on.
func (s *faulty) fileRequest(nc net.Conn, user *uint32, seq uint16, m *pb.IMFileReq) {
	addr, _ := netip.ParseAddrPort(s.addr)
	here := []*pb.IpAddr{pb.IpAddr_builder{Ip: new(addr.Addr().String()),
		Port: new(uint32(addr.Port()))}.Build()}
	task, code := fmt.Sprint("task ", len(s.files)), uint32(0)
	if s.chance(s.fileNo) {
		s.did.fileNo++
		code = 1
	}
	f := &fakeFile{from: *user, to: m.GetToUserId(), size: m.GetFileSize(),
		name: m.GetFileName()}
	s.files[task] = f
	// before the answer, which a client must accept
	if code == 0 && m.GetTransMode() == pb.TransferFileType_FILE_TYPE_ONLINE {
		send(s.conns[f.to], 0, pb.IMFileNotify_builder{FromUserId: user, ToUserId: &f.to,
			FileName: &f.name, FileSize: &f.size, TaskId: &task,
			TransMode: m.GetTransMode().Enum(), OfflineReady: new(uint32(0))}.Build())
	}
	send(nc, seq, pb.IMFileRsp_builder{ResultCode: &code, FromUserId: user, ToUserId: &f.to,
		FileName: &f.name, TaskId: &task, IpAddrList: here,
		TransMode: m.GetTransMode().Enum()}.Build())
}

// fileLogin accepts a login to a task. It requests the file of an upload, and starts a file
// passed on when both sides have logged in.
func (s *faulty) fileLogin(nc net.Conn, user *uint32, seq uint16, m *pb.IMFileLoginReq) {
	task := m.GetTaskId()
	f := s.files[task]
	*user = m.GetUserId()
	send(nc, seq, pb.IMFileLoginRsp_builder{ResultCode: new(uint32(0)),
		TaskId: &task}.Build())
	switch m.GetFileRole() {
	case pb.ClientFileRole_CLIENT_OFFLINE_UPLOAD:
		for at := uint32(0); at < f.size; at += segment {
			send(nc, 1, pb.IMFilePullDataReq_builder{TaskId: &task, UserId: user,
				TransMode: pb.TransferFileType_FILE_TYPE_OFFLINE.Enum(), Offset: &at,
				DataSize: new(min(segment, f.size-at))}.Build())
		}
	case pb.ClientFileRole_CLIENT_REALTIME_SENDER:
		f.sender = nc
	case pb.ClientFileRole_CLIENT_REALTIME_RECVER:
		f.receiver = nc
	}
	if f.sender != nil && f.receiver != nil {
		send(f.receiver, 0, state(user, task, pb.ClientFileState_CLIENT_FILE_PEER_READY))
	}
}

// segment sends a piece of a file to the connection that requested it.
func (s *faulty) segment(nc net.Conn, seq uint16, task string, at uint32, data []byte) bool {
	data = bytes.Clone(data)
	switch {
	case s.chance(s.fileEnds):
		s.did.fileEnds++
		nc.Close()
		return false
	case s.chance(s.fileBad):
		s.did.fileBad++
		data[s.rng.IntN(len(data))] ^= 1
	}
	send(nc, seq, pb.IMFilePullDataRsp_builder{ResultCode: new(uint32(0)), TaskId: &task,
		UserId: new(uint32(1)), Offset: &at, FileData: data}.Build())
	return true
}
