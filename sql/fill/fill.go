// Package fill loads very many relations and messages into a store at once, for measuring how it does when it is large: millions of rows in minutes, where the
// store's own way would take hours. The rows are those that the store would have made, so that history, message ids, lists of conversations and groups go on
// from them; all messages count as read.
//
// It is for databases that are there to be measured, with no server running on them. What is there already stays: relations are completed, messages
// come after the last ones. Killed in the middle it leaves fewer rows, none that are wrong, and can be run again.
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

// Spec says what to make.
type Spec struct {
	// Users are the ids of those who have the conversations, without duplicates. Users beside each other in the list are the first to get one: 1st with 2nd, 2nd with
	// 3rd and so on round, then each with the one after the next.
	Users []uint32
	// Relations is how many pairs of users have a conversation, at most all of them (MaxRelations).
	Relations int
	// Messages is how many are added, shared out evenly over the relations. Both sides write in turn.
	Messages int
	// Groups are existing groups, and GroupMessages how many messages they get, shared out evenly. Members write in turn.
	Groups        []Group
	GroupMessages int
	// Texts are the bodies of messages, used in turn: valid UTF-8 of 1 to 4,096 bytes. Required with messages.
	Texts [][]byte
	// Since and Until, unix seconds, are the time that messages between users are spread over. Default: the 30 days up to now. Members of groups see nothing from
	// before they joined, so groups' messages are between joining and Until, all in one second if the group is new.
	Since, Until uint32
	// Progress is told, from time to time and by one goroutine at a time, how many of the total rows of a stage are there. nil: nobody listens.
	Progress func(stage string, done, total int64)
}

// Group is a group that gets messages.
type Group struct {
	ID      uint32
	Members []uint32
}

// Result is what was made.
type Result struct {
	Relations     int64 // that were not there before
	Messages      int64
	GroupMessages int64
}

// MaxRelations is how many pairs so many users make.
func MaxRelations(users int) int { return users * (users - 1) / 2 }

// check fills in defaults and says what is wrong.
func (s *Spec) check() error {
	if s.Until == 0 {
		s.Until = uint32(time.Now().Unix())
	}
	if s.Since == 0 {
		s.Since = s.Until - 30*24*3600
	}
	switch {
	case s.Since > s.Until:
		return im.Errorf(im.Invalid, "fill: messages from %d until %d", s.Since, s.Until)
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

// thread is a conversation to be filled: a relation or a group.
type thread struct {
	id      uint32   // of the relation or group
	a, b    uint32   // its users, the smaller first; 0 of a group
	members []uint32 // of a group
	last    uint32   // highest message id that is there
	from    uint32   // time of the first new message
	until   uint32   // and of the last
	n       int      // new messages
}

// message is a row.
type message struct {
	from, to, id, created uint32
	text                  []byte
}

// message makes the k-th new message, from 0 on.
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

// relations makes the threads of the pairs, without ids. Each has its share of the messages, and ends at a time of its own, the first ones last.
func (s *Spec) relations() []thread {
	list := make([]thread, 0, s.Relations)
	n, half := len(s.Users), uint64(s.Until-s.Since)/2
	for distance := 1; len(list) < s.Relations; distance++ {
		round := n
		if 2*distance == n {
			round = n / 2 // the other half is the same pairs
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

// share is the k-th of parts of total.
func share(total, parts, k int) int {
	n := total / parts
	if k < total%parts {
		n++
	}
	return n
}

// after puts a thread's new messages behind those that are there.
func (t *thread) after(last, created uint32) error {
	t.last = max(t.last, last)
	t.from = max(t.from, created)
	t.until = max(t.until, t.from)
	if uint64(t.last)+uint64(t.n) > math.MaxUint32 {
		return im.Errorf(im.Invalid, "fill: the message ids of conversation %d are used up", t.id)
	}
	return nil
}

// sortByID sorts threads as tables have them.
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

// stage reports progress.
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

// rows walks over the new messages of threads in order, some at a time.
type rows struct {
	list  []thread
	texts [][]byte
	k     int // of the first thread's
}

// next returns the next message and its thread; nil when there are no more.
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
