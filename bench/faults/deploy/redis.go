package deploy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"teamtalk/core/dbprog"
)

// errNoRedis is returned where Redis is not installed.
var errNoRedis = errors.New("redis is not installed (Debian: apt-get install redis-server)")

// startRedis starts Redis.
func (s *System) startRedis(ctx context.Context, addr string) error {
	return s.addRedis(ctx, redis, addr, pings(addr))
}

// pings returns a function that returns nil when the Redis at addr answers PING.
func pings(addr string) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := redisDo(ctx, addr, "PING")
		return err
	}
}

// addRedis starts a Redis with an append-only file. Its configuration is a file, which
// Redis and Sentinels write again when its role changes. Options are lines of the file.
func (s *System) addRedis(ctx context.Context, name, addr string,
	ready func(context.Context) error, options ...string) error {
	return s.addRedisRole(ctx, redis, name, addr, ready, append([]string{`save ""`,
		"appendonly yes", "appendfsync everysec", "repl-diskless-sync-delay 0"}, options...))
}

// addRedisRole starts a Redis or a Sentinel.
func (s *System) addRedisRole(ctx context.Context, kind, name, addr string,
	ready func(context.Context) error, options []string) error {
	server := dbprog.Find("redis-server", "valkey-server")
	if server == "" {
		return errNoRedis
	}
	home := filepath.Join(s.opts.Dir, name)
	if err := os.Mkdir(home, 0o700); err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	conf := filepath.Join(home, "redis.conf")
	lines := append([]string{"bind 127.0.0.1", "port " + port, "dir " + home}, options...)
	if err := os.WriteFile(conf, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		return err
	}
	r := &Role{Kind: kind, Name: name, program: server, dir: s.opts.Dir, args: []string{conf},
		ready: ready, addr: addr}
	if kind == sentinel {
		r.args = append(r.args, "--sentinel")
	}
	return s.add(ctx, r)
}

// redisDo sends a command to a Redis and returns the words of its answer. The words of a
// nested list follow each other. A word with spaces stands in quotes.
func redisDo(ctx context.Context, addr, command string) ([]string, error) {
	c, err := probe(ctx, addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if _, err := io.WriteString(c, command+"\r\n"); err != nil {
		return nil, err
	}
	words, err := readAnswer(bufio.NewReader(c))
	if err != nil {
		verb, _, _ := strings.Cut(command, " ")
		return nil, fmt.Errorf("redis %s: %w", verb, err)
	}
	return words, nil
}

// readAnswer reads an answer.
func readAnswer(in *bufio.Reader) ([]string, error) {
	line, err := in.ReadString('\n')
	if err != nil {
		return nil, err
	}
	line = strings.TrimSuffix(line, "\r\n")
	if line == "" {
		return nil, io.ErrUnexpectedEOF
	}
	text := line[1:]
	switch line[0] {
	case '-':
		return nil, errors.New(text)
	case '$', '*':
	default:
		return []string{text}, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 { // -1: there is no such value
		return nil, err
	}
	if line[0] == '$' {
		b := make([]byte, n+2)
		_, err := io.ReadFull(in, b)
		return []string{string(b[:n])}, err
	}
	var words []string
	for range n {
		more, err := readAnswer(in)
		if err != nil {
			return nil, err
		}
		words = append(words, more...)
	}
	return words, nil
}

// redisHas returns nil when the answer to a command has a text.
func redisHas(ctx context.Context, addr, command, want string) error {
	words, err := redisDo(ctx, addr, command)
	if err == nil && !strings.Contains(strings.Join(words, "\n"), want) {
		err = fmt.Errorf("redis answers %q to %s", words, command)
	}
	return err
}
