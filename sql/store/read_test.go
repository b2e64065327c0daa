package store

import (
	"testing"
)

// TestExistingData reads rows as C++ servers leave them.
func TestExistingData(t *testing.T) {
	e := unfinalized(t)
	for _, stmt := range []string{
		"INSERT INTO IMUser (id, name, departId, created, updated) VALUES (1,'a',1,1,1), " +
			"(2,'b',1,1,1)",
		"INSERT INTO IMRelationShip (id, smallId, bigId, status, created, updated) " +
			"VALUES (11,1,2,0,1,1), (12,1,2,0,1,1), (13,1,2,1,9,9)",
		"INSERT INTO IMMessage_3 (relateId, fromId, toId, msgId, content, status, type, created, " +
			"updated) VALUES (11,1,2,1,'before',0,1,1,1)",
		"INSERT INTO IMMessage_4 (relateId, fromId, toId, msgId, content, status, type, created, " +
			"updated) VALUES (12,1,2,1,'YQ==',0,1,2,2), (12,2,1,2,'gone',1,1,3,3), " +
			"(12,1,2,3,'Yg==',0,1,4,4), (12,1,2,4,'gone',1,1,5,5)",
		"INSERT INTO IMRecentSession (userId, peerId, type, status, created, updated) " +
			"VALUES (1,2,1,0,1,1), (1,2,1,1,1,2), (2,1,1,1,1,2)",
	} {
		e.exec(t, stmt)
	}
	e.redis.Do("HSET unread_2 1 2")
	s := e.store(t)
	list, err := s.History(t.Context(), 2, 1, 0, 10)
	if err != nil || len(list) != 2 || string(list[0].Data) != "Yg==" || list[1].ID != 1 {
		t.Errorf("history: %+v, %v", list, err)
	}
	counts, _, err := s.UnreadCounts(t.Context(), 2, 1<<20)
	if err != nil || len(counts) != 1 || counts[0].Count != 2 || counts[0].Latest.ID != 3 {
		t.Errorf("unread: %+v, %v", counts, err)
	}
	m := text(2, 1, "new")
	send(t, s, m) // the deleted message has an id, and Redis has no counter
	if m.ID <= 4 {
		t.Errorf("id %d is not above the last", m.ID)
	}
	for _, user := range []uint32{1, 2} {
		sessions, err := s.RecentSessions(t.Context(), user, m.Created, 10)
		if err != nil || len(sessions) != 1 || sessions[0].Latest.ID != m.ID {
			t.Errorf("sessions of %d: %+v, %v", user, sessions, err)
		}
	}
}

// TestNameTwice requires that of several users with the same name the last one that may
// log in is used, as in the first implementation, and that a name spelled as asked for is
// preferred.
func TestNameTwice(t *testing.T) {
	e := unfinalized(t)
	e.exec(t, "INSERT INTO IMUser (id, name, departId, status, created, updated) VALUES "+
		"(1,'ann',1,0,1,1), (2,'ann',1,0,1,1), (3,'ann',1,3,1,1), (4,'ANN',1,0,1,1), "+
		"(5,'Ann',1,3,1,1), "+
		"(6,'жук',1,0,1,1), (7,'жук',1,0,1,1), (8,'жук',1,3,1,1), (9,'ЖУК',1,0,1,1), "+
		"(10,'Жук',1,3,1,1), "+
		"(11,'gone',1,3,1,1), (12,'gone',1,3,1,1)")
	s := e.store(t)
	for name, want := range map[string]uint32{
		"ann": 2, "ANN": 4, "Ann": 5, "aNN": 4,
		"жук": 7, "ЖУК": 9, "Жук": 10, "жУК": 9,
		"gone": 12, "GONE": 12,
	} {
		if a, err := s.AccountByName(t.Context(), name); err != nil || a.ID != want {
			t.Errorf("%s: user %d, %v, want %d", name, a.ID, err, want)
		}
	}
	list, err := s.AccountsByName(t.Context(), []string{"Ann", "ann", "aNN", "ANN", "ann"})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []uint32{5, 2, 4, 4, 2} {
		if list[i].ID != want {
			t.Errorf("all at once, %d: user %d, want %d", i, list[i].ID, want)
		}
	}
}
