package benchcmd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"teamtalk/bench"
	"teamtalk/cmd/teamtalk/internal/cli"
)

// swept says for each kind of scenario with a rate what that is of, what is bounded, and what has to keep up when nothing else is said.
var swept = map[string]struct{ what, of, total, asked string }{
	bench.KindSingle:  {"texts between pairs of users", "ack", "acked", ""},
	bench.KindGroup:   {"texts in groups", "ack", "acked", ""},
	bench.KindConnect: {"logins", "login", "logins", ""},
	bench.KindMixed:   {"all that a company does", "ack", "acked", "sent"},
	bench.KindFile:    {"files", "upload", "files", ""},
}

// NewSweepCommand makes the command "bench sweep".
func NewSweepCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sweep",
		Short: "Step the rate up to find the knee: the highest that servers keep up with",
		Long: `Step the rate up to find the knee: the highest rate at which the 99th percentile of a latency stays under
--p99, while every message arrives as it should and at least 95 % of the rate is done. The rate grows from
--from to --to, by --factor or --step, until one does not hold; then the gap is halved until it is narrower
than --within.

Each step is a run of its own with its own warm-up. A generator that has no processor time to spare ends the
sweep, since nothing more can be learned of the servers. Ctrl-c ends it with what was found so far.`,
		Example: `  teamtalk bench sweep single --pairs 500 --p99 20ms --from 1000 --to 100000
  teamtalk bench sweep connect --connections 5000 --p99 500ms --from 200 --to 20000 --html logins.html
  teamtalk bench sweep run company.toml --p99 50ms --of delivery --from 500 --to 20000 --step 500`,
		Args:        cli.CheckArgs(cobra.ArbitraryArgs),
		RunE:        cli.CommandsOnly,
		Annotations: cli.HoldsCommands,
	}
	for _, kind := range bench.Kinds() {
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

// benchSweep is what a sweep is asked for.
type benchSweep struct {
	bench.SweepOptions
	within float64 // in percent
	run    benchOutput
}

func (o *benchSweep) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.DurationVar(&o.Under, "p99", 20*time.Millisecond, "bound of the 99th percentile")
	f.StringVar(&o.Of, "of", "", "the latency that is bounded: ack, delivery, login, … (default: what the scenario is about)")
	f.StringVar(&o.Total, "total", "", "what has to keep up with the rate: acked, logins, … (default: what the scenario is about)")
	f.Float64Var(&o.From, "from", 0, "first rate, a second")
	f.Float64Var(&o.To, "to", 0, "highest rate that is tried, a second")
	f.Float64Var(&o.Step, "step", 0, "what is added to the rate at each step")
	f.Float64Var(&o.Factor, "factor", 0, "what the rate is multiplied by at each step (default 1.5)")
	f.Float64Var(&o.within, "within", 5, "percentage to which the knee is found")
	o.run.flags(cmd)
}

func newBenchSweepKindCommand(kind string, k Kind) *cobra.Command {
	s := bench.NewScenario(kind)
	var o benchSweep
	cmd := &cobra.Command{
		Use:   kind,
		Short: "Sweep the rate of " + swept[kind].what,
		Long:  k.Long + "\n\nThe rate is stepped up to find the knee: see teamtalk bench sweep --help.",
		Args:  cli.CheckArgs(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return runBenchSweep(cmd, s, &o) },
	}
	scenarioFlags(cmd.Flags(), kind, &s)
	_ = cmd.Flags().MarkHidden("rate") // what is looked for
	o.flags(cmd)
	return cmd
}

func newBenchSweepRunCommand() *cobra.Command {
	var o benchSweep
	var file benchFile
	cmd := &cobra.Command{
		Use:   "run SCENARIO.toml",
		Short: "Sweep the rate of the scenario of a file",
		Args:  cli.CheckArgs(cobra.ExactArgs(1)),
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

func runBenchSweep(cmd *cobra.Command, s bench.Scenario, o *benchSweep) error {
	if cmd.Flags().Changed("rate") {
		return cli.Usagef(cmd, "--rate is what is looked for: give --from and --to")
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
	agents, err := o.run.processes(cmd)
	if err != nil {
		return err
	}
	view := watchBench(cmd)
	opt := benchOptions(cmd, view)
	opt.Agents = agents
	o.Before = func(number int, rate float64) {
		step := s
		step.Rate = rate
		view.Begin(sweepTitle(&step, number), countedTime(&step))
	}
	sweep, err := bench.RunSweep(cmd.Context(), o.SweepOptions, func(ctx context.Context, rate float64) (*bench.Result, error) {
		step := s
		step.Rate = rate
		return o.run.run(cmd, step, opt)
	})
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
		return fmt.Errorf("no rate held: %s", sweep.Ended)
	}
	return nil
}
