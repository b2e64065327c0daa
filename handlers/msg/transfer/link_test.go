package transfer

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

func TestFileServerWithoutAddress(t *testing.T) {
	l := New(Options{}).Link()
	if err := l.handleAddresses(nil, 0, &pb.IMFileServerIPRsp{}); im.KindOf(err) != im.Invalid {
		t.Errorf("error %v", err)
	}
	many := make([]*pb.IpAddr, 100)
	for i := range many {
		many[i] = pb.IpAddr_builder{Ip: proto.String("10.0.0.1"), Port: proto.Uint32(8600)}.Build()
	}
	err := l.handleAddresses(nil, 0, pb.IMFileServerIPRsp_builder{IpAddrList: many}.Build())
	if err != nil || len(l.addresses()) != maxAddresses {
		t.Errorf("%d addresses, %v", len(l.addresses()), err)
	}
}
