package route

import "teamtalk/proto/pb"

// Device is the clients of one type that a user has on a message server.
type Device struct {
	Server string // the address of the message server, or its name in the same process
	Client pb.ClientType
}

// Devices returns the clients of a user that r knows; false: its whereabouts are not in memory.
// Any goroutine.
func Devices(r *Server, user uint32) (list []Device, known bool) {
	t, ok := r.where.(*Table)
	if !ok {
		return nil, false
	}
	for _, d := range t.devices(user) {
		for _, sv := range *r.servers.Load() {
			if sv.node == d.node {
				list = append(list, Device{sv.session.Remote(), d.client})
			}
		}
	}
	return list, true
}

// devices returns the clients of a user.
func (t *Table) devices(user uint32) []device {
	sh := t.shard(user)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	if p := sh.users[user]; p != nil {
		return append([]device{}, p.devices...)
	}
	return nil
}
