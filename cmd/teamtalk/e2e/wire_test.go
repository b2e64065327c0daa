//go:build linux

package e2e

import (
	"bufio"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// Client types of the tests. A pc receives the presence changes of all users, a phone
// does not.
const (
	windows = pb.ClientType_CLIENT_TYPE_WINDOWS
	mac     = pb.ClientType_CLIENT_TYPE_MAC
	ios     = pb.ClientType_CLIENT_TYPE_IOS
	android = pb.ClientType_CLIENT_TYPE_ANDROID
)

// wire is a client whose bytes a test controls.
type wire struct {
	t testing.TB
	net.Conn
	in   *bufio.Reader
	news bool // read also returns presence changes, which it skips otherwise
}

// frame is one received frame.
type frame struct {
	pdu.Header
	body []byte
}

// dial connects to a message server.
func dial(t testing.TB, addr string) *wire {
	t.Helper()
	nc, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	return dialed(t, nc)
}

// dialed returns a client on an open connection.
func dialed(t testing.TB, nc net.Conn) *wire {
	t.Cleanup(func() { nc.Close() })
	return &wire{t: t, Conn: nc, in: bufio.NewReader(nc)}
}

// write sends bytes unchanged. A connection that the server has closed does not fail the
// test: the frames that the server sent before it closed decide.
func (w *wire) write(b []byte) {
	w.t.Helper()
	_ = w.SetWriteDeadline(time.Now().Add(patience))
	if _, err := w.Write(b); err != nil && !gone(err) {
		w.t.Fatal(err)
	}
}

// gone reports whether an error says that the peer has closed the connection.
func gone(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed)
}

