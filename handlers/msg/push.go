package msg

import "teamtalk/proto/pb"

// notifyPush decides who is pushed to about a stored message, and has it done. It is called where messages are stored; members are those of the group, nil
// for a message to one user. It does not wait.
func (h *Server) notifyPush(m *pb.MsgData, members []uint32) {}
