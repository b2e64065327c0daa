package faults

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"teamtalk/bench/faults/services"
)

// column is a column of the report.
type column struct {
	head string
	of   func(*Row) string
}

// columns are the columns of the report.
var columns = []column{
	{"fault", func(r *Row) string { return r.Fault }},
	{"rounds", number(func(r *Row) int { return r.Rounds })},
	{"sent", number(func(r *Row) int { return r.Sent })},
	{"acked", number(func(r *Row) int { return r.Acked })},
	{"stored", number(func(r *Row) int { return r.Stored })},
	{"delivered", number(func(r *Row) int { return r.Delivered })},
	{"late", number(func(r *Row) int { return r.Late })},
	{"lost", number(func(r *Row) int { return r.Lost + r.Missing })},
	{"duplicated", number(func(r *Row) int { return r.Duplicated })},
	{"repeated", number(func(r *Row) int { return r.Repeated })},
	{"reordered", number(func(r *Row) int { return r.Reordered })},
	{"other", number(func(r *Row) int { return r.Unacked + r.Unread + r.Members + r.Other })},
	{"silence", seconds(func(r *Row) int64 { return r.Silence })},
	{"ready", seconds(func(r *Row) int64 { return r.Down })},
	{"beyond", seconds(func(r *Row) int64 { return r.Beyond })},
	{"held up", seconds(func(r *Row) int64 { return r.HeldUp })},
}

// number returns a column of numbers.
func number(of func(*Row) int) func(*Row) string {
	return func(r *Row) string { return fmt.Sprint(of(r)) }
}

// seconds returns a column of times in milliseconds.
func seconds(of func(*Row) int64) func(*Row) string {
	return func(r *Row) string { return inSeconds(of(r)) }
}

func inSeconds(ms int64) string { return fmt.Sprintf("%.1f s", float64(ms)/1000) }

// legend explains the columns.
const legend = `late: not pushed to a stock client that was online, which got it by its next sync
lost: acked, and in no table or history, or never delivered to a receiver
repeated: stored twice, after a client without client_msg_id sent it again
other: never acked, wrong count of unread messages, members that differ, and what is listed below
silence: longest time in which a client waited for an ack in a conversation and got none
ready: longest time from the begin of a fault until all servers were ready again
beyond: longest time that a text waited for its ack, or a client for its connection, counted from
the moment at which all servers were ready again
held up: longest time for which the machine, loaded, did not run the command itself

The second table has what carries no texts between clients. tried: files, calls, texts to phones
accepted: those that a server has accepted; failed: attempts that failed, and were repeated
delivered: of files, those fetched; of calls, texts and groups; of kicks, connections that ended;
of pushes, those that arrived, which a text sent while no push server was connected has not
longest: longest time until something was accepted; beyond: the part of it after all servers were
ready again
`

// serviceColumns are the columns of the second table, which has a line for each fault and
// service.
var serviceColumns = []struct {
	head string
	of   func(*services.Counts) string
}{
	{"service", func(c *services.Counts) string { return c.Service }},
	{"tried", count(func(c *services.Counts) int { return c.Tried })},
	{"accepted", count(func(c *services.Counts) int { return c.Accepted })},
	{"failed", count(func(c *services.Counts) int { return c.Failed })},
	{"delivered", count(func(c *services.Counts) int { return c.Delivered })},
	{"lost", count(func(c *services.Counts) int { return c.Lost })},
	{"duplicated", count(func(c *services.Counts) int { return c.Duplicated })},
	{"other", count(func(c *services.Counts) int { return c.Other })},
	{"longest", func(c *services.Counts) string { return inSeconds(c.Longest) }},
	{"beyond", func(c *services.Counts) string { return inSeconds(c.Beyond) }},
}

func count(of func(*services.Counts) int) func(*services.Counts) string {
	return func(c *services.Counts) string { return fmt.Sprint(of(c)) }
}

// cells returns both tables, each with its heads.
func (r *Result) cells() (texts, others [][]string) {
	head := []string{}
	for _, c := range columns {
		head = append(head, c.head)
	}
	texts = append(texts, head)
	head = []string{columns[0].head}
	for _, c := range serviceColumns {
		head = append(head, c.head)
	}
	others = append(others, head)
	for i := range r.Rows {
		row := &r.Rows[i]
		line := []string{}
		for _, c := range columns {
			line = append(line, c.of(row))
		}
		texts = append(texts, line)
		for j := range row.Services {
			line := []string{row.Fault}
			for _, c := range serviceColumns {
				line = append(line, c.of(&row.Services[j]))
			}
			others = append(others, line)
		}
	}
	return texts, others
}