// encode returns the frame of a message.
func encode(t testing.TB, seq uint16, m pb.Message) []byte {
	t.Helper()
	b, err := pdu.Append(nil, seq, m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// send sends a message in a frame.
func (w *wire) send(seq uint16, m pb.Message) {
	w.t.Helper()
	w.write(encode(w.t, seq, m))
}

// read returns the next frame, or the error of a connection that has none.
func (w *wire) read() (frame, error) {
	w.t.Helper()
	for {
		f, err := w.readAny()
		presence := f.Command == pb.CmdUserStatNotify || f.Command == pb.CmdPCLoginStatusNotify
		if err != nil || w.news || !presence {
			return f, err
		}
	}
}

// readAny returns the next frame, also one with a presence change.
func (w *wire) readAny() (frame, error) {
	w.t.Helper()
	_ = w.SetReadDeadline(time.Now().Add(patience))
	head := make([]byte, pdu.HeaderLen)
	if _, err := io.ReadFull(w.in, head); err != nil {
		return frame{}, err
	}
	h := pdu.ParseHeader(head)
	if h.Length < pdu.HeaderLen || h.Length > pdu.MaxServerFrame {
		w.t.Fatalf("frame of %d bytes from the server", h.Length)
	}
	body := make([]byte, h.Length-pdu.HeaderLen)
	_, err := io.ReadFull(w.in, body)
	return frame{h, body}, err
}

// next returns the next frame. It fails the test if there is none.
func (w *wire) next() frame {
	w.t.Helper()
	f, err := w.read()
	if err != nil {
		w.t.Fatalf("no frame: %v", err)
	}
	return f
}

// expect reads the next frame, which must have the command of m, and decodes it into m.
// It returns the seq of the frame.
func (w *wire) expect(m pb.Message) uint16 {
	w.t.Helper()
	f := w.next()
	if f.Command != m.Command() {
		w.t.Fatalf("got %s (seq %d), want %s", f.Command, f.Seq, m.Command())
	}
	if err := m.ParseBody(f.body); err != nil {
		w.t.Fatalf("%s: %v", f.Command, err)
	}
	return f.Seq
}

// expectSeq reads the next frame as expect does. Its seq must be that of the request.
func (w *wire) expectSeq(seq uint16, m pb.Message) {
	w.t.Helper()
	if got := w.expect(m); got != seq {
		w.t.Fatalf("%s with seq %d, want %d", m.Command(), got, seq)
	}
}

// closed checks that the server closes the connection and sends no frame before.
func (w *wire) closed() {
	w.t.Helper()
	if f, err := w.read(); err == nil {
		w.t.Fatalf("got %s (seq %d), want the connection closed", f.Command, f.Seq)
	} else if !gone(err) {
		w.t.Fatalf("connection not closed: %v", err)
	}
}

// alive checks that the next frame is the answer to a heartbeat.
func (w *wire) alive() {
	w.t.Helper()
	w.send(0xbeef, &pb.IMHeartBeat{})
	w.expectSeq(0xbeef, &pb.IMHeartBeat{})
}

// loginReq returns the login request of a client of a type.
func loginReq(name, password string, client pb.ClientType) *pb.IMLoginReq {
	return pb.IMLoginReq_builder{
		UserName: new(name), Password: new(im.ClientPassword(password)),
		OnlineStatus: pb.UserStatType_USER_STATUS_ONLINE.Enum(),
		ClientType:   client.Enum(), ClientVersion: new("e2e"),
	}.Build()
}

// login logs in with the password of all test users, and returns the user's id.
func (w *wire) login(name string, client pb.ClientType) uint32 {
	w.t.Helper()
	res := w.tryLogin(name, "pw", client)
	if res.GetResultCode() != pb.ResultType_REFUSE_REASON_NONE {
		w.t.Fatalf("login of %s refused: %v %s", name, res.GetResultCode(), res.GetResultString())
	}
	return res.GetUserInfo().GetUserId()
}

// tryLogin sends a login request and returns the answer.
func (w *wire) tryLogin(name, password string, client pb.ClientType) *pb.IMLoginRes {
	w.t.Helper()
	w.send(1, loginReq(name, password, client))
	res := &pb.IMLoginRes{}
	w.expectSeq(1, res)
	return res
}

// loggedIn connects and logs in. It returns the client and the user's id.
func loggedIn(t testing.TB, addr, name string, client pb.ClientType) (*wire, uint32) {
	t.Helper()
	w := dial(t, addr)
	return w, w.login(name, client)
}

// text returns a message to a user. The server sets the sender.
func text(to uint32, body string) *pb.MsgData {
	return &pb.MsgData{ToSessionID: to, Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, Data: []byte(body)}
}

// sendText sends a text and returns the message id of its ack. The ack must be the next frame.
func (w *wire) sendText(seq uint16, to uint32, body string) uint32 {
	w.t.Helper()
	w.send(seq, text(to, body))
	return w.acked(seq, to)
}

// acked reads the next frame, which must be an ack, and returns its message id.
func (w *wire) acked(seq uint16, to uint32) uint32 {
	w.t.Helper()
	ack := &pb.IMMsgDataAck{}
	w.expectSeq(seq, ack)
	if ack.GetSessionId() != to || ack.GetMsgId() == 0 ||
		ack.GetSessionType() != pb.SessionType_SESSION_TYPE_SINGLE {
		w.t.Fatalf("ack names session %d, id %d, type %v; want session %d", ack.GetSessionId(),
			ack.GetMsgId(), ack.GetSessionType(), to)
	}
	return ack.GetMsgId()
}

// noticed waits until the servers have processed all that w sent before. It sends a
// command from w to a user: the command passes the servers after the earlier frames, and
// reaches all other connections of both users, which are others.
func (w *wire) noticed(from, to uint32, others ...*wire) {
	w.t.Helper()
	w.send(0, pb.IMP2PCmdMsg_builder{
		FromUserId: new(from), ToUserId: new(to), CmdMsgData: new("{}"),
	}.Build())
	for _, o := range others {
		o.expectSeq(0, &pb.IMP2PCmdMsg{})
	}
}

// receiveText reads the next frame, which must be a text, and checks everything but its time.
func (w *wire) receiveText(from, to, id uint32, body string) *pb.MsgData {
	w.t.Helper()
	m := &pb.MsgData{}
	w.expectSeq(0, m)
	if m.FromUserID != from || m.ToSessionID != to || m.MsgID != id || string(m.Data) != body {
		w.t.Fatalf("got message %d of %d to %d %q, want %d of %d to %d %q", m.MsgID, m.FromUserID,
			m.ToSessionID, m.Data, id, from, to, body)
	}
	if m.AttachData != nil {
		w.t.Errorf("a client received attach_data %x", m.AttachData)
	}
	return m
}

// sendAck acks a message, as the receiver's client does.
func (w *wire) sendAck(m *pb.MsgData) {
	w.t.Helper()
	w.send(0, pb.IMMsgDataAck_builder{
		UserId: new(m.ToSessionID), SessionId: new(m.FromUserID), MsgId: new(m.MsgID),
		SessionType: pb.SessionType_SESSION_TYPE_SINGLE.Enum(),
	}.Build())
}
