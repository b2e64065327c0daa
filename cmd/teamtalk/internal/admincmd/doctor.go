package admincmd

import (
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/cmd/teamtalk/internal/open"
	"teamtalk/core/im"
	"teamtalk/sql/doctor"
)

// doctorFlags are the flags of the command "doctor".
type doctorFlags struct {
	doctor.Options
	asJSON, list bool
}

// NewDoctor returns the command "doctor".
func NewDoctor() *cobra.Command {
	var f doctorFlags
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Find and repair disagreement of stored data",
		Long: `Compare stored data with each other: tables with tables, MySQL with Redis, and rows
with the files on this machine. Print one line for each check, and the first disagreements that it
finds. Without --repair nothing is changed.

With --repair each disagreement that is found is repaired, unless the check has no repair. Messages
are never deleted, counters of message ids are only raised. Servers may run meanwhile, on both kinds
of store. Only the list of waiting files is not repaired while a file server uses the folder: it
does that by itself. The command may be stopped at any point and run again.

A disagreement counts when a second look after --settle still finds it, since servers change data
meanwhile. --list prints what each check compares, and what its repair does. sql/doctor/DOCTOR.md
says more, also what cannot be known.

The exit code is 0 when nothing was found, or all of it is repaired; 1 when disagreements remain; 2
for wrong usage; 3 when a check could not be made.`,
		Example: `  teamtalk doctor --config teamtalk.toml
  teamtalk doctor --repair --only unread,message-ids --pace 50ms --config teamtalk.toml
  teamtalk doctor --json | jq -r 'select(.left > 0) | .check'`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runDoctor(cmd, f) },
	}
	cli.AddConfigFlags(cmd, "data_dir", "store", "mysql.master", "redis.addrs", "file.dir",
		"msfs.dir")
	flags := cmd.Flags()
	flags.BoolVar(&f.Repair, "repair", false, "repair what is found")
	flags.StringSliceVar(&f.Only, "only", nil, "the checks to make, separated by commas")
	flags.DurationVar(&f.Pace, "pace", 10*time.Millisecond,
		"pause after each 500 rows, to leave the databases to the servers")
	flags.DurationVar(&f.Settle, "settle", 2*time.Second,
		"time between the first look at a disagreement and the second")
	flags.IntVar(&f.Examples, "examples", 5, "the number of disagreements to print for each check")
	flags.BoolVar(&f.asJSON, "json", false, "print one JSON object a line")
	flags.BoolVar(&f.list, "list", false, "print the checks, and make none")
	return cmd
}

// errUnchecked is the error of a run in which a check could not be made.
type errUnchecked struct{ error }

// ExitCode is that of a check that could not be made.
func (errUnchecked) ExitCode() int { return 3 }

// Unwrap returns the cause.
func (e errUnchecked) Unwrap() error { return e.error }

// runDoctor runs the checks of the store that the settings name.
func runDoctor(cmd *cobra.Command, f doctorFlags) (err error) {
	switch {
	case f.Pace < 0 || f.Settle <= 0:
		return cli.Usagef(cmd, "want --pace of 0 or more, and --settle above 0")
	case f.Examples < 1:
		return cli.Usagef(cmd, "want --examples of 1 or more")
	case f.list && f.Repair:
		return cli.Usagef(cmd, "want one of --list and --repair")
	}
	cfg, err := cli.LoadConfig(cmd)
	if err != nil {
		return err
	}
	log, err := openAudit(cmd, cfg)
	if err != nil {
		return err
	}
	var sum doctorSum
	defer func() { err = log.endWith(cmd, err, sum.left > 0 && sum.failed == 0, sum.String()) }()
	errs := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
	d, done, err := open.Doctor(cmd.Context(), cfg, f.Repair, open.Options{Log: errs})
	if err != nil {
		return errUnchecked{err}
	}
	defer func() {
		if closing := done(); err == nil && closing != nil {
			err = errUnchecked{closing}
		}
	}()
	if f.list {
		return listChecks(cmd.OutOrStdout(), d.Checks())
	}
	print := printResult
	if f.asJSON {
		print = encodeResult
	}
	err = d.Run(cmd.Context(), f.Options, func(r doctor.Result) error {
		sum.add(r)
		return print(cmd.OutOrStdout(), r, f.Repair)
	})
	if im.KindOf(err) == im.Invalid && sum.checks == 0 {
		return cli.Usagef(cmd, "--only: %v", err)
	}
	if err != nil {
		return errUnchecked{err}
	}
	return sum.err(f.Repair)
}

