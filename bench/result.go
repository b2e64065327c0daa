package bench

import (
	"time"

	"teamtalk/bench/scenario"
)

// ResultVersion is the value of Result.Version. It grows when a field changes its
// meaning.
const ResultVersion = 1

// Result is the outcome of one run, as it is kept in a JSON file. All latencies are in
// milliseconds. For messages sent on a schedule they count from the scheduled time.
type Result struct {
	Version  int               `json:"version"`
	Scenario scenario.Scenario `json:"scenario"` // with all defaults filled in
	Started  time.Time         `json:"started"`  // start of counting, after the warm-up
	Seconds  float64           `json:"seconds"`  // length of counting
	Machine  Machine           `json:"machine"`
	Build    string            `json:"build"` // version and commit of the generator

	// Totals are the counts while counting, by name: "sent", "acked", "delivered",
	// "logins", "files", …, see TotalSent and others. A rate is a total divided by
	// Seconds.
	Totals map[string]int64 `json:"totals"`
	// Latencies by event: "ack" (send to ack), "delivery" (send to delivery), "login", ….
	Latencies map[string]Latency `json:"latencies"`
	// Values are further values of a scenario, in the order in which they are shown.
	Values []Value `json:"values,omitempty"`
	// Checks count the failed checks of all messages, warm-up included.
	Checks Checks `json:"checks"`
	// Intervals are the seconds of the run, in order, warm-up included (At < 0).
	Intervals []Interval `json:"intervals"`
	// Processes are the watched processes: servers, databases, and the generators.
	Processes []Process `json:"processes,omitempty"`
	// Ceilings are rates that this machine reaches without the servers, measured in the
	// same run.
	Ceilings []Ceiling `json:"ceilings,omitempty"`
	// GeneratorBound is set when the generators used all of their processor time. The
	// result then measures them, not the servers.
	GeneratorBound bool `json:"generator_bound"`
	// Notes are sentences about the run: why it is generator-bound, processes that ended,
	// servers that could not be found.
	Notes []string `json:"notes,omitempty"`
}

// Names of totals that reports treat in a special way.
const (
	TotalSent       = "sent"
	TotalGroupTexts = "group texts" // part of sent: texts to groups
	TotalAcked      = "acked"
	TotalDelivered  = "delivered"
	TotalLogins     = "logins"
	TotalFiles      = "files"
	TotalFileBytes  = "file bytes"
)

// Machine describes the machine of the generator.
type Machine struct {
	Host   string `json:"host"`
	OS     string `json:"os"` // with kernel
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Memory int64  `json:"memory_bytes"`
}

// Latency is a distribution, in milliseconds.
type Latency struct {
	Count int64   `json:"count"`
	Mean  float64 `json:"mean"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p99.9"`
	Max   float64 `json:"max"`
	// Histogram is the whole distribution, in microseconds: HdrHistogram V2, compressed,
	// base64.
	Histogram string `json:"histogram,omitempty"`
}

// Value is a single value, such as the memory of a connection.
type Value struct {
	Name  string  `json:"name"`
	Unit  string  `json:"unit"`
	Value float64 `json:"value"`
	// Better is "lower" or "higher"; "" when neither is.
	Better string `json:"better,omitempty"`
}

// Checks count the failed checks. Each message is checked, in each scenario.
type Checks struct {
	Unacked int64 `json:"unacked"` // messages sent and never acked
	// missing deliveries of acked messages; in a group one for each member without it
	Lost       int64 `json:"lost"`
	Duplicates int64 `json:"duplicates"` // deliveries and acks that arrived again
	// deliveries after a later one of the same sender in the same conversation, or with a
	// msg_id that is not above it
	Reordered int64 `json:"reordered"`
	// deliveries with another text or sender than sent, or to the wrong user; file
	// segments with another content
	Corrupt int64 `json:"corrupt"`
	Broken  int64 `json:"broken"`  // connections that the servers closed, or that failed
	Refused int64 `json:"refused"` // logins and requests answered with an error, or not at all
	// messages that the generator sent more than 10 ms after they were due
	Behind int64 `json:"behind"`
	// Examples are the first errors, in words.
	Examples []string `json:"examples,omitempty"`
}

// Clean reports whether all checks passed. Behind does not count, because it is not a
// fault of the servers.
func (c *Checks) Clean() bool {
	return c.Unacked+c.Lost+c.Duplicates+c.Reordered+c.Corrupt+c.Broken+c.Refused == 0
}

// Interval is a second of a run.
type Interval struct {
	// At is its start, in seconds since counting began.
	At float64 `json:"at"`
	// Seconds is its length.
	Seconds float64 `json:"seconds"`
	// Counts are the events in it, by the names of Result.Totals.
	Counts map[string]int64 `json:"counts"`
	// Latencies are those of the events in it, without histograms.
	Latencies map[string]Latency `json:"latencies"`
	// Waiting is the number of messages in flight at its end, Open the number of
	// connections.
	Waiting int64 `json:"waiting"`
	Open    int64 `json:"open"`
	// Processes are those of Result.Processes, by name, with what they used in the
	// interval.
	Processes map[string]Usage `json:"processes,omitempty"`
	// Checks are the counts up to its end.
	Checks Checks `json:"checks"`
}

// Usage is what a process used.
type Usage struct {
	CPU float64 `json:"cpu"`       // cores; 1.0 for one that was busy all the time
	RSS int64   `json:"rss_bytes"` // resident memory at the end
}

// Process is a watched process.
type Process struct {
	Name      string  `json:"name"` // unique
	PID       int     `json:"pid"`  // 0 for the two sums: all watched, and the machine
	Command   string  `json:"command"`
	Generator bool    `json:"generator,omitempty"`
	CPU       float64 `json:"cpu"` // cores, while counting
	RSSBefore int64   `json:"rss_before_bytes"`
	RSSAfter  int64   `json:"rss_after_bytes"`
	RSSMax    int64   `json:"rss_max_bytes"`
	RSSPeak   int64   `json:"rss_peak_bytes,omitempty"` // the most it ever used, before the run too
	Files     int     `json:"open_files,omitempty"`     // at the end, sockets included
}

// Ceiling is the rate that this machine reaches with the same frames or rows and no
// servers. It is a bound for the result.
type Ceiling struct {
	Name  string  `json:"name"`          // "echo of the same frames", "the same rows stored", …
	How   string  `json:"how,omitempty"` // what was measured: the database with its settings
	Of    string  `json:"of"`            // the total that it bounds: "acked", "delivered"
	Rate  float64 `json:"rate"`          // a second
	Error string  `json:"error,omitempty"`
	// Percent is the part of it that the run reached.
	Percent float64 `json:"percent"`
	// P50 and P99 are how long a frame or row took, in milliseconds, when they were due on
	// a schedule. Then Rate is that of the schedule.
	P50 float64 `json:"p50,omitempty"`
	P99 float64 `json:"p99,omitempty"`
	// Each is the processor time of each process for a frame or row, in microseconds,
	// when they were due on a schedule.
	Each map[string]float64 `json:"each,omitempty"`
}

// Bound sets the part of a measured ceiling that a result reached. For a run with a
// schedule that is the part that was offered, not the most that was possible.
func (c *Ceiling) Bound(res *Result) {
	if c.Rate > 0 && res.Seconds > 0 {
		c.Percent = 100 * float64(res.Totals[c.Of]) / res.Seconds / c.Rate
	}
}
