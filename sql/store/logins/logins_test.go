package logins

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"teamtalk/core/im"
	"teamtalk/sql/dbtest"
	"teamtalk/sql/store/database"
	"teamtalk/sql/store/redisconn"
)

// TestFailureKeysAreBounded fills the index of a shard: the keys that expire first go.
func TestFailureKeysAreBounded(t *testing.T) {
	server := dbtest.Redis(t)
	client := redisconn.Connect(redisconn.Instance{Addrs: []string{server.Addr()}}, 1)
	defer client.Close()
	run := func(key string, at uint32) {
		t.Helper()
		runs := []*redisconn.Run{{Script: putMark, Keys: []string{"login_{0}_1_" + key,
			"login_{0}"}, Args: []any{"value", at, 3600, 512, false, 3}}}
		redisconn.RunAll(t.Context(), client, runs)
		if err := redisconn.FirstError(runs); err != nil {
			t.Fatal(err)
		}
	}
	for i := range uint32(5) {
		run(fmt.Sprint(i), 1000+i)
	}
	got, err := client.ZRange(t.Context(), "login_{0}", 0, -1).Result()
	if want := "login_{0}_1_2 login_{0}_1_3 login_{0}_1_4"; err != nil ||
		strings.Join(got, " ") != want {
		t.Errorf("the index holds %q, want %s: %v", got, want, err)
	}
	if n := server.Do("DBSIZE"); n != "4" {
		t.Errorf("%s keys, want 4: %s", n, server.Do("KEYS *"))
	}
	run("late", 1003+3600) // what has expired makes room
	if n := server.Do("ZCARD login_{0}"); n != "2" {
		t.Errorf("%s keys are in the index", n)
	}
}

// TestLoginMarksExpire requires that every key of logins expires, and that its shard does not
// depend on the kind.
func TestLoginMarksExpire(t *testing.T) {
	server := dbtest.Redis(t)
	client := redisconn.Connect(redisconn.Instance{Addrs: []string{server.Addr()}}, 1)
	defer client.Close()
	s := New(&database.DB{Redis: redisconn.Clients{Token: client}})
	for _, kind := range []im.LoginMarkKind{im.FailuresOfName, im.FailuresOfNetwork,
		im.NetworksOfUser} {
		if err := s.ChangeLoginMarks(t.Context(), nil, []im.NewLoginMark{{
			LoginMarkKey: im.LoginMarkKey{Kind: kind, Key: "7"}, Keep: time.Hour,
			LoginMark: im.LoginMark{Value: "a", At: 1_800_000_000}}}); err != nil {
			t.Fatal(err)
		}
	}
	_, index := keysOf(im.LoginMarkKey{Kind: 1, Key: "7"})
	for _, key := range []string{index, index + "_1_7", index + "_2_7", index + "_3_7"} {
		if ttl := server.Do("TTL " + key); len(ttl) != 4 {
			t.Errorf("%s expires in %s s", key, ttl)
		}
	}
}

// TestBudgetsAreShared: a budget that one process has spent is spent for others. Its key
// expires.
func TestBudgetsAreShared(t *testing.T) {
	server := dbtest.Redis(t)
	spendings := []im.Spending{{Kind: im.GroupsMade, User: 7, N: 10, Limit: 10,
		Window: time.Hour}}
	for _, want := range []bool{true, false} {
		client := redisconn.Connect(redisconn.Instance{Addrs: []string{server.Addr()}}, 1)
		defer client.Close()
		s := NewBudgets(&database.DB{Redis: redisconn.Clients{Token: client}})
		got, err := s.Spend(t.Context(), time.Unix(1_800_000_000, 0), spendings)
		if err != nil || len(got) != 1 || got[0] != want {
			t.Errorf("spent: %v, %v; want %v", got, err, want)
		}
	}
	if ttl := server.Do("TTL budget_1_7"); len(ttl) != 4 {
		t.Errorf("the budget expires in %s s", ttl)
	}
}
