package login

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/router"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// clients handles the TCP port for clients. The first implementation opened this port but
// never answered on it.
type clients struct {
	*router.Router[*session.Client]
	s *Server
}

func newClients(s *Server) *clients {
	h := &clients{Router: router.New[*session.Client](router.Options{
		Role: "login_clients", Log: s.log, Registerer: s.opt.Registerer}), s: s}
	router.Handle(h.Router, router.Public, h.handleMsgServReq)
	return h
}

// Open sets the deadline by which the client must have sent its request.
func (h *clients) Open(s *session.Client) error {
	s.SetDeadline(h.s.opt.ClientDeadline)
	return nil
}

// Close does nothing: the server keeps no state for a client.
func (h *clients) Close(*session.Client, error) {}

func (h *clients) handleMsgServReq(s *session.Client, seq uint16, _ *pb.IMMsgServReq) error {
	a, r := h.s.choose("tcp", s.RemoteAddr().Addr())
	rsp := pb.IMMsgServRsp_builder{ResultCode: pb.ResultType(r).Enum()}
	if r == resultOK {
		rsp.PriorIp, rsp.BackipIp, rsp.Port = proto.String(a.prior), proto.String(a.backup),
			proto.Uint32(a.port)
	}
	err := s.Send(seq, rsp.Build())
	s.Close(nil) // after the answer is written
	return err
}

// HTTP returns the handler of GET /msg_server. The status is always 200, because clients
// read the outcome from the field code of the body.
func (s *Server) HTTP() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /msg_server", s.serveMsgServer) // HEAD too; other methods get 405
	return mux
}

// msgServer is the answer that names a message server. Clients expect port to be a
// string.
type msgServer struct {
	refusal
	PriorIP    string `json:"priorIP"`
	BackupIP   string `json:"backupIP"`
	MSFSPrior  string `json:"msfsPrior"`
	MSFSBackup string `json:"msfsBackup"`
	Discovery  string `json:"discovery"`
	Register   string `json:"register,omitempty"` // our addition: stock clients ignore it
	Port       string `json:"port"`
}

// refusal is the answer when no message server can be named.
type refusal struct {
	Code int    `json:"code"`
	Msg  string `json:"msg"`
}

// refusals are the texts that clients show to their users, in the users' language.
var refusals = map[result]string{resultNone: "没有msg_server", resultFull: "负载过高"}

func (s *Server) serveMsgServer(w http.ResponseWriter, r *http.Request) {
	var addr netip.Addr
	if ap, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		addr = ap.Addr()
	}
	a, res := s.choose("http", addr)
	var answer any = refusal{Code: int(res), Msg: refusals[res]}
	if res == resultOK {
		prior, backup := s.filesURLs()
		answer = msgServer{PriorIP: a.prior, BackupIP: a.backup, MSFSPrior: prior,
			MSFSBackup: backup, Discovery: s.opt.Discovery, Register: s.register(addr),
			Port: strconv.FormatUint(uint64(a.port), 10)}
	}
	// The body is JSON, but the Mac and iOS clients accept no type except text/html.
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; sandbox")
	w.Header().Set("Cache-Control", "no-store") // the next client gets another server
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false) // keeps & in URLs: some clients search the text without decoding it
	if err := enc.Encode(answer); err != nil {
		s.log.Log(r.Context(), slog.LevelDebug, "answer not written", "role", "login", "err", err)
	}
}
