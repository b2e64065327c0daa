package passing

import (
	"math"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// TestAndroidCutsAll: each answer that a client can ask for and that has a list of
// messages in it is
// in the table, under the number of its list, or cannot be too long.
func TestAndroidCutsAll(t *testing.T) {
	fits := map[pb.Command]bool{pb.CmdGroupCreateRsp: true, pb.CmdGroupChangeMemberRsp: true,
		pb.CmdGroupChangeMemberNotify: true,                         // of im.MaxGroupMembers
		pb.CmdFileRsp:                 true, pb.CmdFileNotify: true} // addresses
	for _, cmd := range pb.Commands() {
		m, ok := pb.New(cmd).(proto.Message)
		if !ok || cmd.Service() > 6 || strings.HasSuffix(cmd.String(), "Req") {
			continue
		}
		fields := m.ProtoReflect().Descriptor().Fields()
		for i := range fields.Len() {
			if f := fields.Get(i); f.IsList() && !fits[cmd] &&
				androidCuts[cmd].list != f.Number() && f.Name() != "ip_addr_list" {
				t.Errorf("%s: field %s is cut for no client", cmd, f.Name())
			}
		}
	}
	n := pb.IMGroupChangeMemberNotify_builder{UserId: new(uint32(math.MaxUint32)),
		ChangeType: pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD.Enum(),
		GroupId:    new(uint32(math.MaxUint32)), CurUserIdList: make([]uint32,
			im.MaxGroupMembers), ChgUserIdList: make([]uint32, im.MaxGroupMembers)}.Build()
	for i := range n.GetCurUserIdList() {
		n.GetCurUserIdList()[i], n.GetChgUserIdList()[i] = math.MaxUint32, math.MaxUint32
	}
	if size := proto.Size(n); size > androidBody {
		t.Errorf("a notify of the largest group has %d bytes", size)
	}
}
