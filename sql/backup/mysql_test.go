package backup

import (
	"database/sql"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"teamtalk/core/dbprog"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
	"teamtalk/sql/dbtest"
	"teamtalk/sql/schema"
	"teamtalk/sql/store"
)

// deployment is a store on MySQL and Redis.
type deployment struct {
	*testing.T
	dsn   string
	redis *dbtest.RedisServer
	s     *store.Store
	users []uint32
	group uint32
}

func (d *deployment) check(err error) {
	d.Helper()
	if err != nil {
		d.Fatal(err)
	}
}

// open opens a store on a database and a Redis.
func (d *deployment) open(dsn string, redis *dbtest.RedisServer) *store.Store {
	d.Helper()
	s, err := store.Open(ctx, store.Options{Master: dsn, Workers: 4,
		Redis: store.Redis{Unread: store.Instance{Addrs: []string{redis.Addr()}}}})
	d.check(err)
	return s
}

// newDeployment makes a store with three users and a group, and messages that are not all read.
func newDeployment(t *testing.T) *deployment {
	d := &deployment{T: t, dsn: dbtest.MariaDB(t).NewDatabase(t), redis: dbtest.Redis(t)}
	db := dbtest.MariaDB(t).Open(t, d.dsn)
	d.check(schema.Migrate(ctx, db, schema.Options{}))
	d.check(db.Close())
	d.s = d.open(d.dsn, d.redis)
	var err error
	d.users, err = d.s.CreateUsers(ctx, []im.Account{{User: im.User{Name: "ann"}},
		{User: im.User{Name: "bob"}}, {User: im.User{Name: "eve"}}})
	d.check(err)
	g, err := d.s.CreateGroup(ctx, im.Group{Name: "g", Creator: d.users[0], Members: d.users,
		Type: pb.GroupType_GROUP_TYPE_NORMAL}, 0)
	d.check(err)
	d.group = g.ID
	d.say(d.s)
	d.check(d.s.ClearUnread(ctx, d.users[1], d.users[0]))
	d.check(d.s.ClearGroupUnread(ctx, d.users[1], d.group))
	d.say(d.s)
	d.say(d.s)
	return d
}

// say stores a message to the second user and one to the group, and returns their ids.
func (d *deployment) say(s im.Store) (single, group uint32) {
	d.Helper()
	batch := []*im.Message{
		{From: d.users[0], To: d.users[1], Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT,
			Data: []byte("x"), Created: uint32(time.Now().Unix())},
		{From: d.users[0], To: d.group, Type: pb.MsgType_MSG_TYPE_GROUP_TEXT, Data: []byte("x"),
			Created: uint32(time.Now().Unix())},
	}
	s.AppendMessages(ctx, batch)
	for _, m := range batch {
		d.check(m.Err)
	}
	return batch[0].ID, batch[1].ID
}

// dump copies the database as BACKUP.md says, while the store is open, and returns the file.
func (d *deployment) dump() string {
	d.Helper()
	program := dbprog.Find("mariadb-dump", "mysqldump")
	if program == "" {
		d.Skip("mariadb-dump is not installed")
	}
	cfg, err := mysql.ParseDSN(d.dsn)
	d.check(err)
	host, port, _ := strings.Cut(cfg.Addr, ":")
	file := filepath.Join(d.TempDir(), "dump.sql")
	out, err := exec.Command(program, "--single-transaction", "--hex-blob", "-h", host, "-P", port,
		"-u", "root", "--result-file", file, cfg.DBName).CombinedOutput()
	if err != nil {
		d.Fatalf("%v: %s", err, out)
	}
	return file
}

// load makes a database from a dump, and returns its DSN.
func (d *deployment) load(file string) string {
	d.Helper()
	dsn := dbtest.MariaDB(d.T).NewDatabase(d.T)
	cfg, err := mysql.ParseDSN(dsn)
	d.check(err)
	host, port, _ := strings.Cut(cfg.Addr, ":")
	in, err := os.Open(file)
	d.check(err)
	defer in.Close()
	cmd := exec.Command(dbprog.Find("mariadb", "mysql"), "-h", host, "-P", port, "-u", "root",
		cfg.DBName)
	cmd.Stdin = in
	if out, err := cmd.CombinedOutput(); err != nil {
		d.Fatalf("%v: %s", err, out)
	}
	return dsn
}

