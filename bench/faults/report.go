package faults

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
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
	return func(r *Row) string { return fmt.Sprintf("%.1f s", float64(of(r))/1000) }
}

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
`

// Text writes the result as a table for a terminal.
func (r *Result) Text(w io.Writer) error {
	if err := r.head(w); err != nil {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i, c := range columns {
		if i > 0 {
			fmt.Fprint(t, "\t")
		}
		fmt.Fprint(t, c.head)
	}
	fmt.Fprintln(t)
	for i := range r.Rows {
		for j, c := range columns {
			if j > 0 {
				fmt.Fprint(t, "\t")
			}
			fmt.Fprint(t, c.of(&r.Rows[i]))
		}
		fmt.Fprintln(t)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	return r.tail(w)
}

// Markdown writes the result as a table in Markdown.
func (r *Result) Markdown(w io.Writer) error {
	if err := r.head(w); err != nil {
		return err
	}
	var b strings.Builder
	for _, c := range columns {
		fmt.Fprintf(&b, "| %s ", c.head)
	}
	b.WriteString("|\n|---" + strings.Repeat("|--:", len(columns)-1) + "|\n")
	for i := range r.Rows {
		for _, c := range columns {
			fmt.Fprintf(&b, "| %s ", c.of(&r.Rows[i]))
		}
		b.WriteString("|\n")
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
	_, err := fmt.Fprintf(w, "Faults in %sdeployment %q: %d clients, %g texts/s, seed %d\n\n",
		cmp.Or(times, "the "), r.Deployment, r.Clients, r.Rate, r.Seed)
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
	_, err := io.WriteString(w, "\n"+legend)
	return err
}

// JSON writes the result as JSON.
func (r *Result) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// progress writes a line for a row.
func (r *run) progress(res *Result, row Row) {
	state := "clean"
	if !res.cleanRow(row) {
		state = "NOT CLEAN"
	}
	fmt.Fprintf(r.Progress, "%s: %d rounds, %d acked, longest silence %v: %s\n", row.Fault,
		row.Rounds, row.Acked, time.Duration(row.Silence)*time.Millisecond, state)
	for _, e := range row.Examples {
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
