package conversation

import (
	"cmp"
	"fmt"
	"log/slog"
	"strconv"

	"teamtalk/sql/schema"
)

// Thread identifies where messages are stored and numbered: under a relation or a group.
type Thread struct {
	Group bool
	ID    uint32 // IMRelationShip.id, or IMGroup.id
}

// Table returns the table of the thread's messages.
func (t Thread) Table() string {
	if t.Group {
		return fmt.Sprintf("IMGroupMessage_%d", t.ID%schema.Tables)
	}
	return fmt.Sprintf("IMMessage_%d", t.ID%schema.Tables)
}

// Slot numbers the tables of messages: first those of relations, then those of groups.
func (t Thread) Slot() uint32 { return t.ID%schema.Tables + t.kind()*schema.Tables }

// kind is 1 for a group and 0 for a relation. Queries return it.
func (t Thread) kind() uint32 {
	if t.Group {
		return 1
	}
	return 0
}

// Column returns the column that holds the thread's id in the table of messages.
func (t Thread) Column() string {
	if t.Group {
		return "groupId"
	}
	return "relateId"
}

// Columns returns the columns of a message in the order in which readMessages scans them.
func (t Thread) Columns() string {
	if t.Group {
		return "1, groupId, msgId, userId, groupId, type, created, content"
	}
	return "0, relateId, msgId, fromId, toId, type, created, content"
}

// Counter returns the key of the thread's message ids in Redis.
func (t Thread) Counter() string {
	if t.Group {
		return "group_msg_id_" + strconv.FormatUint(uint64(t.ID), 10)
	}
	return "msg_id_" + strconv.FormatUint(uint64(t.ID), 10)
}

// LogValue names the thread in logs.
func (t Thread) LogValue() slog.Value { return slog.StringValue(t.Counter()) }

// CompareThreads orders threads. All transactions take threads in this order, so that
// they do not wait for each other in a circle.
func CompareThreads(a, b Thread) int {
	if a.Group != b.Group {
		if b.Group {
			return -1
		}
		return 1
	}
	return cmp.Compare(a.ID, b.ID)
}
