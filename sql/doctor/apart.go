package doctor

import (
	"context"
	"fmt"
	"time"

	"teamtalk/sql/embedded/apart"
)

// rejects is a Check of the messages of an embedded store that are in no table by conversation,
// because the tables rejected them. A subject is the negative of the id of a row of the table
// Arrived.
type rejects struct {
	*lite
	file     string // of the database
	rejected int64  // a row with a message that the tables reject; 0: none was seen
}

// About describes the check.
func (c *rejects) About() About {
	return About{
		Name:     "kept-apart",
		Compares: "accepted messages that the tables reject: no user sees them",
		Repair:   "a message that the tables accept now is written into its conversation",
	}
}

// Subjects returns rows; see Check.
func (c *rejects) Subjects(ctx context.Context, after uint64, most int) ([]uint64, error) {
	return subjectRows(ctx, c.db, "select -id from Arrived where id < -? order by id desc limit ?",
		after, most)
}

// Look tries which messages the tables accept; see Check.
func (c *rejects) Look(ctx context.Context, ids []uint64) ([]Finding, error) {
	rows := make([]int64, len(ids))
	for i, id := range ids {
		rows[i] = -int64(id)
	}
	list, err := c.store.LookApart(ctx, rows)
	found := make([]Finding, len(list))
	for i, a := range list {
		found[i] = Finding{Subject: uint64(-a.Row), Text: describe(a)}
		if m := a.Message; m != nil {
			found[i].key = fmt.Sprint(m.Chat, m.ID)
		}
		if a.Reason != nil && c.rejected == 0 {
			c.rejected = a.Row
		}
	}
	return found, err
}

// describe returns a message as text.
func describe(a apart.Message) string {
	m := a.Message
	if m == nil {
		return fmt.Sprintf("row %d cannot be read, %d bytes: %v", a.Row, a.Bytes, a.Reason)
	}
	to := fmt.Sprintf("to user %d, message %d of conversation %d", m.To, m.ID, m.Chat)
	if m.Chat < 0 {
		to = fmt.Sprintf("message %d of group %d", m.ID, m.To)
	}
	reason := "the tables accept it now"
	if a.Reason != nil {
		reason = a.Reason.Error()
	}
	return fmt.Sprintf("row %d: from user %d %s, of %s: %s", a.Row, m.From, to,
		time.Unix(int64(m.Created), 0).UTC().Format(time.DateTime), reason)
}

// Mend writes what the tables accept; see Check.
func (c *rejects) Mend(ctx context.Context, list []Finding) error {
	for _, row := range subjectsOf(list) {
		if err := c.store.PutBack(ctx, -int64(row)); err != nil {
			return err
		}
	}
	return nil
}

// Note says what to do about a message that the tables reject.
func (c *rejects) Note() string {
	if c.rejected == 0 {
		return ""
	}
	return fmt.Sprintf("remove the reason, then run doctor --repair; or give row %d up: "+
		"sqlite3 %q 'delete from Arrived where id = %[1]d'", c.rejected, c.file)
}
