package clienttest

import (
	"slices"

	"teamtalk/proto/pb"
)

// AddFile adds a file to the list of files that wait for a user.
func (s *Server) AddFile(to uint32, f *pb.OfflineFileInfo) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.files == nil {
		s.files = map[uint32][]*pb.OfflineFileInfo{}
	}
	s.files[to] = append(s.files[to], f)
}

// Files returns the list of files that wait for a user.
func (s *Server) Files(user uint32) []*pb.OfflineFileInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.files[user])
}

// answerFiles answers requests about the list of waiting files. It reports whether m is one.
// The caller holds c.s.mu.
func (c *conn) answerFiles(seq uint16, m pb.Message) bool {
	s, self := c.s, c.user.ID
	switch m := m.(type) {
	case *pb.IMFileHasOfflineReq:
		c.send(seq, pb.IMFileHasOfflineRsp_builder{UserId: new(self),
			OfflineFileList: s.files[self]}.Build())
	case *pb.IMFileDelOfflineReq:
		s.files[self] = slices.DeleteFunc(s.files[self], func(f *pb.OfflineFileInfo) bool {
			return f.GetTaskId() == m.GetTaskId() && f.GetFromUserId() == m.GetFromUserId()
		})
	default:
		return false
	}
	return true
}
