package peers

import (
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// listedAtOnce is the number of clients in one frame. An entry has at most 15 bytes, so the
// frame has less than 1 MiB, which is the smallest link.max_frame.
const listedAtOnce = 1 << 16

// sendUsers sends the list of all clients here on a link to a route server, in parts when it
// has more than listedAtOnce clients. After an error a route server of ours keeps the list
// that it has. With mu held.
func (p *Links) sendUsers(link *session.Link) error {
	list := p.users()
	total := len(list)
	for offset := 0; ; {
		part := list[:min(len(list), listedAtOnce)]
		list = list[len(part):]
		m := &pb.IMOnlineUserInfo{}
		m.SetUserStatList(part)
		if len(part) < total {
			m.SetOffset(uint32(offset))
			m.SetTotal(uint32(total))
		}
		if err := link.Send(0, m); err != nil || len(list) == 0 {
			return err
		}
		offset += len(part)
	}
}

// users returns all clients here.
func (p *Links) users() (list []*pb.ServerUserStat) {
	p.online.Each(func(c *session.Client) {
		st := &pb.ServerUserStat{}
		st.SetUserId(c.User)
		st.SetStatus(pb.UserStatType_USER_STATUS_ONLINE)
		st.SetClientType(c.ClientType)
		if p.opt.Acks(c) {
			st.SetAcks(true)
		}
		list = append(list, st)
	})
	return list
}
