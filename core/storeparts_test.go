package core_test

// storeLevels orders the packages of sql/store: imports go down only, so that each part can be
// read without those that call it. Other packages import sql/store itself, which builds the
// parts, and redisconn.
var storeLevels = map[string]int{
	"sql/store": 8, "sql/store/messages": 7, "sql/store/groups": 6, "sql/store/sessions": 5,
	"sql/store/retention": 5,
	"sql/store/unread":    4, "sql/store/history": 3, "sql/store/conversation": 2,
	"sql/store/members": 2, "sql/store/outbox": 2, "sql/store/directory": 2,
	"sql/store/files": 2, "sql/store/push": 2, "sql/store/logins": 2,
	"sql/store/database": 1, "sql/store/redisconn": 0, "sql/store/use": 0,
}

// forbiddenPart returns the reason why a file of folder dir may not import to, a package of
// sql/store.
func forbiddenPart(dir, to string) string {
	level, known := storeLevels[to]
	from, inside := storeLevels[dir]
	switch {
	case !known || under(dir, "sql/store") && !inside:
		return "no level in storeLevels"
	case inside && level >= from:
		return "the parts of the store import only parts of a lower level"
	case !inside && to != "sql/store" && to != "sql/store/redisconn":
		return "a part of the store: import sql/store"
	}
	return ""
}
