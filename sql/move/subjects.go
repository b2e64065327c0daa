package move

import (
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"fmt"
)

// The subjects. Both sides read and write them in one form, whose columns the comments name.
const (
	// id, name, domain, nick, sex, password, salt, phone, email, avatar, departId, status,
	// push_shield_status, sign_info, created, updated
	users = "users"
	// id, departName, priority, parentId, status, created, updated
	departs = "departments"
	// id, fromId, toId, path, size, duration, created
	sounds = "sounds"
	// id, fromId, toId, taskId, fileName, size, status, created, updated
	files = "waiting files"
	// id, smallId, bigId, last id given, whether each has removed it from its list, created,
	// updated: the time of the last message
	conversations = "conversations"
	// conversation, id, fromId, toId, type, status, created, sentAs, content
	messages = "messages"
	// id, name, avatar, creator, type, version, last id given, lastChated, created, updated
	groups = "groups"
	// group, id, userId, type, status, created, sentAs, content
	groupMessages = "messages in groups"
	// group, user, the id after which it sees messages (the last one if it sees none), the
	// group's last id and lastChated, whether it has removed the group from its list, time of
	// joining, addedBy
	members = "members of groups"
	// group, user, time of leaving
	departures = "departures from groups"
	// 1 user 2 group, conversation or group, fromId, toId, client id, message id, created
	clientIDs = "client message ids"
	// user, 1 user 2 group, peer, count: counts above zero, as the store tells them
	unread = "unread counts"
	// user, client type, token
	tokens = "push tokens"
	// group, user
	shields = "muted groups"
	// kind, key, value, time, time at which it expires
	logins = "login marks"
	// table, next id
	nextIDs = "next ids"
	// user, 1 user 2 group, peer, message id
	readMarks = "read marks"
)

// subject is one kind of rows.
type subject struct {
	what  string
	kinds string // of the columns: i number, s text
	brief bool   // rows expire, so they are not compared
}

// subjects are all subjects, in the order in which they are moved: rows follow those that they
// refer to.
var subjects = []subject{
	{what: departs, kinds: "isiiiii"},
	{what: users, kinds: "isssisssssiiisii"},
	{what: sounds, kinds: "iiisiii"},
	{what: files, kinds: "iiissiiii"},
	{what: conversations, kinds: "iiiiiiii"},
	{what: messages, kinds: "iiiiiiiis"},
	{what: groups, kinds: "issiiiiiii"},
	{what: groupMessages, kinds: "iiiiiiis"},
	{what: members, kinds: "iiiiiiii"},
	{what: departures, kinds: "iii"},
	{what: clientIDs, kinds: "iiiisii"},
	{what: unread, kinds: "iiii"},
	{what: tokens, kinds: "iis"},
	{what: shields, kinds: "ii"},
	{what: logins, kinds: "issii", brief: true},
	{what: nextIDs, kinds: "si"},
}

// marks are the read marks of MySQL. The embedded store computes them from its counts, and needs
// none.
var marks = subject{what: readMarks, kinds: "iiii"}

// kindsOf returns the kinds of the columns of a subject.
func kindsOf(what string) string {
	for _, s := range append(subjects[:len(subjects):len(subjects)], marks) {
		if s.what == what {
			return s.kinds
		}
	}
	return ""
}

// row is a row in the common form: int64 and []byte.
type row []any

// num returns a number of the row.
func (r row) num(i int) int64 {
	n, _ := r[i].(int64) // the kinds say so
	return n
}

// text returns a text of the row.
func (r row) text(i int) []byte {
	b, _ := r[i].([]byte) // the kinds say so
	return b
}

// size returns the bytes of the row's texts.
func (r row) size() (n int) {
	for _, v := range r {
		b, _ := v.([]byte)
		n += len(b)
	}
	return n
}

// numbers makes a row of numbers.
func numbers(list ...uint32) row {
	r := make(row, len(list))
	for i, n := range list {
		r[i] = int64(n)
	}
	return r
}

// sum is the number of rows, and the sum of their digests, which does not depend on their order.
type sum struct {
	Rows int64
	Sum  [2]uint64
}

// add adds a row.
func (s *sum) add(r row) {
	var b []byte
	for _, v := range r {
		switch v := v.(type) {
		case int64:
			b = append(b, 'i')
			b = binary.AppendVarint(b, v)
		case []byte:
			b = append(b, 's')
			b = binary.AppendUvarint(b, uint64(len(v)))
			b = append(b, v...)
		default:
			panic(fmt.Sprintf("move: a value of type %T", v)) // a reader is wrong
		}
	}
	d := sha256.Sum256(b)
	s.Rows++
	s.Sum[0] += binary.BigEndian.Uint64(d[:])
	s.Sum[1] += binary.BigEndian.Uint64(d[8:])
}

// each calls do for each row of a query, with the kinds of the columns.
func each(rows *sql.Rows, kinds string, do func(row) error) error {
	defer rows.Close()
	for rows.Next() {
		dest := make([]any, len(kinds))
		for i, k := range kinds {
			if k == 's' {
				dest[i] = new([]byte)
			} else {
				dest[i] = new(int64)
			}
		}
		if err := rows.Scan(dest...); err != nil {
			return err
		}
		r := make(row, len(dest))
		for i, d := range dest {
			switch d := d.(type) {
			case *[]byte:
				if r[i] = *d; *d == nil {
					r[i] = []byte{}
				}
			case *int64:
				r[i] = *d
			}
		}
		if err := do(r); err != nil {
			return err
		}
	}
	return rows.Err()
}