// Text writes the result as tables for a terminal.
func (r *Result) Text(w io.Writer) error {
	if err := r.head(w); err != nil {
		return err
	}
	texts, others := r.cells()
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, table := range [][][]string{texts, {{}}, others} {
		for _, line := range table {
			fmt.Fprintln(t, strings.Join(line, "\t"))
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	return r.tail(w)
}

// Markdown writes the result as tables in Markdown.
func (r *Result) Markdown(w io.Writer) error {
	if err := r.head(w); err != nil {
		return err
	}
	var b strings.Builder
	texts, others := r.cells()
	for i, table := range [][][]string{texts, others} {
		left := 1 + i // columns of words
		for j, line := range table {
			fmt.Fprintf(&b, "| %s |\n", strings.Join(line, " | "))
			if j == 0 {
				fmt.Fprintf(&b, "%s%s|\n", strings.Repeat("|---", left),
					strings.Repeat("|--:", len(line)-left))
			}
		}
		if i == 0 {
			b.WriteString("\n")
		}
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return err
	}
	return r.tail(w)
}

// head writes the conditions of the run.
func (r *Result) head(w io.Writer) error {
	times := ""
	if r.Deployments > 1 {
		times = fmt.Sprintf("%d times the ", r.Deployments)
	}
	redis := ""
	if r.Redis != "" {
		redis = fmt.Sprintf(" with Redis %q", r.Redis)
	}
	_, err := fmt.Fprintf(w, "Faults in %sdeployment %q%s: %d clients, %g texts/s, seed %d\n\n",
		cmp.Or(times, "the "), r.Deployment, redis, r.Clients, r.Rate, r.Seed)
	return err
}

// tail writes the verdict, the examples and the legend.
func (r *Result) tail(w io.Writer) error {
	verdict := "CLEAN: nothing was lost, duplicated or reordered"
	if !r.Clean() {
		verdict = "NOT CLEAN"
	}
	if _, err := fmt.Fprintf(w, "\n%s\n", verdict); err != nil {
		return err
	}
	if r.Stopped {
		fmt.Fprintln(w, "stopped early")
	}
	for _, note := range r.Notes {
		fmt.Fprintln(w, note)
	}
	for i := range r.Rows {
		row := &r.Rows[i]
		if len(row.Examples) == 0 {
			continue
		}
		fmt.Fprintf(w, "\n%s: %d unacked, %d lost, %d missing, %d duplicated, %d repeated, "+
			"%d reordered, %d unread, %d members, %d other\n", row.Fault, row.Unacked, row.Lost,
			row.Missing, row.Duplicated, row.Repeated, row.Reordered, row.Unread, row.Members,
			row.Other)
		for _, e := range row.Examples {
			fmt.Fprintf(w, "  %s\n", e)
		}
	}
	for i := range r.Rows {
		for _, e := range examples(&r.Rows[i]) {
			fmt.Fprintf(w, "%s, %s\n", r.Rows[i].Fault, e)
		}
	}
	_, err := io.WriteString(w, "\n"+legend)
	return err
}

// JSON writes the result as JSON.
func (r *Result) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// examples returns the problems of the services in a row.
func examples(row *Row) (list []string) {
	for _, c := range row.Services {
		list = append(list, c.Examples...)
	}
	return list
}

// progress writes a line for a row.
func (r *run) progress(res *Result, row Row) {
	state := "clean"
	if !res.cleanRow(row) {
		state = "NOT CLEAN"
	}
	fmt.Fprintf(r.Progress, "%s: %d rounds, %d acked, longest silence %v: %s\n", row.Fault,
		row.Rounds, row.Acked, time.Duration(row.Silence)*time.Millisecond, state)
	for _, e := range append(slices.Clone(row.Examples), examples(&row)...) {
		fmt.Fprintf(r.Progress, "  %s\n", e)
	}
	if row.Silent != "" {
		fmt.Fprintf(r.Progress, "  longest silence: %s\n", row.Silent)
	}
	if row.Worst != "" {
		fmt.Fprintf(r.Progress, "  longest wait after all servers were ready, %d ms: %s "+
			"(this process was held up for up to %d ms)\n", row.Beyond, row.Worst, row.HeldUp)
	}
}
