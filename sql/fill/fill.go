// Package fill loads very many relations and messages into a store, to measure a large
// store. It writes millions of rows in minutes, for which the store itself would take
// hours. The rows are those that the store would write, so that histories, message ids,
// conversation lists and groups continue from them. All messages count as read.
//
// It is for databases that are only measured. No server may run on them meanwhile.
// Existing rows stay: missing relations are added, and messages follow the last ones. A
// fill that is killed leaves fewer rows and no wrong ones, and can be run again.
package fill

import (
	"cmp"
	"math"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"teamtalk/core/im"
)

// Spec says which rows to make.
type Spec struct {
	// Users are the ids of the users that have conversations, without duplicates. Users
	// that are neighbours in the list get a relation first: 1st with 2nd, 2nd with 3rd
	// and so on round, then each with the second next.
	Users []uint32
	// Relations is the number of pairs of users with a conversation, at most
	// MaxRelations.
	Relations int
	// Messages is the number of messages to add, divided evenly among the relations. Both
	// users write in turn.
	Messages int
	// Groups are existing groups. GroupMessages is the number of messages to add, divided
	// evenly among them. The members write in turn.
	Groups        []Group
	GroupMessages int
	// Texts are the bodies of messages, used in turn: valid UTF-8 of 1 to 4,096 bytes.
	// Required with messages.
	Texts [][]byte
	// Since and Until, in unix seconds, are the period of the messages between users.
	// Default: the last 30 days. Members of a group see no messages from before they
	// joined, so a group's messages are dated between joining and Until. In a new group
	// all are dated in one second.
	Since, Until uint32
	// Progress is called now and then with the number of rows that a stage has written,
	// and their total. The calls do not overlap. nil: no reports.
	Progress func(stage string, done, total int64)
}

// Group is a group to which messages are added.
type Group struct {
	ID      uint32
	Members []uint32
}

// Result counts the rows that were made.
type Result struct {
	Relations     int64 // new ones
	Messages      int64
	GroupMessages int64
}

// MaxRelations returns the number of pairs of so many users.
func MaxRelations(users int) int { return users * (users - 1) / 2 }

// check sets defaults and returns an error for bad values.
func (s *Spec) check() error {
	if s.Until == 0 {
		s.Until = uint32(time.Now().Unix())
	}
	if s.Since == 0 {
		s.Since = s.Until - 30*24*3600
	}
	switch {
	case s.Since > s.Until:
		return im.Errorf(im.Invalid, "fill: the messages' period ends (%d) before it begins (%d)",
			s.Until, s.Since)
	case s.Relations < 0 || s.Messages < 0 || s.GroupMessages < 0:
		return im.Errorf(im.Invalid, "fill: a number is negative")
	case s.Relations > MaxRelations(len(s.Users)):
		return im.Errorf(im.Invalid, "fill: %d users have at most %d relations, not %d",
			len(s.Users), MaxRelations(len(s.Users)), s.Relations)
	case s.Messages > 0 && s.Relations == 0:
		return im.Errorf(im.Invalid, "fill: messages without relations")
	case s.GroupMessages > 0 && len(s.Groups) == 0:
		return im.Errorf(im.Invalid, "fill: messages without groups")
	case s.Messages+s.GroupMessages > 0 && len(s.Texts) == 0:
		return im.Errorf(im.Invalid, "fill: messages without texts")
	}
	for _, t := range s.Texts {
		if len(t) == 0 || len(t) > im.MaxContent || !utf8.Valid(t) {
			return im.Errorf(im.Invalid, "fill: a text of %d bytes: want UTF-8 of 1 to %d", len(t),
				im.MaxContent)
		}
	}
	for _, g := range s.Groups {
		if len(g.Members) == 0 {
			return im.Errorf(im.Invalid, "fill: group %d has no members", g.ID)
		}
	}
	return nil
}

