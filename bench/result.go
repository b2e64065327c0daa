package bench

import (
	"time"
)

// ResultVersion is what Result.Version says; it grows when a field changes its meaning.
const ResultVersion = 1

// Result is what one run found, as it is kept in a JSON file. All latencies are in milliseconds and count, for messages that left on a schedule, from
// the scheduled time.
type Result struct {
	Version  int       `json:"version"`
	Scenario Scenario  `json:"scenario"` // with all defaults filled in
	Started  time.Time `json:"started"`  // of counting, after the warm-up
	Seconds  float64   `json:"seconds"`  // that were counted
	Machine  Machine   `json:"machine"`
	Build    string    `json:"build"` // of the generator: version and commit

	// Totals of what was counted: "sent", "acked", "delivered", "logins", "files", … by name, TotalSent and others. A rate is a total by Seconds.
	Totals map[string]int64 `json:"totals"`
	// Latencies by what they measure: "ack" (send to ack), "delivery" (send to delivery), "login", ….
	Latencies map[string]Latency `json:"latencies"`
	// Values are a scenario's own figures, in the order in which they are shown.
	Values []Value `json:"values,omitempty"`
	// Checks say what went wrong with any message, warm-up included.
	Checks Checks `json:"checks"`
	// Intervals are seconds of the run, in order, warm-up included (At < 0).
	Intervals []Interval `json:"intervals"`
	// Processes are those watched: servers, databases, and the generators.
	Processes []Process `json:"processes,omitempty"`
	// Ceilings are what this machine can do without the servers, measured in the same run.
	Ceilings []Ceiling `json:"ceilings,omitempty"`
	// GeneratorBound says that the generators had no processor time to spare, so that the result tells of them and not of the servers.
	GeneratorBound bool `json:"generator_bound"`
	// Notes say what else was special, in sentences: why it is generator-bound, processes that ended, servers that could not be seen.
	Notes []string `json:"notes,omitempty"`
}

// The names of totals that have a meaning of their own in reports.
const (
	TotalSent       = "sent"
	TotalGroupTexts = "group texts" // of those sent, the ones to groups
	TotalAcked      = "acked"
	TotalDelivered  = "delivered"
	TotalLogins     = "logins"
	TotalFiles      = "files"
	TotalFileBytes  = "file bytes"
)

// Machine is where the generator ran.
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
	// Histogram is all of it, in microseconds: HdrHistogram V2, compressed, base64.
	Histogram string `json:"histogram,omitempty"`
}

// Value is a figure of its own, such as the memory a connection takes.
type Value struct {
	Name  string  `json:"name"`
	Unit  string  `json:"unit"`
	Value float64 `json:"value"`
	// Better is "lower" or "higher"; "" when neither is.
	Better string `json:"better,omitempty"`
}

// Checks count what went wrong. Every message is checked, in every scenario.
type Checks struct {
	Unacked    int64 `json:"unacked"`    // messages sent, never acked
	Lost       int64 `json:"lost"`       // deliveries that are missing, of messages that were acked: in a group one for each member who did not get it
	Duplicates int64 `json:"duplicates"` // deliveries once more, and acks once more
	Reordered  int64 `json:"reordered"`  // deliveries after a later one of the same sender in the same conversation, or with a msg_id that is not above it
	Corrupt    int64 `json:"corrupt"`    // deliveries with another text or sender than was sent, or to somebody they are not for; segments of files likewise
	Broken     int64 `json:"broken"`     // connections that the servers closed, or that failed
	Refused    int64 `json:"refused"`    // logins and requests that were answered with an error, or not at all
	Behind     int64 `json:"behind"`     // messages that the generator itself sent later than 10 ms after they were due
	// Examples are the first errors, in words.
	Examples []string `json:"examples,omitempty"`
}

// Clean reports whether nothing went wrong. What the generator itself was late with is no fault of the servers.
func (c *Checks) Clean() bool {
	return c.Unacked+c.Lost+c.Duplicates+c.Reordered+c.Corrupt+c.Broken+c.Refused == 0
}

// Interval is a second of a run.
type Interval struct {
	// At is its beginning, in seconds since counting began.
	At float64 `json:"at"`
	// Seconds is its length.
	Seconds float64 `json:"seconds"`
	// Counts are what happened in it, by the names of Result.Totals.
	Counts map[string]int64 `json:"counts"`
	// Latencies are those of what was acked, delivered, … in it, without histograms.
	Latencies map[string]Latency `json:"latencies"`
	// Waiting is how many messages were on their way at its end, Open how many connections.
	Waiting int64 `json:"waiting"`
	Open    int64 `json:"open"`
	// Processes are those of Result.Processes, by name: what they used in the interval.
	Processes map[string]Usage `json:"processes,omitempty"`
	// Checks are those up to its end.
	Checks Checks `json:"checks"`
}

// Usage is what a process used.
type Usage struct {
	CPU float64 `json:"cpu"`       // cores, 1.0 for one busy all the time
	RSS int64   `json:"rss_bytes"` // resident memory at the end
}

// Process is one that was watched.
type Process struct {
	Name      string  `json:"name"` // unique
	PID       int     `json:"pid"`  // 0 for the two sums: all watched, and the machine
	Command   string  `json:"command"`
	Generator bool    `json:"generator,omitempty"`
	CPU       float64 `json:"cpu"` // cores, while counting
	RSSBefore int64   `json:"rss_before_bytes"`
	RSSAfter  int64   `json:"rss_after_bytes"`
	RSSMax    int64   `json:"rss_max_bytes"`
	RSSPeak   int64   `json:"rss_peak_bytes,omitempty"` // the most it ever had, before the run too
	Files     int     `json:"open_files,omitempty"`     // at the end, sockets among them
}

// Ceiling is what this machine does with the same frames or rows and no servers: a bound for the result.
type Ceiling struct {
	Name  string  `json:"name"`          // "echo of the same frames", "the same rows stored", …
	How   string  `json:"how,omitempty"` // what did it: the database with its settings
	Of    string  `json:"of"`            // the total it bounds: "acked", "delivered"
	Rate  float64 `json:"rate"`          // a second
	Error string  `json:"error,omitempty"`
	// Percent is how much of it the run reached.
	Percent float64 `json:"percent"`
}
