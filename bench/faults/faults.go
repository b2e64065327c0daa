// Package faults is a ledger with real processes: it runs a deployment, lets clients write
// to each other, injects faults, and compares the records of all clients with all
// histories and with the tables.
//
// A row is a fault that is injected several times. The clients send all the time. After
// the last round they stop, wait for their acks, and the row is checked: each acked text
// is in the tables and in each history under the id of its ack, is stored once, and
// reached each receiver once and in the order of the ids; the counts of unread messages
// and the lists of members are equal everywhere.
//
// Where to find what:
//
//   - ledger.go, check.go: the records of the clients, and the comparison
//   - waits.go: how long the clients waited after a fault
//   - client.go, stock.go: the clients
//   - fault.go: the faults
//   - run.go, row.go, evidence.go: a run, a row, and the answers of the servers
//   - others.go, package services: what carries no texts of these clients: files, calls of the
//     HTTP API, pushes and small files
//   - parallel.go: several deployments at once
//   - report.go: the result as text, Markdown and JSON
//   - package deploy: processes and proxies
package faults

import (
	"context"
	"io"
	"log/slog"
	"time"
)

// Options describe a run. Zero values mean the defaults in the comments.
type Options struct {
	Deployment string   // one of deploy.Kinds
	Redis      string   // one of deploy.RedisKinds; empty: that of the deployment
	Binary     string   // the program "teamtalk"
	Dir        string   // an empty folder for data and logs
	Faults     []string // as Names lists them; none: all of the deployment
	Rounds     int      // of each fault, of all deployments together
	// Deployments is the number of deployments that run at once, each with its own clients and
	// its part of the rounds; 0: 1. The seed of the nth follows from Seed+n-1.
	Deployments int
	// Duration ends a row before its last round; 0: never.
	Duration time.Duration
	Rate     float64 // texts per second, of all clients together
	Teams    int     // of six clients each
	Seed     uint64  // selects the targets and the times of the faults
	// Settle is the longest wait for the clients after a fault, and for the servers after the
	// last one. A client without an ack after that counts as unacked.
	Settle time.Duration
	// Repeats says that texts without client_msg_id that are stored twice are a failure.
	Repeats bool
	// MaxBeyond is the longest Row.Beyond that is no failure; 0: any, for a machine with other
	// load.
	MaxBeyond time.Duration
	Flags     []string // of all servers
	// OpenTables reads the tables of a deployment without its servers: MySQL by its DSN, or
	// the embedded store in a folder.
	OpenTables func(ctx context.Context, dsn, dataDir string) (Tables, error)
	Progress   io.Writer    // a line for each row
	Log        *slog.Logger // of the clients and of the rounds
}

// Tables reads the tables of a store.
type Tables interface {
	// Messages returns all messages of each conversation in the order of their ids, with the
	// content as the sender encrypted it.
	Messages(ctx context.Context) (map[Conv][]Stored, error)
	// Members returns the members of a group in increasing order.
	Members(ctx context.Context, group uint32) ([]uint32, error)
	// Close ends the connections.
	Close() error
}

// Stored is a row of a table of messages.
type Stored struct {
	ID, From uint32
	Content  []byte
}
