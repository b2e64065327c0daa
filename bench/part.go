package bench

import (
	"context"

	"teamtalk/bench/scenario"
)

// job is the task of one generator.
type job struct {
	Scenario scenario.Scenario `json:"scenario"`
	Password string            `json:"password"`
	Part     int               `json:"part"` // its number among the generators, from 0
	Parts    int               `json:"parts"`
	Run      uint8             `json:"run"` // tells the messages of this run from others
}

// part is a generator: this process or another.
type part interface {
	// prepare connects and logs in.
	prepare(ctx context.Context, j job) (*prepared, error)
	// createGroups creates groups and returns their ids.
	createGroups(ctx context.Context, specs []groupSpec) ([]uint32, error)
	// start starts the traffic at the time of the plan. groups are the ids of all groups
	// by number. users are the ids of all users, for scenarios that need them.
	start(ctx context.Context, p plan, groups, users []uint32) error
	// stop ends counting and traffic before the planned time: at end, which is now.
	stop(ctx context.Context, end int64) error
	// status returns the progress of the generator.
	status(ctx context.Context) (status, error)
	// sent ends the traffic and returns what was sent.
	sent(ctx context.Context) ([]sentStream, error)
	// finish compares the received messages with all messages sent by all generators.
	finish(ctx context.Context, all []sentStream) (*final, error)
	// close ends the generator.
	close()
}

// prepared is the result of prepare.
type prepared struct {
	Users   []uint32 // ids of the members of groups, in the order of the generator's clients
	Indexes []int    // their indexes among all users of the run
	Seconds float64  // time of the logins
	rec     *recorder
}

// groupSpec is a group to create, with its first member as creator.
type groupSpec struct {
	Group   int      `json:"group"`
	Creator int      `json:"creator"` // index among all users of the run
	Members []uint32 `json:"members"`
}

// status is the progress of a generator.
type status struct {
	Waiting   int64 `json:"waiting"`   // pending requests, messages and heartbeats
	Expected  int64 `json:"expected"`  // deliveries of the messages that it sent
	Delivered int64 `json:"delivered"` // deliveries to its clients
	Progress  int64 `json:"progress"`  // grows with all other progress
	Done      bool  `json:"done"`      // it has finished before the end of the run
}

// sentStream is the number of messages that one sender sent to one conversation.
type sentStream struct {
	Conv    uint32   `json:"conv"`
	Sender  uint16   `json:"sender"`
	Sent    uint32   `json:"sent"`
	Unacked []uint32 `json:"unacked,omitempty"` // numbers
}

// final is the result of a generator.
type final struct {
	Checks Checks
	Open   int64   // connections at the end
	CPU    float64 // cores used while counting, measured by the generator itself
	Loops  int
}

// interval is a generator's part of an Interval.
type interval struct {
	Index         int
	Start, End    int64
	Waiting, Open int64
	Checks        Checks
	rec           *recorder
}

// snapshot is a worker's part of an interval.
type snapshot struct {
	index         int
	start, end    int64
	rec           *recorder
	waiting, open int64
	checks        Checks
}
