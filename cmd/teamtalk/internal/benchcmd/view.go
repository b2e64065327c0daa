package benchcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"teamtalk/bench"
	"teamtalk/bench/report"
	"teamtalk/bench/scenario"
	"teamtalk/cmd/teamtalk/internal/cli"
)

// errNotClean sets the exit code to 1 when the table shows failed checks.
var errNotClean = errors.New("not everything went as it should: see the checks above")

// reportFiles holds the files of a result, beside the table on standard output.
type reportFiles struct {
	json, html string
}

// flags defines the flags.
func (o *reportFiles) flags(f *pflag.FlagSet) {
	f.StringVar(&o.json, "json", "",
		"write the result as JSON to this file (-: to standard output instead of the table)")
	f.StringVar(&o.html, "html", "", "write the result as a page with charts to this file")
}

// check finds missing folders before a run, which may take hours.
func (o *reportFiles) check() error {
	for _, path := range []string{o.json, o.html} {
		if path == "" || path == "-" {
			continue
		}
		if st, err := os.Stat(filepath.Dir(path)); err != nil {
			return fmt.Errorf("%s cannot be written: %w", path, err)
		} else if !st.IsDir() {
			return fmt.Errorf("%s cannot be written: %s is not a folder", path, filepath.Dir(path))
		}
	}
	return nil
}

// write writes v, a result or a sweep, in all the forms of the flags. A form that fails
// does not prevent the others.
func (o *reportFiles) write(cmd *cobra.Command, v any,
	text func(w io.Writer, color bool) error, html func(io.Writer) error,
) error {
	var errs []error
	out := cmd.OutOrStdout()
	if o.json == "-" {
		errs = append(errs, report.Write(out, v))
	} else {
		errs = append(errs, text(out, report.Colors(out, os.Getenv)))
		if o.json != "" {
			errs = append(errs, report.WriteFile(o.json, v))
		}
	}
	if o.html != "" {
		errs = append(errs, report.WriteHTMLFile(o.html, html))
	}
	return errors.Join(errs...)
}

// writeResult writes the result of a run.
func (o *reportFiles) writeResult(cmd *cobra.Command, r *bench.Result) error {
	return o.write(cmd, r,
		func(w io.Writer, color bool) error { return report.Text(w, r, color) },
		func(w io.Writer) error { return report.HTML(w, r) })
}

// writeSweep writes a sweep.
func (o *reportFiles) writeSweep(cmd *cobra.Command, s *bench.Sweep) error {
	return o.write(cmd, s,
		func(w io.Writer, color bool) error { return report.SweepText(w, s, color) },
		func(w io.Writer) error { return report.SweepHTML(w, s) })
}

// watchBench shows the progress of runs on standard error. Ctrl-c has the same effect as
// without a view: the first asks the process to finish, the second ends it. A signal that
// cancels the context of cmd counts as the first. The caller closes the view.
func watchBench(cmd *cobra.Command) *report.Live {
	interrupt := func() {
		if p, err := os.FindProcess(os.Getpid()); err == nil {
			_ = p.Signal(os.Interrupt)
		}
	}
	view := report.Watch(report.LiveOptions{
		Out: cmd.ErrOrStderr(), In: cmd.InOrStdin(), Environ: os.Environ(), Stop: interrupt,
		Abort: interrupt,
	})
	context.AfterFunc(cmd.Context(), view.Ending)
	return view
}

// benchOptions returns the options of a run that is shown in a view.
func benchOptions(cmd *cobra.Command, view *report.Live) bench.Options {
	return bench.Options{
		Log:      slog.New(slog.NewTextHandler(view, nil)),
		Build:    cli.Build(cmd),
		Phase:    view.Phase,
		Progress: view.Progress,
	}
}

// countedTime returns the time in which a scenario counts.
func countedTime(s *scenario.Scenario) time.Duration {
	if s.Kind == scenario.KindIdle {
		return time.Duration(s.Hold)
	}
	return time.Duration(s.Duration)
}

