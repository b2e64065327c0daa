package history

import (
	"context"
	"fmt"

	"teamtalk/core/im"
	"teamtalk/sql/store/conversation"
	"teamtalk/sql/store/database"
)

// PeersOf returns users with which a user has a conversation; see im.Exporter. It looks for the
// conversations, rather than for the rows of the user's list, because a row may be lost. Finding
// users of lower ids reads an index of all conversations.
func (s *History) PeersOf(ctx context.Context, user, after uint32, limit int) ([]uint32, error) {
	list, err := database.Numbers(ctx, s.db.Master, fmt.Sprintf("SELECT bigId FROM IMRelationShip "+
		"WHERE smallId=%d AND bigId>%d UNION SELECT smallId FROM IMRelationShip WHERE bigId=%[1]d "+
		"AND smallId>%[2]d ORDER BY 1 LIMIT %[3]d", user, after, limit))
	return list, s.db.SQLError("list the conversations of a user", err)
}

// groupsPage is the number of groups in a page of GroupsEver.
const groupsPage = 200

// GroupsEver returns groups that a user is or was in; see im.Exporter. The row of a member stays
// when the user leaves.
func (s *History) GroupsEver(ctx context.Context, user, after uint32) (groups []uint32,
	last uint32, err error) {
	groups, err = database.Numbers(ctx, s.db.Master, fmt.Sprintf("SELECT DISTINCT groupId "+
		"FROM IMGroupMember WHERE userId=%d AND groupId>%d ORDER BY groupId LIMIT %d", user, after,
		groupsPage))
	if len(groups) == groupsPage {
		last = groups[groupsPage-1]
	}
	return groups, last, s.db.SQLError("list the groups of a user", err)
}

// SentToGroup returns messages of a user in a group; see im.Exporter.
func (s *History) SentToGroup(ctx context.Context, user, group, after uint32,
	limit int) ([]im.Message, error) {
	list, err := messagesWhere(ctx, s.db.Master, conversation.Thread{Group: true, ID: group},
		fmt.Sprintf(" AND msgId>%d AND userId=%d ORDER BY msgId LIMIT %d", after, user, limit))
	return plain(list), s.db.SQLError("read the messages of a user", err)
}