// thread is a conversation to fill: a relation or a group.
type thread struct {
	id      uint32   // of the relation or group
	a, b    uint32   // its users, the smaller id first; 0 for a group
	members []uint32 // of a group
	last    uint32   // highest existing message id
	from    uint32   // time of the first new message
	until   uint32   // time of the last new message
	n       int      // new messages
}

// message is a row of a new message.
type message struct {
	from, to, id, created uint32
	text                  []byte
}

// message makes the k-th new message, from 0.
func (t *thread) message(k int, texts [][]byte) message {
	m := message{id: t.last + 1 + uint32(k), created: t.until,
		text: texts[(int(t.id)+k)%len(texts)]}
	if t.n > 1 {
		m.created = t.from + uint32(uint64(t.until-t.from)*uint64(k)/uint64(t.n-1))
	}
	switch {
	case t.members != nil:
		m.from, m.to = t.members[k%len(t.members)], t.id
	case k%2 == 0:
		m.from, m.to = t.a, t.b
	default:
		m.from, m.to = t.b, t.a
	}
	return m
}

// relations makes the threads of the pairs, without ids. Each has its share of the
// messages. Their last messages have different times, and the first thread's is the
// latest.
func (s *Spec) relations() []thread {
	list := make([]thread, 0, s.Relations)
	n, half := len(s.Users), uint64(s.Until-s.Since)/2
	for distance := 1; len(list) < s.Relations; distance++ {
		round := n
		if 2*distance == n {
			round = n / 2 // the other half has the same pairs
		}
		for i := 0; i < round && len(list) < s.Relations; i++ {
			a, b := s.Users[i], s.Users[(i+distance)%n]
			k := len(list)
			list = append(list, thread{a: min(a, b), b: max(a, b),
				n:    share(s.Messages, s.Relations, k),
				from: s.Since, until: s.Until - uint32(half*uint64(k)/uint64(s.Relations))})
		}
	}
	return list
}

// groups makes the threads of the groups.
func (s *Spec) groups() []thread {
	list := make([]thread, len(s.Groups))
	for i, g := range s.Groups {
		list[i] = thread{id: g.ID, members: g.Members, n: share(s.GroupMessages, len(s.Groups), i),
			until: s.Until}
	}
	return list
}

// share returns the k-th of so many parts of total.
func share(total, parts, k int) int {
	n := total / parts
	if k < total%parts {
		n++
	}
	return n
}

// after dates a thread's new messages after the existing ones.
func (t *thread) after(last, created uint32) error {
	t.last = max(t.last, last)
	t.from = max(t.from, created)
	t.until = max(t.until, t.from)
	if uint64(t.last)+uint64(t.n) > math.MaxUint32 {
		return im.Errorf(im.Invalid, "fill: conversation %d has no message ids left", t.id)
	}
	return nil
}

// sortByID sorts threads in the order of the tables.
func sortByID(list []thread) {
	slices.SortFunc(list, func(a, b thread) int { return cmp.Compare(a.id, b.id) })
}

// count adds up the new messages.
func count(list []thread) (n int64) {
	for i := range list {
		n += int64(list[i].n)
	}
	return n
}

// stage reports the progress of a stage.
type stage struct {
	mu    sync.Mutex
	name  string
	done  int64
	total int64
	tell  func(string, int64, int64)
}

func (s *Spec) stage(name string, total int64) *stage {
	return &stage{name: name, total: total, tell: s.Progress}
}

func (s *stage) add(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done += int64(n)
	if s.tell != nil {
		s.tell(s.name, s.done, s.total)
	}
}

// rows iterates over the new messages of threads, in order.
type rows struct {
	list  []thread
	texts [][]byte
	k     int // index of the first thread's next message
}

// next returns the next message and its thread; nil at the end.
func (r *rows) next() (*thread, message) {
	for len(r.list) > 0 {
		if t := &r.list[0]; r.k < t.n {
			r.k++
			return t, t.message(r.k-1, r.texts)
		}
		r.list, r.k = r.list[1:], 0
	}
	return nil, message{}
}
