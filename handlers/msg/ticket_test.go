package msg

import (
	"bytes"
	"testing"
	"time"

	"teamtalk/core/ticket"
	"teamtalk/proto/pb"
)

// TestUploadTicket: a client receives a ticket in its name, and none before its login.
func TestUploadTicket(t *testing.T) {
	key := bytes.Repeat([]byte{'k'}, ticket.MinKey)
	inWorld(t, Options{TicketKey: key}, func(w *world) {
		req := &pb.IMUploadTicketReq{}
		req.SetMaxSize(1 << 20)
		d := w.connect(0)
		d.send(1, req)
		d.want()
		m := loginReq(3, win)
		m.SetUploadTickets(true)
		d.send(2, m)
		if !d.want(pb.CmdLoginRes)[0].m.(*pb.IMLoginRes).GetUploadTickets() {
			t.Error("the answer to the login does not say that there are tickets")
		}
		d.send(3, req)
		rsp := d.want(pb.CmdUploadTicketRsp)[0].m.(*pb.IMUploadTicketRsp)
		got, err := ticket.Parse(key, rsp.GetTicket(), time.Now())
		if err != nil || rsp.GetResultCode() != 0 || got.User != 3 || got.MaxSize != 1<<20 ||
			rsp.GetSeconds() != 300 {
			t.Errorf("answer %v, ticket %+v, %v", rsp, got, err)
		}
	})
}

// TestNoUploadTickets: a server without a key gives none. Clients that do not ask at the login
// are not told of tickets.
func TestNoUploadTickets(t *testing.T) {
	login := func(w *world, asks bool) *device {
		d := w.connect(0)
		m := loginReq(3, win)
		if asks {
			m.SetUploadTickets(true)
		}
		d.send(1, m)
		if d.want(pb.CmdLoginRes)[0].m.(*pb.IMLoginRes).HasUploadTickets() {
			t.Error("the answer to the login mentions tickets")
		}
		return d
	}
	inWorld(t, Options{}, func(w *world) {
		d := login(w, true)
		d.send(2, &pb.IMUploadTicketReq{})
		rsp := d.want(pb.CmdUploadTicketRsp)[0].m.(*pb.IMUploadTicketRsp)
		if rsp.GetResultCode() != noTickets || rsp.HasTicket() {
			t.Errorf("answer %v", rsp)
		}
	})
	inWorld(t, Options{TicketKey: []byte("key")}, func(w *world) { login(w, false) })
}
