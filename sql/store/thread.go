package store

import (
	"cmp"
	"fmt"
	"log/slog"
	"strconv"

	"teamtalk/sql/schema"
)

// thread identifies where messages are stored and numbered: under a relation or a group.
type thread struct {
	group bool
	id    uint32 // IMRelationShip.id, or IMGroup.id
}

// table returns the table of the thread's messages.
func (t thread) table() string {
	if t.group {
		return fmt.Sprintf("IMGroupMessage_%d", t.id%schema.Tables)
	}
	return fmt.Sprintf("IMMessage_%d", t.id%schema.Tables)
}

// slot numbers the tables of messages: first those of relations, then those of groups.
func (t thread) slot() uint32 { return t.id%schema.Tables + t.kind()*schema.Tables }

// kind is 1 for a group and 0 for a relation. Queries return it.
func (t thread) kind() uint32 {
	if t.group {
		return 1
	}
	return 0
}

// column returns the column that holds the thread's id in the table of messages.
func (t thread) column() string {
	if t.group {
		return "groupId"
	}
	return "relateId"
}

// columns returns the columns of a message in the order in which readMessages scans them.
func (t thread) columns() string {
	if t.group {
		return "1, groupId, msgId, userId, groupId, type, created, content"
	}
	return "0, relateId, msgId, fromId, toId, type, created, content"
}

// counter returns the key of the thread's message ids in Redis.
func (t thread) counter() string {
	if t.group {
		return "group_msg_id_" + strconv.FormatUint(uint64(t.id), 10)
	}
	return "msg_id_" + strconv.FormatUint(uint64(t.id), 10)
}

// LogValue names the thread in logs.
func (t thread) LogValue() slog.Value { return slog.StringValue(t.counter()) }

// compareThreads orders threads. All transactions take threads in this order, so that
// they do not wait for each other in a circle.
func compareThreads(a, b thread) int {
	if a.group != b.group {
		if b.group {
			return -1
		}
		return 1
	}
	return cmp.Compare(a.id, b.id)
}
