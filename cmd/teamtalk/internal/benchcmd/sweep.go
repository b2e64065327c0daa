package benchcmd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"teamtalk/bench"
	"teamtalk/bench/scenario"
	"teamtalk/cmd/teamtalk/internal/cli"
)

// swept holds the kinds of scenarios whose rate can be swept.
var swept = map[string]struct {
	what  string // the operations that the rate counts
	of    string // the default of the bounded latency
	total string // the default of the total that must keep up with the rate
	asked string // the total that counts the attempts; empty: the rate counts them
}{
	scenario.KindSingle:  {"texts between pairs of users", "ack", "acked", ""},
	scenario.KindGroup:   {"texts in groups", "ack", "acked", ""},
	scenario.KindConnect: {"logins", "login", "logins", ""},
	scenario.KindMixed:   {"the operations of a working day", "ack", "acked", "sent"},
	scenario.KindFile:    {"files", "upload", "files", ""},
}

// NewSweepCommand returns the command "bench sweep".
func NewSweepCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sweep",
		Short: "Find the knee: the highest rate that the servers sustain",
		Long: `Find the knee: the highest rate at which the 99th percentile of a latency stays
below --p99, all checks succeed, and at least 95 % of the rate is reached. The rate grows from
--from to --to, by --factor or --step, until a step fails. Then the gap between the last two
rates is halved until it is narrower than --within.

Each step is a run with a warm-up of its own. A generator without spare processor time ends the
sweep, because it can measure no higher rate. Ctrl-c ends the sweep and reports the steps so far.`,
		Example: `  teamtalk bench sweep single --pairs 500 --p99 20ms --from 1000 --to 100000
  teamtalk bench sweep connect --connections 5000 --p99 500ms --from 200 --to 20000
  teamtalk bench sweep run company.toml --p99 50ms --of delivery --from 500 --to 20000 --step 500`,
		Args:        cobra.ArbitraryArgs,
		RunE:        cli.CommandsOnly,
		Annotations: cli.HoldsCommands,
	}
	for _, kind := range scenario.Kinds() {
		if _, ok := swept[kind]; !ok {
			continue
		}
		if k, ok := Kinds[kind]; ok {
			cmd.AddCommand(newBenchSweepKindCommand(kind, k))
		}
	}
	cmd.AddCommand(newBenchSweepRunCommand())
	return cmd
}

// benchSweep holds the flags of a sweep.
type benchSweep struct {
	bench.SweepOptions
	within float64 // in percent
	run    benchOutput
}

// flags defines the flags.
func (o *benchSweep) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.DurationVar(&o.Under, "p99", 20*time.Millisecond, "bound of the 99th percentile")
	f.StringVar(&o.Of, "of", "", "the bounded latency: ack, delivery, login, … (default: that "+
		"of the scenario's main operation)")
	f.StringVar(&o.Total, "total", "", "the total that must keep up with the rate: acked, "+
		"logins, … (default: that of the scenario's main operation)")
	f.Float64Var(&o.From, "from", 0, "first rate, operations a second")
	f.Float64Var(&o.To, "to", 0, "highest rate, operations a second")
	f.Float64Var(&o.Step, "step", 0, "increase of the rate at each step")
	f.Float64Var(&o.Factor, "factor", 0, "factor of the rate at each step (default 1.5)")
	f.Float64Var(&o.within, "within", 5, "precision of the knee, in percent")
	o.run.flags(cmd)
}

// newBenchSweepKindCommand returns the command that sweeps one kind of scenario.
func newBenchSweepKindCommand(kind string, k Kind) *cobra.Command {
	s := scenario.New(kind)
	var o benchSweep
	cmd := &cobra.Command{
		Use:   kind,
		Short: "Sweep the rate of " + swept[kind].what,
		Long: k.Long + "\n\nThe command finds the knee of the rate: see teamtalk bench sweep " +
			"--help.",
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runBenchSweep(cmd, s, &o) },
	}
	scenarioFlags(cmd.Flags(), kind, &s)
	_ = cmd.Flags().MarkHidden("rate") // the sweep sets it
	o.flags(cmd)
	return cmd
}

// newBenchSweepRunCommand returns the command "bench sweep run".
func newBenchSweepRunCommand() *cobra.Command {
	var o benchSweep
	var file benchFile
	cmd := &cobra.Command{
		Use:   "run SCENARIO.toml",
		Short: "Sweep the rate of the scenario of a file",
		Args:  cli.Exactly(1, "one SCENARIO.toml"),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := file.read(cmd, args[0])
			if err != nil {
				return err
			}
			return runBenchSweep(cmd, s, &o)
		},
	}
	file.flags(cmd)
	o.flags(cmd)
	return cmd
}

// complete checks the flags and fills in the defaults of the scenario.
func (o *benchSweep) complete(cmd *cobra.Command, s *scenario.Scenario) error {
	if cmd.Flags().Changed("rate") {
		return cli.Usagef(cmd, "the sweep sets --rate: give --from and --to")
	}
	defaults, ok := swept[s.Kind]
	if !ok {
		return cli.Usagef(cmd, "a scenario of kind %s has no rate to sweep", s.Kind)
	}
	if o.Of == "" {
		o.Of = defaults.of
	}
	if o.Total == "" {
		o.Total, o.Asked = defaults.total, defaults.asked
	}
	o.Within = o.within / 100
	s.Rate = o.From
	if err := errors.Join(o.Validate(), s.Validate(), o.run.check()); err != nil {
		return cli.Usagef(cmd, "%w", err)
	}
	return nil
}

// runBenchSweep runs a sweep and writes the result.
func runBenchSweep(cmd *cobra.Command, s scenario.Scenario, o *benchSweep) error {
	if err := o.complete(cmd, &s); err != nil {
		return err
	}
	agents, err := o.run.processes(cmd)
	if err != nil {
		return err
	}
	view := watchBench(cmd)
	defer view.Close() // a panic must not leave the terminal in raw mode
	opt := benchOptions(cmd, view)
	opt.Agents = agents
	o.Before = func(number int, rate float64) {
		step := s
		step.Rate = rate
		view.Begin(sweepTitle(&step, number), countedTime(&step))
	}
	runStep := func(ctx context.Context, rate float64) (*bench.Result, error) {
		step := s
		step.Rate = rate
		return o.run.run(cmd, step, opt)
	}
	sweep, err := bench.RunSweep(cmd.Context(), o.SweepOptions, runStep)
	view.Close()
	if err != nil && (sweep == nil || len(sweep.Steps) == 0) {
		return err
	}
	if werr := o.run.writeSweep(cmd, sweep); werr != nil {
		return errors.Join(err, werr)
	}
	switch {
	case err != nil && cmd.Context().Err() == nil:
		return err
	case sweep.Knee == 0:
		return fmt.Errorf("no rate was sustained: %s", sweep.Ended)
	}
	return nil
}