// doctorSum counts results.
type doctorSum struct {
	checks, failed int
	found, left    int64
}

func (s *doctorSum) add(r doctor.Result) {
	s.checks++
	s.found += r.Found
	s.left += r.Left
	if r.Err != nil {
		s.failed++
	}
}

// String describes a run for the audit log.
func (s *doctorSum) String() string {
	return fmt.Sprintf("%d checks, %s, %d left", s.checks, disagreements(s.found), s.left)
}

// disagreements returns a number of disagreements as text.
func disagreements(n int64) string {
	if n == 1 {
		return "1 disagreement"
	}
	return fmt.Sprintf("%d disagreements", n)
}

// err returns the error of a run, which decides its exit code.
func (s *doctorSum) err(repair bool) error {
	switch {
	case s.failed > 0:
		return errUnchecked{fmt.Errorf("%d of %d checks could not be made", s.failed, s.checks)}
	case s.left == 0:
		return nil
	case repair:
		return fmt.Errorf("%s, %d left", disagreements(s.found), s.left)
	}
	return fmt.Errorf("%s; nothing was changed (see --repair)", disagreements(s.found))
}

// listChecks prints checks.
func listChecks(out io.Writer, list []doctor.About) error {
	for _, a := range list {
		repair := a.Repair
		if repair == "" {
			repair = "none"
		}
		if a.Offline != "" {
			repair += "; stop first: " + a.Offline
		}
		if _, err := fmt.Fprintf(out, "%s\n  compares: %s\n  repair:   %s\n", a.Name, a.Compares,
			repair); err != nil {
			return err
		}
	}
	return nil
}

// printResult prints the result of a check for people.
func printResult(out io.Writer, r doctor.Result, repair bool) error {
	state, text, found := "ok", fmt.Sprintf("%d looked at", r.Looked), disagreements(r.Found)
	switch {
	case r.Err != nil:
		state, text = "FAILED", cli.Printable(r.Err.Error())
	case r.Found > 0 && r.Left == 0:
		state, text = "repaired", found+", all repaired"
	case r.Found > 0 && r.Repair == "":
		state, text = "FOUND", found+"; there is no repair"
	case r.Found > 0 && repair:
		state, text = "LEFT", fmt.Sprintf("%s, %d left", found, r.Left)
	case r.Found > 0:
		state, text = "FOUND", found
	case r.Looked == 0 && r.Note != "":
		state, text = "skipped", r.Note
	}
	if _, err := fmt.Fprintf(out, "%-8s  %-22s  %s\n", state, r.Name, text); err != nil {
		return err
	}
	lines := make([]string, 0, len(r.Examples)+4)
	lines = append(lines, r.Examples...)
	if more := r.Found - int64(len(r.Examples)); more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", more))
	}
	if r.Left > 0 && !repair && r.Offline != "" {
		lines = append(lines, "for a repair, stop "+r.Offline)
	}
	for _, note := range []string{r.Note, r.Refused} {
		if note != "" && state != "skipped" {
			lines = append(lines, note)
		}
	}
	for _, line := range lines {
		if _, err := fmt.Fprintf(out, "          %s\n", cli.Printable(line)); err != nil {
			return err
		}
	}
	return nil
}

// encodeResult prints the result of a check for programs.
func encodeResult(out io.Writer, r doctor.Result, repair bool) error {
	failed := ""
	if r.Err != nil {
		failed = r.Err.Error()
	}
	return cli.NewEncoder(out).Encode(struct {
		Check    string   `json:"check"`
		Looked   int64    `json:"looked_at"`
		Found    int64    `json:"found"`
		Left     int64    `json:"left"`
		Repair   bool     `json:"repair"` // whether it was asked for
		Examples []string `json:"examples"`
		Note     string   `json:"note,omitempty"`
		Refused  string   `json:"refused,omitempty"`
		Error    string   `json:"error,omitempty"`
	}{r.Name, r.Looked, r.Found, r.Left, repair, append([]string{}, r.Examples...), r.Note,
		r.Refused, failed})
}