// newBenchReportCommand returns the command "bench report".
func newBenchReportCommand() *cobra.Command {
	var html string
	var markdown bool
	cmd := &cobra.Command{
		Use:   "report RESULT.json",
		Short: "Show a kept result as a table, as Markdown or as a page with charts",
		Long: `Show the result of a run or a sweep that --json has written: as a table, as
Markdown for another page, or as a page with charts that needs no other files. The exit code does
not depend on the checks of the result.`,
		Example: "  teamtalk bench report single.json\n  teamtalk bench report single.json " +
			"--html single.html",
		Args: cli.Exactly(1, "one RESULT.json"),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := report.ReadFile(args[0])
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			switch color := report.Colors(out, os.Getenv); {
			case html != "" && f.Sweep != nil:
				return writePage(html, out, func(w io.Writer) error {
					return report.SweepHTML(w,
						f.Sweep)
				})
			case html != "":
				return writePage(html, out, func(w io.Writer) error {
					return report.HTML(w,
						f.Result)
				})
			case f.Sweep != nil && markdown:
				return report.SweepMarkdown(out, f.Sweep)
			case f.Sweep != nil:
				return report.SweepText(out, f.Sweep, color)
			case markdown:
				return report.Markdown(out, f.Result)
			default:
				return report.Text(out, f.Result, color)
			}
		},
	}
	pageFlags(cmd, &html, &markdown)
	return cmd
}

// pageFlags defines the flags for the forms of kept results.
func pageFlags(cmd *cobra.Command, html *string, markdown *bool) {
	cmd.Flags().StringVar(html, "html", "",
		"write a page with charts to this file (-: to standard output) instead of the table")
	cmd.Flags().BoolVar(markdown, "markdown", false, "print the table as Markdown")
	cmd.MarkFlagsMutuallyExclusive("html", "markdown")
}

// writePage writes a page to a file, or to standard output for "-".
func writePage(path string, out io.Writer, page func(io.Writer) error) error {
	if path == "-" {
		return page(out)
	}
	return report.WriteHTMLFile(path, page)
}

// newBenchCompareCommand returns the command "bench compare".
func newBenchCompareCommand() *cobra.Command {
	var html string
	var markdown bool
	noise := 100 * report.DefaultNoise
	cmd := &cobra.Command{
		Use:   "compare BEFORE AFTER…",
		Short: "Compare results side by side",
		Long: `Compare results that --json has written side by side. The others are compared with
the first, and differences below the noise count as equal. The command warns when scenarios or
machines differ, and when a result is not clean: it may be better only because it left out work.

A folder holds the results of several runs of one build, at least four: make them in turns, one
of each build. The values are then medians with the lowest and the highest, and the verdict says
which of them differ by more than chance (the test of Mann and Whitney, 5 %) and by more than the
noise.`,
		Example: "  teamtalk bench compare before.json after.json\n  teamtalk bench compare " +
			"v1.json v2.json v3.json --html versions.html\n  teamtalk bench compare before/ after/",
		Args: cli.AtLeast(2, "two RESULT.json or more"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var runs [][]*report.File
			for _, path := range args {
				r, err := readRuns(path)
				if err != nil {
					return err
				}
				runs = append(runs, r)
			}
			if !(noise > 0 && noise < 100) {
				return cli.Usagef(cmd, "--noise: want a percentage above 0 and below 100, got %v",
					noise)
			}
			c, err := report.CompareRuns(runs, args, noise/100)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			switch {
			case html != "":
				return writePage(html, out, c.HTML)
			case markdown:
				return c.Markdown(out)
			}
			return c.Text(out, report.Colors(out, os.Getenv))
		},
	}
	pageFlags(cmd, &html, &markdown)
	cmd.Flags().Float64Var(&noise, "noise", noise, "percentage within which rates, values and "+
		"medians count as equal; of single runs twice as much for p99, four times for p99.9 "+
		"and max")
	return cmd
}

// readRuns reads the results that an argument names: those of all files *.json of a folder, in the
// order of their names, or that of a file.
func readRuns(path string) ([]*report.File, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	paths := []string{path}
	if st.IsDir() {
		if paths, err = filepath.Glob(filepath.Join(path, "*.json")); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if len(paths) == 0 {
			return nil, fmt.Errorf("%s: no file *.json in this folder", path)
		}
	}
	var files []*report.File
	for _, p := range paths {
		f, err := report.ReadFile(p)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

// sweepTitle returns the title of a step of a sweep, for the view.
func sweepTitle(s *scenario.Scenario, number int) string {
	return fmt.Sprintf("step %d: %s", number, report.Title(s))
}
