// Package apart is the messages of the embedded store that were accepted, and that the tables by
// conversation rejected afterwards. They are in rows of the table Arrived with ids below 0, which
// the server never reads.
package apart

import (
	"context"
	"database/sql"
	"errors"

	"teamtalk/proto/pb"
	"teamtalk/sql/embedded/arrivals"
	"teamtalk/sql/embedded/faults"
)

// Database is the store, for the methods of Apart.
type Database interface {
	// Query runs a read and calls scan for each row.
	Query(ctx context.Context, op, query string, scan func(*sql.Rows) error, args ...any) error
	// Write runs do in a transaction, and commits when it returns nil.
	Write(ctx context.Context, op string, do func(Tx) error) error
}

// Tx is a transaction.
type Tx struct {
	Conn *sql.Conn
	// Insert inserts a message of the conversation or group with an id. Count lets it count, as the
	// last of its conversation.
	Insert func(id int64, m *arrivals.Message) error
	Count  func(m *arrivals.Message) error
}

// Apart has the methods of the store about such messages.
type Apart struct{ db Database }

// New returns the methods for a store.
func New(db Database) *Apart { return &Apart{db} }

// Message is a message that AppendMessages has accepted and that is in no table by conversation,
// because they rejected it.
type Message struct {
	Row int64 // id of its row in the table Arrived, below 0
	// Message is nil when the row cannot be read.
	*arrivals.Message
	Bytes  int   // size of the row
	Reason error // why the tables reject the message now; nil: they accept it
}

// ErrGone is the reason of a message whose group or conversation has no row.
var ErrGone = errors.New("its group or conversation does not exist")

var (
	errTaken     = errors.New("another message has its id")
	errSoundless = errors.New("its sound is missing in the row")
	errLooked    = errors.New("only a look")
)

// LookApart returns the messages in rows of the table Arrived that are kept apart, and tries which
// of them the tables accept now. It changes nothing. Rows that do not exist are left out.
func (a *Apart) LookApart(ctx context.Context, rows []int64) (list []Message, err error) {
	err = a.db.Write(ctx, "look apart", func(tx Tx) error {
		for _, row := range rows {
			messages, _, err := tx.putBackRow(row)
			if err != nil {
				return err
			}
			list = append(list, messages...)
		}
		return errLooked // which rolls everything back
	})
	if errors.Is(err, errLooked) {
		err = nil
	}
	return list, err
}

// PutBack writes the messages of a row that is kept apart into the tables by conversation. Those
// that the tables reject stay apart, in the same row. A message keeps its id, and its
// client_msg_id is forgotten.
func (a *Apart) PutBack(ctx context.Context, row int64) error {
	return a.db.Write(ctx, "put back", func(tx Tx) error {
		_, left, err := tx.putBackRow(row)
		switch {
		case err != nil:
			return err
		case left == nil:
			return tx.exec("delete from Arrived where id = ?", row)
		}
		return tx.exec("update Arrived set list = ?2 where id = ?1 and list <> ?2", row, left)
	})
}

// CountApart returns the number of messages that are kept apart, and that of rows with such
// messages that cannot be read.
func (a *Apart) CountApart(ctx context.Context) (messages, unreadable int, err error) {
	err = a.db.Query(ctx, "count apart", "select list from Arrived where id < 0",
		func(row *sql.Rows) error {
			var b []byte
			if err := row.Scan(&b); err != nil {
				return err
			}
			if batch, err := arrivals.Decode(b); err != nil {
				unreadable++
			} else {
				messages += len(batch)
			}
			return nil
		})
	return messages, unreadable, err
}

// putBackRow writes the messages of a row that the tables accept. It returns all messages of the
// row, and what the row must be afterwards: nil when it has nothing left, or does not exist.
func (tx Tx) putBackRow(row int64) (all []Message, left []byte, err error) {
	var b []byte
	err = tx.read(&b, "select list from Arrived where id = ? and id < 0", row)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	batch, err := arrivals.Decode(b)
	if err != nil {
		return []Message{{Row: row, Bytes: len(b), Reason: err}}, b, nil
	}
	var rejected []arrivals.Message
	for i := range batch {
		m := &batch[i]
		reason, err := tx.putBack(m)
		if err != nil {
			return nil, nil, err
		}
		if reason != nil {
			rejected = append(rejected, *m)
		}
		all = append(all, Message{row, m, len(b), reason})
	}
	if len(rejected) > 0 {
		left = arrivals.Encode(rejected)
	}
	return all, left, nil
}

// putBack writes a message that was kept apart, and returns why the tables reject it. Counts
// include the message already, unless its id is one that its conversation has not given: a whole
// batch was set apart by hand then.
func (tx Tx) putBack(m *arrivals.Message) (reason, err error) {
	id, thread, messages := m.Chat, "IMRelationShip", "IMMessage"
	if m.Chat < 0 {
		id, thread, messages = -m.Chat, "IMGroup", "IMGroupMessage"
	}
	var last uint32
	err = tx.read(&last, "select lastMsgId from "+thread+" where id = ?", id)
	if errors.Is(err, sql.ErrNoRows) {
		return ErrGone, nil
	}
	if err != nil {
		return nil, err
	}
	var taken bool
	if err := tx.read(&taken, "select exists (select 1 from "+messages+
		" where id = ? << 32 | ?)", id, m.ID); err != nil {
		return nil, err
	}
	switch {
	case taken:
		return errTaken, nil
	case m.Audio == nil && (m.Type == pb.MsgType_MSG_TYPE_SINGLE_AUDIO ||
		m.Type == pb.MsgType_MSG_TYPE_GROUP_AUDIO):
		return errSoundless, nil
	}
	// The client_msg_id has expired, or another message has it.
	unnamed := *m
	unnamed.ClientID = nil
	return tx.trying(func() error {
		err := tx.Insert(id, &unnamed)
		if err == nil && m.ID > last {
			err = tx.Count(m)
		}
		return err
	})
}

// trying runs do. It takes back what do has changed when the database rejects a row, which is the
// reason then.
func (tx Tx) trying(do func() error) (reason, err error) {
	if err := tx.exec("savepoint apart"); err != nil {
		return nil, err
	}
	err = do()
	if faults.AboutTheRow(err) {
		reason, err = err, tx.exec("rollback to apart")
	}
	if err != nil {
		return nil, err
	}
	return reason, tx.exec("release apart")
}

// exec runs a statement. Statements in a transaction watch no context, see the writer.
func (tx Tx) exec(text string, args ...any) error {
	_, err := tx.Conn.ExecContext(context.Background(), text, args...)
	return err
}

// read reads one column of one row.
func (tx Tx) read(into any, query string, args ...any) error {
	return tx.Conn.QueryRowContext(context.Background(), query, args...).Scan(into)
}
