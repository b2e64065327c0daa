package deploy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"teamtalk/core/dbprog"
)

// errNoClient is returned where the client of MariaDB is not installed.
var errNoClient = errors.New("the client of MariaDB is not installed " +
	"(Debian: apt-get install mariadb-client)")

// startReplicated starts a MariaDB master at the first address and a read replica, which
// follows it by GTID, at the second.
func (s *System) startReplicated(ctx context.Context, addrs []string) error {
	s.client = dbprog.Find("mariadb", "mysql")
	if s.client == "" {
		return errNoClient
	}
	master, err := s.newMariaDB(ctx, mariadb, addrs[0])
	if err != nil {
		return err
	}
	follower, err := s.describeMariaDB(master.program, replica, addrs[1])
	if err != nil {
		return err
	}
	if err := os.CopyFS(follower.home, os.DirFS(master.home)); err != nil {
		return err
	}
	for i, m := range []*mariadbd{master, follower} {
		name := []string{mariadb, replica}[i]
		addr := addrs[i]
		err := s.add(ctx, &Role{Kind: name, Name: name, program: m.program, dir: s.opts.Dir,
			addr: addr, args: append(m.args, fmt.Sprint("--server-id=", i+1), "--log-bin=bin",
				"--binlog-format=ROW", "--sync-binlog=1", "--log-slave-updates",
				"--relay-log=relay", "--relay-log-recovery=ON", "--slave-net-timeout=5"),
			ready: func(ctx context.Context) error { return greeted(ctx, addr) }})
		if err != nil {
			return err
		}
	}
	_, port, _ := net.SplitHostPort(addrs[0]) // reserve made the address
	return s.onServer(ctx, follower.home, fmt.Sprintf("CHANGE MASTER TO MASTER_HOST='127.0.0.1', "+
		"MASTER_PORT=%s, MASTER_USER='root', MASTER_CONNECT_RETRY=1, "+
		"MASTER_USE_GTID=slave_pos; START SLAVE", port))
}

// onServer runs statements on the MariaDB server with a folder.
func (s *System) onServer(ctx context.Context, home, statements string) error {
	return runProgram(ctx, s.opts.Dir, s.client, "--no-defaults", "--user=root",
		"--socket="+filepath.Join(home, "sock"), "--execute", statements)
}

// Lag stops the replica from applying changes for a time. It continues to receive
// them, and answers reads with what it has.
func (s *System) Lag(ctx context.Context, d time.Duration) error {
	home := filepath.Join(s.opts.Dir, replica)
	if err := s.onServer(ctx, home, "STOP SLAVE SQL_THREAD"); err != nil {
		return err
	}
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
	return s.onServer(context.WithoutCancel(ctx), home, "START SLAVE")
}
