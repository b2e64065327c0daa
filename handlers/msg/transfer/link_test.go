package transfer

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

func TestFileServerWithoutAddress(t *testing.T) {
	l := New(Options{}).Link()
	s := &session.Link{}
	s.Data = l
	if err := handleAddresses(s, 0, &pb.IMFileServerIPRsp{}); im.KindOf(err) != im.Invalid {
		t.Errorf("error %v", err)
	}
	many := make([]*pb.IpAddr, 100)
	for i := range many {
		many[i] = pb.IpAddr_builder{Ip: proto.String("10.0.0.1"), Port: proto.Uint32(8600)}.Build()
	}
	err := handleAddresses(s, 0, pb.IMFileServerIPRsp_builder{IpAddrList: many}.Build())
	if err != nil || len(l.addresses()) != maxAddresses {
		t.Errorf("%d addresses, %v", len(l.addresses()), err)
	}
}

// TestFileServersHaveOneSetOfMetrics links to two file servers, as a message server with two
// addresses in msg.file does. A second set of metrics would not be accepted.
func TestFileServersHaveOneSetOfMetrics(t *testing.T) {
	h := New(Options{Registerer: prometheus.NewRegistry()})
	a, b := h.Link(), h.Link()
	if a == b {
		t.Error("two file servers are one")
	}
}
