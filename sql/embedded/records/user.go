package records

import (
	"context"
	"database/sql"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// PeersOf returns users with which a user has a conversation; see im.Exporter.
func (s *Records) PeersOf(ctx context.Context, user, after uint32, limit int) (list []uint32,
	err error) {
	err = s.db.Query(ctx, "peers of a user", `select bigId from IMRelationShip where smallId = ?1
		and bigId > ?2 union select smallId from IMRelationShip where bigId = ?1 and smallId > ?2
		order by 1 limit ?3`, func(row *sql.Rows) error {
		var id uint32
		err := row.Scan(&id)
		list = append(list, id)
		return err
	}, user, after, limit)
	return list, err
}

// GroupsEver returns groups that a user is or was in; see im.Exporter. A member that another has
// removed has no row, so the messages of each group are searched.
func (s *Records) GroupsEver(ctx context.Context, user, after uint32) (groups []uint32,
	last uint32, err error) {
	looked := 0
	err = s.db.Query(ctx, "groups of a user", `select g.id,
		exists (select 1 from IMGroupMember m where m.groupId = g.id and m.userId = ?1)
		or exists (select 1 from IMGroupDeparture d where d.groupId = g.id and d.userId = ?1)
		or exists (select 1 from IMGroupMessage m where m.id > (g.id << 32)
			and m.id <= (g.id << 32) + 4294967295 and m.userId = ?1)
		from (select id from IMGroup where id > ?2 order by id limit ?3) g order by g.id`,
		func(row *sql.Rows) error {
			var in bool
			err := row.Scan(&last, &in)
			if looked++; in {
				groups = append(groups, last)
			}
			return err
		}, user, after, page)
	if looked < page {
		last = 0
	}
	return groups, last, err
}

// SentToGroup returns messages of a user in a group; see im.Exporter.
func (s *Records) SentToGroup(ctx context.Context, user, group, after uint32,
	limit int) (list []im.Message, err error) {
	of := im.OldThread{Group: true, ID: group}
	err = s.db.Query(ctx, "messages of a user", `select m.id & 4294967295, m.type, m.created,
		m.content, a.path, a.size, a.duration from IMGroupMessage m left join IMAudio a
		on a.id = case when m.type = 18 then cast(cast(m.content as text) as integer) end
		where m.id > ?1 and m.id <= ?2 and m.userId = ?3 and m.status = 0 order by m.id limit ?4`,
		func(row *sql.Rows) error {
			m := im.Message{From: user, To: group}
			var path *string
			var size, duration *uint32
			if err := row.Scan(&m.ID, &m.Type, &m.Created, &m.Data, &path, &size,
				&duration); err != nil {
				return err
			}
			if m.Type == pb.MsgType_MSG_TYPE_GROUP_AUDIO {
				m.Data = nil // it was the id of the sound
				if path != nil {
					m.Audio = &im.Audio{Path: *path, Size: *size, Duration: *duration}
				}
			}
			list = append(list, m)
			return nil
		}, key(of, after), key(of, 1<<32-1), user, limit)
	return list, err
}
