package schema

import (
	"database/sql"
	"slices"
	"testing"
)

// checkJoins checks the members of doubled after Finalize. Some messages of group 9 have
// new ids, which do not tell whether the messages are older than a joining.
func checkJoins(t *testing.T, db *sql.DB) {
	t.Helper()
	if lines := query(t, db, "SELECT CONCAT_WS(' ', groupId, joinMsgId, joinedAt) FROM "+
		"IMGroupMember ORDER BY id"); !slices.Equal(lines, []string{"9 2 0", "17 2 2"}) {
		t.Errorf("members: %q", lines)
	}
}
