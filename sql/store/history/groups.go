package history

import (
	"context"
	"fmt"
	"slices"

	"teamtalk/core/im"
	"teamtalk/sql/store/conversation"
	"teamtalk/sql/store/database"
)

// historyPage is the smallest page of messages when some may be older than the member's
// joining.
const historyPage = 100

// GroupHistory returns messages of a group, newest first; see im.GroupStore. Membership
// is read from the master.
func (s *History) GroupHistory(ctx context.Context, user, group, begin uint32,
	count int) ([]im.Message, error) {
	if err := ctx.Err(); err != nil || count <= 0 {
		return nil, s.db.SQLError("read group history", err)
	}
	j, ok, err := s.members.JoiningOf(ctx, user, group)
	if !ok || err != nil {
		return nil, s.db.SQLError("read group history", err)
	}
	find, from := historySince, j.At
	if j.ByID {
		find, from = historyAfter, j.After
	}
	var list []threadMessage
	err = s.db.Read(ctx, func(db database.Querier) (err error) {
		list, err = find(ctx, db, group, from, begin, count)
		return err
	})
	return plain(list), s.db.SQLError("read group history", err)
}

// historyAfter reads backwards from begin (0: the newest) the messages with ids above
// after.
func historyAfter(ctx context.Context, db database.Querier, group, after, begin uint32,
	count int) ([]threadMessage, error) {
	ids := fmt.Sprintf(" AND msgId>%d", after)
	if begin > 0 {
		ids += fmt.Sprintf(" AND msgId<=%d", begin)
	}
	return messagesWhere(ctx, db, conversation.Thread{Group: true, ID: group},
		fmt.Sprintf(NewestFirst, ids, 0, count))
}

// historySince reads backwards from begin (0: the newest) until it has count messages
// created at or after since. Ids follow time except for the differences between the
// clocks of message servers. A whole page without such a message therefore ends the
// search.
func historySince(ctx context.Context, db database.Querier, group, since, begin uint32,
	count int) ([]threadMessage, error) {
	of := conversation.Thread{Group: true, ID: group}
	below := ""
	if begin > 0 {
		below = fmt.Sprintf(" AND msgId<=%d", begin)
	}
	size := max(count, historyPage)
	if begin == 0 && count < historyPage {
		size = count // most calls ask for the newest messages, and most of these are visible
	}
	var list []threadMessage
	for offset := 0; ; {
		page, err := messagesWhere(ctx, db, of, fmt.Sprintf(NewestFirst, below, offset, size))
		if err != nil {
			return nil, err
		}
		offset += len(page)
		whole := len(page) == size
		seen := slices.DeleteFunc(page, func(m threadMessage) bool { return m.Created < since })
		list = append(list, seen...)
		if len(list) >= count {
			return list[:count], nil
		}
		if !whole || len(seen) == 0 && size >= historyPage {
			return list, nil
		}
		size = max(count, historyPage)
	}
}

// GroupMessagesByID returns messages of a group; see im.GroupStore. It reads as
// GroupHistory does.
func (s *History) GroupMessagesByID(ctx context.Context, user, group uint32,
	ids []uint32) ([]im.Message, error) {
	if err := ctx.Err(); err != nil || len(ids) == 0 {
		return nil, s.db.SQLError("read group messages", err)
	}
	j, ok, err := s.members.JoiningOf(ctx, user, group)
	if !ok || err != nil {
		return nil, s.db.SQLError("read group messages", err)
	}
	var list []threadMessage
	err = s.db.Read(ctx, func(db database.Querier) (err error) {
		list, err = messagesByID(ctx, db, conversation.Thread{Group: true, ID: group}, ids)
		return err
	})
	list = slices.DeleteFunc(list, func(m threadMessage) bool { return !j.Sees(&m.Message) })
	return plain(list), s.db.SQLError("read group messages", err)
}

// GroupLatestID returns the id of the newest message of a group that user may see; see
// im.GroupStore. It reads as GroupHistory does.
func (s *History) GroupLatestID(ctx context.Context, user, group uint32) (uint32, error) {
	list, err := s.GroupHistory(ctx, user, group, 0, 1)
	if err != nil || len(list) == 0 {
		return 0, err
	}
	return list[0].ID, nil
}
