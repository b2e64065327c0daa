package embedded

import (
	"database/sql"
	"errors"
	"strconv"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
	"teamtalk/sql/embedded/arrivals"
)

// group is the cached state of a group.
type group struct {
	version uint32
	last    uint32 // id of its newest message
}

// memberKey identifies a member of a group.
type memberKey struct{ group, user uint32 }

// addToGroup stores p in its group. It sets p.err when the sender is not a member.
func (w *writer) addToGroup(known map[uint32]*group, p *pending, now uint32) error {
	id := p.m.To
	g, err := w.groupChat(known, id)
	if err != nil {
		return err
	}
	if g == nil {
		p.err = im.Errorf(im.Invalid, "group %d does not exist", id)
		return nil
	}
	if ok, err := w.isMember(memberKey{id, p.m.From}); err != nil {
		return err
	} else if !ok {
		p.err = im.Errorf(im.Denied, "user %d is not in group %d", p.m.From, id)
		return nil
	}
	if err := w.add(-int64(id), g.last, p, now); err != nil || p.err != nil || p.duplicate {
		return err
	}
	g.last, p.groupVersion = p.id, g.version
	return nil
}

// groupChat returns a group: from this transaction, from the cache, or from the database.
// It returns nil when the group does not exist.
func (w *writer) groupChat(known map[uint32]*group, id uint32) (*group, error) {
	if g := known[id]; g != nil {
		return g, nil
	}
	g := &group{}
	var cached bool
	if *g, cached = w.groups.Get(id); !cached {
		err := w.getGroup.QueryRow(id).Scan(&g.version, &g.last)
		if errors.Is(err, sql.ErrNoRows) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		if last, ok := w.waiting.Last(-int64(id)); ok {
			g.last = last
		}
		g.last = w.lastOf(-int64(id), g.last)
	}
	known[id] = g
	return g, nil
}

// isMember reports whether a user is a member of a group.
func (w *writer) isMember(k memberKey) (bool, error) {
	if w.members.Contains(k) {
		return true, nil
	}
	var one int
	err := w.getMember.QueryRow(k.group, k.user).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err == nil {
		w.members.Add(k, struct{}{})
	}
	return err == nil, err
}

// isAudio reports whether messages of type t have im.Message.Audio.
func isAudio(t pb.MsgType) bool {
	return t == pb.MsgType_MSG_TYPE_SINGLE_AUDIO || t == pb.MsgType_MSG_TYPE_GROUP_AUDIO
}

// content returns the content of the row of a message: its data, or the id of its sound,
// which it inserts.
func (w *writer) content(m *arrivals.Message) ([]byte, error) {
	if isAudio(m.Type) {
		result, err := w.insertAudio.Exec(m.From, m.To, m.Audio.Path, m.Audio.Size,
			m.Audio.Duration, m.Created)
		if err != nil {
			return nil, err
		}
		id, err := result.LastInsertId()
		return strconv.AppendInt(nil, id, 10), err
	}
	if m.Data == nil {
		return []byte{}, nil // nil would be NULL
	}
	return m.Data, nil
}
