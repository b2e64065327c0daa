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

// clients handles the TCP port for clients. The first implementation had the port but never answered on it.
type clients struct {
	*router.Router
	s *Server
}

func newClients(s *Server) *clients {
	h := &clients{Router: router.New(router.Options{Role: "login_clients", Log: s.log, Registerer: s.opt.Registerer}), s: s}
	router.Handle(h.Router, router.Public, h.handleMsgServReq)
	return h
}

// Open gives the client a deadline.
func (h *clients) Open(s *session.Session) error {
	if s.Loop() != nil {
		s.SetDeadline(h.s.opt.ClientDeadline)
	}
	return nil
}

// Close has nothing to forget.
func (h *clients) Close(*session.Session, error) {}

func (h *clients) handleMsgServReq(s *session.Session, seq uint16, _ *pb.IMMsgServReq) error {
	a, r := h.s.choose("tcp", s.RemoteAddr().Addr())
	rsp := pb.IMMsgServRsp_builder{ResultCode: pb.ResultType(r).Enum()}
	if r == resultOK {
		rsp.PriorIp, rsp.BackipIp, rsp.Port = proto.String(a.prior), proto.String(a.backup), proto.Uint32(a.port)
	}
	err := s.Send(seq, rsp.Build())
	s.Close(nil) // once the answer has left
	return err
}

// HTTP answers GET /msg_server. The status is 200 whatever the answer, because clients look for code in the body.
func (s *Server) HTTP() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /msg_server", s.serveMsgServer) // HEAD too; other methods get 405
	return mux
}

// msgServer is the answer when there is a message server. Clients expect port to be a string.
type msgServer struct {
	refusal
	PriorIP    string `json:"priorIP"`
	BackupIP   string `json:"backupIP"`
	MSFSPrior  string `json:"msfsPrior"`
	MSFSBackup string `json:"msfsBackup"`
	Discovery  string `json:"discovery"`
	Register   string `json:"register,omitempty"` // ours: the first clients do not look for it
	Port       string `json:"port"`
}

// refusal is the answer when there is none.
type refusal struct {
	Code int    `json:"code"`
	Msg  string `json:"msg"`
}

// refusals are shown to people by the clients, in their language.
var refusals = map[result]string{resultNone: "没有msg_server", resultFull: "负载过高"}

func (s *Server) serveMsgServer(w http.ResponseWriter, r *http.Request) {
	var addr netip.Addr
	if ap, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		addr = ap.Addr()
	}
	a, res := s.choose("http", addr)
	var answer any = refusal{Code: int(res), Msg: refusals[res]}
	if res == resultOK {
		answer = msgServer{PriorIP: a.prior, BackupIP: a.backup, MSFSPrior: s.opt.MSFSPrior, MSFSBackup: s.opt.MSFSBackup,
			Discovery: s.opt.Discovery, Register: s.register(addr), Port: strconv.FormatUint(uint64(a.port), 10)}
	}
	// JSON that says it is HTML: the Mac and iOS clients take no other type.
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; sandbox")
	w.Header().Set("Cache-Control", "no-store") // the next client is to go elsewhere
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false) // URLs with & stay readable for clients that look for text
	if err := enc.Encode(answer); err != nil {
		s.log.Log(r.Context(), slog.LevelDebug, "answer not written", "role", "login", "err", err)
	}
}
