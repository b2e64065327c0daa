package store

import (
	"fmt"
	"strings"
	"testing"

	"teamtalk/core/im"
	"teamtalk/sql/store/conversation"
	"teamtalk/sql/store/history"
)

// TestGroupQueriesUseIndexes requires that the queries for messages, lists and the
// synchronisation do not read a table as a whole.
func TestGroupQueriesUseIndexes(t *testing.T) {
	e := newEnv(t)
	s := e.store(t)
	u := users(t, s, 40)
	var batch []*im.Message
	var g uint32
	for i := range 300 {
		if i%10 == 0 {
			g = newGroup(t, s, u...)
		}
		batch = append(batch, groupTexts(u[i%len(u)], g, 10)...)
	}
	send(t, s, batch...)
	send(t, s, texts(u[0], u[1], 300)...)
	pair := s.conversations.Cached(im.ConversationKey(u[0], u[1])).Thread
	syncAll(t, s)
	for _, table := range []string{"IMGroup", "IMGroupMember", "IMRecentSession",
		"IMUser", of(g).Table(), pair.Table()} {
		if _, err := e.db.Exec("ANALYZE TABLE " + table); err != nil {
			t.Fatal(err)
		}
	}
	queries := map[string]string{
		fmt.Sprintf("SELECT id, version FROM IMGroup WHERE status=0 AND id IN (%d,%d)", g,
			g-1): "PRIMARY",
		fmt.Sprintf("SELECT groupId, MAX(msgId) FROM %s WHERE groupId IN (%d,%d) GROUP BY groupId",
			of(g).Table(), g, g-8): "groupId_msgId",
		fmt.Sprintf("SELECT content FROM %s WHERE groupId=%d AND status=0 AND msgId<=50 "+
			"ORDER BY msgId DESC LIMIT 20", of(g).Table(), g): "groupId_msgId",
		fmt.Sprintf("SELECT MAX(created) FROM IMGroupMember WHERE groupId=%d AND userId=%d "+
			"AND status=0", g, u[0]): "idx_groupId_userId_status",
		fmt.Sprintf("SELECT groupId FROM IMGroupMember WHERE status=0 AND userId IN (%d,%d)", u[0],
			u[1]): "idx_",
		fmt.Sprintf("SELECT lastChated, id FROM IMGroup WHERE lastChated>=%d AND status=0 "+
			"ORDER BY lastChated, id LIMIT 200", 4000000000): "idx_lastChated",
		fmt.Sprintf("SELECT id FROM IMRecentSession WHERE userId=%d AND peerId=%d AND type=2 "+
			"AND status=0", u[0], g): "userId_peerId",
	}
	// backwards from the newest message, or from an id
	for _, of := range []conversation.Thread{of(g), pair} {
		for _, below := range []string{"", " AND msgId<=50"} {
			queries[fmt.Sprintf("SELECT %s FROM %s WHERE %s=%d AND status=0"+history.NewestFirst,
				of.Columns(), of.Table(), of.Column(), of.ID, below, 0, 20)] = "msgId"
		}
	}
	for query, keys := range queries {
		wantIndex(t, e, query, keys)
	}
}

// wantIndex checks that a query uses an index with keys in its name, and sorts nothing.
func wantIndex(t *testing.T, e *env, query, keys string) {
	t.Helper()
	rows, err := e.db.Query("EXPLAIN " + query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	columns, _ := rows.Columns()
	for rows.Next() {
		row := make([]any, len(columns))
		text := make([]*string, len(columns))
		for i := range row {
			row[i] = &text[i]
		}
		if err := rows.Scan(row...); err != nil {
			t.Fatal(err)
		}
		plan := map[string]string{}
		for i, c := range columns {
			if text[i] != nil {
				plan[c] = *text[i]
			}
		}
		t.Logf("%s\n\t%v", query, plan)
		if !strings.Contains(plan["key"], keys) || plan["type"] == "ALL" {
			t.Errorf("%s: key %q, type %q, want key %s", query, plan["key"], plan["type"], keys)
		}
		if strings.Contains(plan["Extra"], "filesort") {
			t.Errorf("%s: sorted: %s", query, plan["Extra"])
		}
	}
}

// of returns the thread of a group.
func of(group uint32) conversation.Thread { return conversation.Thread{Group: true, ID: group} }
