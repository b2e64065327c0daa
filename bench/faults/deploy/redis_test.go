package deploy

import (
	"bufio"
	"slices"
	"strings"
	"testing"
)

// TestReadAnswer reads answers of Redis, and some that end too early.
func TestReadAnswer(t *testing.T) {
	for _, c := range []struct {
		answer string
		want   []string
		bad    bool
	}{
		{answer: "+PONG\r\n", want: []string{"PONG"}},
		{answer: ":12\r\n", want: []string{"12"}},
		{answer: "$5\r\na\r\nbc\r\n", want: []string{"a\r\nbc"}},
		{answer: "$-1\r\n"},
		{answer: "*0\r\n"},
		{answer: "*2\r\n*1\r\n$1\r\na\r\n:1\r\n", want: []string{"a", "1"}},
		{answer: "-ERR no\r\n", bad: true},
		{answer: "$5\r\nab", bad: true},
		{answer: "*2\r\n:1\r\n", bad: true},
		{answer: "\r\n", bad: true},
		{answer: "$x\r\n", bad: true},
	} {
		got, err := readAnswer(bufio.NewReader(strings.NewReader(c.answer)))
		if (err != nil) != c.bad || !c.bad && !slices.Equal(got, c.want) {
			t.Errorf("%q: %q, %v", c.answer, got, err)
		}
	}
}

// TestChooseRedis: each deployment has its Redis, and most of them take another one.
func TestChooseRedis(t *testing.T) {
	for _, c := range []struct{ kind, redis, want string }{
		{Separate, "", Single}, {Mesh, "", Single}, {Mesh, RedisCluster, RedisCluster},
		{Registry, RedisSentinels, RedisSentinels}, {Cluster, "", RedisCluster},
		{Sentinel, "", RedisSentinels}, {Sentinel, RedisSentinels, RedisSentinels},
		{Embedded, "", ""},
		{Sentinel, RedisCluster, "error"}, {Embedded, Single, "error"}, {Mesh, "ring", "error"},
	} {
		o := Options{Kind: c.kind, Redis: c.redis}
		if err := o.chooseRedis(); (err != nil) != (c.want == "error") ||
			err == nil && o.Redis != c.want {
			t.Errorf("%s with %q: %q, %v, want %q", c.kind, c.redis, o.Redis, err, c.want)
		}
	}
}
