package embedded

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestPlans requires that every read finds its rows in growing tables by a key or an
// index.
func TestPlans(t *testing.T) {
	s := open(t, Options{Dir: filepath.Join(t.TempDir(), "data")})
	defer s.Close()
	// m, g, a: aliases in the statements
	grow := []string{"IMMessage", "IMGroupMessage", "IMRelationShip", "IMGroupMember", "IMGroup",
		"IMAudio", "IMTransmitFile", "m", "g", "a"}
	var st statements
	for _, q := range st.queries() {
		rows, err := s.readers.QueryContext(context.Background(),
			"explain query plan "+q.text, 1, 2, 3, 4)
		if err != nil {
			t.Fatalf("%s: %v", q.text, err)
		}
		steps := 0
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				t.Fatal(err)
			}
			if words := strings.Fields(detail); words[0] == "SCAN" &&
				slices.Contains(grow, words[1]) {
				t.Errorf("%s\nof %s", detail, q.text)
			}
			steps++
		}
		if err := rows.Err(); err != nil || steps == 0 {
			t.Errorf("%s: %d steps, %v", q.text, steps, err)
		}
		rows.Close()
	}
}