// unread returns the unread counts of the second user.
func (d *deployment) unread(s im.Store) uint32 {
	d.Helper()
	_, total, err := s.UnreadCounts(ctx, d.users[1], 10)
	d.check(err)
	return total
}

// TestMySQLWithoutRedis restores a dump beside an empty Redis. The unread counts are those at the
// dump, and no id is given that was given after it.
func TestMySQLWithoutRedis(t *testing.T) {
	d := newDeployment(t)
	want := d.unread(d.s)
	d.check(d.s.Close()) // it writes the read marks
	d.s = d.open(d.dsn, d.redis)
	file := d.dump()
	lost, lostInGroup := d.say(d.s)
	d.say(d.s)
	lostUser, err := d.s.CreateUsers(ctx, []im.Account{{User: im.User{Name: "lost"}}})
	d.check(err)
	d.check(d.s.Close())
	dsn := d.load(file)
	db := dbtest.MariaDB(t).Open(t, dsn)
	db.SetMaxOpenConns(1)
	now := time.Now().Add(time.Minute)
	n, err := AdvanceMySQL(ctx, db, 100, now)
	if err != nil || n != 2 {
		t.Fatalf("gaps in %d conversations and groups, %v, want 2", n, err)
	}
	if _, err := AdvanceMySQL(ctx, db, 1<<32-1, now); err == nil {
		t.Error("ids above the highest are accepted")
	}
	d.check(db.Close())
	s := d.open(dsn, dbtest.Redis(t))
	defer s.Close()
	// A server does both by itself within seconds.
	_, err = s.RebuildUnread(ctx)
	d.check(err)
	_, err = s.SyncSessions(ctx)
	d.check(err)
	if got := d.unread(s); got != want {
		t.Errorf("%d unread messages, want %d", got, want)
	}
	id, err := s.LatestID(ctx, d.users[0], d.users[1])
	list, err2 := s.RecentSessions(ctx, d.users[1], 0, 10)
	if err != nil || err2 != nil || id != 3 || len(list) != 2 || list[0].Latest.ID != 3 {
		t.Errorf("the last message %d, sessions %+v, %v, %v, want message 3", id, list, err, err2)
	}
	changed, _, err := s.UsersChangedSince(ctx, uint32(now.Unix()))
	if err != nil || len(changed) != 3 {
		t.Errorf("%d users changed at the restore, %v, want 3", len(changed), err)
	}
	single, group := d.say(s)
	if single <= lost || group <= lostInGroup || single != 104 || group != 104 {
		t.Errorf("ids %d and %d, want 104: %d and %d were given", single, group, lost, lostInGroup)
	}
	ids, err := s.CreateUsers(ctx, []im.Account{{User: im.User{Name: "new"}}})
	if err != nil || ids[0] <= lostUser[0] {
		t.Errorf("a new user got %d, %v; %d was given", ids, err, lostUser)
	}
}

// TestMySQLBeforeRedis restores a dump beside a Redis that is later than it. No id is given again,
// and what the counts have too many is gone when the user reads.
func TestMySQLBeforeRedis(t *testing.T) {
	d := newDeployment(t)
	want := d.unread(d.s)
	file := d.dump()
	lost, lostInGroup := d.say(d.s)
	d.check(d.s.Close())
	s := d.open(d.load(file), d.redis)
	defer s.Close()
	if got := d.unread(s); got < want || got > want+2 {
		t.Errorf("%d unread messages, want %d, or up to 2 more", got, want)
	}
	single, group := d.say(s)
	if single <= lost || group <= lostInGroup {
		t.Errorf("ids %d and %d: %d and %d were given", single, group, lost, lostInGroup)
	}
	d.check(s.ClearUnread(ctx, d.users[1], d.users[0]))
	d.check(s.ClearGroupUnread(ctx, d.users[1], d.group))
	if got := d.unread(s); got != 0 {
		t.Errorf("%d unread messages after reading, want none", got)
	}
}

// TestMySQLInUse requires that ids get no gaps while a server runs.
func TestMySQLInUse(t *testing.T) {
	d := newDeployment(t)
	defer d.s.Close()
	db, err := sql.Open("mysql", d.dsn)
	d.check(err)
	defer db.Close()
	if _, err := AdvanceMySQL(ctx, db, 100, time.Now()); im.KindOf(err) != im.Denied {
		t.Errorf("beside a server: %v", err)
	}
}
