package store

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"teamtalk/sql/dbtest"
	"teamtalk/sql/store/redisconn"

	"github.com/redis/go-redis/v9"
)

// refuseAll runs commands until more dials have failed than a pool of two connections
// tolerates by itself.
func refuseAll(t *testing.T, client redis.UniversalClient) {
	t.Helper()
	for range 6 {
		if err := client.Ping(t.Context()).Err(); err == nil {
			t.Fatal("a Redis that has ended answers")
		}
	}
}

// reach fails when a command gets the error of a dial to the Redis that had ended. A slow
// machine may answer too late: the command is then repeated.
func reach(t *testing.T, client redis.UniversalClient) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; {
		switch err := client.Set(t.Context(), "after", 1, 0).Err(); {
		case err == nil:
			return
		case errors.Is(err, syscall.ECONNREFUSED), time.Now().After(end):
			t.Fatalf("a command after Redis is back: %v", err)
		}
	}
}

// TestRedial: the first command after a Redis is back reaches it, however many dials have
// failed before.
func TestRedial(t *testing.T) {
	t.Parallel()
	for _, with := range []string{"a server", "Sentinels"} {
		t.Run(with, func(t *testing.T) {
			t.Parallel()
			var server *dbtest.RedisServer
			var i Instance
			if with == "Sentinels" {
				r := dbtest.RedisSentinelOf(t)
				server = r.Servers[0]
				i = Instance{Addrs: []string{r.Sentinel.Addr()}, MasterName: dbtest.SentinelMaster}
			} else {
				server = dbtest.Redis(t)
				i.Addrs = []string{server.Addr()}
			}
			client := redisconn.Connect(i, 2)
			defer client.Close()
			server.Stop()
			refuseAll(t, client)
			server.Start()
			reach(t, client)
		})
	}
}

// TestPromoted: the first command after a replica was promoted reaches it, although all
// dials to the master that died have failed.
func TestPromoted(t *testing.T) {
	t.Parallel()
	r := dbtest.RedisSentinelOf(t)
	client := redisconn.Connect(Instance{Addrs: []string{r.Sentinel.Addr()},
		MasterName: dbtest.SentinelMaster}, 2)
	defer client.Close()
	if err := client.Set(t.Context(), "before", 1, 0).Err(); err != nil {
		t.Fatal(err)
	}
	r.Servers[0].Stop()
	refuseAll(t, client)
	r.Promote()
	reach(t, client)
}
