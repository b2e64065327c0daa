// Package benchcmd is the command "bench". It measures servers with the scenarios of
// package bench, and prints, keeps and compares the results.
package benchcmd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"teamtalk/bench"
	"teamtalk/bench/report"
	"teamtalk/bench/scenario"
	"teamtalk/cmd/teamtalk/internal/cli"
)

// New returns the command "bench" with its subcommands.
func New() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure message servers, of this program or others",
		Long: `Measure message servers that speak this protocol, of this program or others. A run
checks that every message is acked, and delivered once, in order and unchanged. The result shows
failed checks beside each rate, and the exit code is then 1.

With --rate operations start on a schedule, and latency counts from the scheduled time, so that a
stalled server cannot hide the delay. Without it operations start as fast as the servers answer.

The users must exist, and the server must not limit the rate of a connection:

  teamtalk user add --count 15000 --format u%05d --password pw
  teamtalk serve --msg.rate 0 --msg.ack stored

The progress of a run is shown. Ctrl-c ends the run early, and the counts so far are reported.
--json keeps the result, to show it again or to compare it with others. --html writes a page with
charts.`,
		Args:        cobra.ArbitraryArgs,
		RunE:        cli.CommandsOnly,
		Annotations: cli.HoldsCommands,
	}
	cmd.AddGroup(&cobra.Group{ID: "measure", Title: "Measure:"},
		&cobra.Group{ID: "read", Title: "Show results:"},
		&cobra.Group{ID: "prepare", Title: "Prepare:"})
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			cmd.AddCommand(c)
		}
	}
	for _, kind := range scenario.Kinds() {
		if k, ok := Kinds[kind]; ok {
			add("measure", NewKindCommand(kind, k))
		}
	}
	add("measure", newBenchRunCommand(), NewSweepCommand(), newBenchFaultsCommand(),
		newBenchCeilingCommand(), newEchoCommand())
	add("read", newBenchReportCommand(), newBenchCompareCommand())
	add("prepare", newBenchFillCommand())
	cmd.AddCommand(newBenchAgentCommand())
	return cmd
}

// newBenchAgentCommand returns the command "bench agent", which --generators and --agent
// start.
func newBenchAgentCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "agent",
		Short:  "Generate the load that another process describes on standard input",
		Hidden: true,
		Args:   cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return bench.ServeAgent(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
}

// Kind is the help text of a kind of scenario.
type Kind struct{ Short, Long, Example string }

// Kinds holds the kinds of scenarios with a command of their own.
var Kinds = map[string]Kind{
	scenario.KindConnect: {
		Short: "Log many users in: logins a second, and the time of a login",
		Long: `Users log in, and then log out and make room for the next user, or close the
connection without logout, or stay until all are logged in.`,
		Example: `  teamtalk bench connect --connections 5000 --duration 30s
  teamtalk bench connect --connections 15000 --after stay --duration 5m
  teamtalk bench connect --connections 2000 --online 10000 --rate 500`,
	},
	scenario.KindIdle: {
		Short: "Hold many logged-in connections: the memory of one",
		Long: `Users log in and send only heartbeats. The memory of the processes is read before and
after.`,
		Example: "  teamtalk bench idle --connections 15000 " +
			"--pid $(pgrep -f 'teamtalk serve --roles msg')",
	},
	scenario.KindSingle: {
		Short: "Send texts between pairs of users: time to ack and delivery",
		Long:  `The first user of each pair sends texts to the second.`,
		Example: `  teamtalk bench single --pairs 200
  teamtalk bench single --pairs 200 --rate 400 --duration 30s`,
	},
	scenario.KindGroup: {
		Short: "Send texts to groups: time until every member has each text",
		Long: `Some members of each group send texts; every other member must receive each text
once.`,
		Example: "  teamtalk bench group --groups 10 --members 200 --senders 2 --rate 100",
	},
	scenario.KindMixed: {
		Short: "Mix logins, texts, groups, reads and files, as on a working day",
		Long: `Online users send texts to each other and to groups, mark messages as read, read
history, ask for presence, type, and send files. Other users log in, fetch the data that a client
shows first, and log out. --share-… set the proportions.`,
		Example: "  teamtalk bench mixed --population 2000 --roaming 200 --groups 50 " +
			"--members 40 --rate 500 --duration 1m",
	},
	scenario.KindFile: {
		Short: "Send files between pairs of users",
		Long: `The first user of each pair sends files to the second, and every byte is
compared. Message servers accept ten frames about files a second from a client, so a pair sends at
most five files a second. For more load, use larger files or more pairs.`,
		Example: `  teamtalk bench file --pairs 10 --file-size 10MiB
  teamtalk bench file --pairs 50 --mode online --rate 20`,
	},
	scenario.KindSoak: {
		Short: "Run another kind of scenario for hours",
		Long: `Run another kind of scenario for hours, with a line of output a minute. The command
takes the settings of all kinds.`,
		Example: "  teamtalk bench soak --of mixed --population 1000 --rate 200 --duration 8h",
	},
}

// benchOutput holds the flags of the generators, of the watched processes and of the
// results.
type benchOutput struct {
	reportFiles
	generators int
	agents     []string
	watch      benchWatch
	ceilings   benchCeilings
}

// ownGenerator begins the names of the generators on this machine.
const ownGenerator = "generator "

// processes returns the generators to start; none when this process generates.
func (o *benchOutput) processes(cmd *cobra.Command) ([]bench.Agent, error) {
	var agents []bench.Agent
	if o.generators < 0 || o.generators > 1000 {
		return nil, cli.Usagef(cmd, "--generators: want 0 to 1000, got %d", o.generators)
	}
	if o.generators > 0 {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		for i := range o.generators {
			agents = append(agents, bench.Agent{Name: fmt.Sprint(ownGenerator, i+1),
				Command: []string{self, "bench", "agent"}})
		}
	}
	for i, command := range o.agents {
		agents = append(agents, bench.Agent{Name: fmt.Sprint("agent ", i+1),
			Command: []string{"sh", "-c", command}})
	}
	return agents, nil
}

// flags defines the flags.
func (o *benchOutput) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	o.reportFiles.flags(f)
	f.IntVar(&o.generators, "generators", 0,
		"generator processes to start on this machine (0: this process generates)")
	f.StringArrayVar(&o.agents, "agent", nil, "command that starts a generator on another "+
		"machine, such as 'ssh host teamtalk bench agent'; repeat the flag for more")
	o.watch.flags(f)
	o.ceilings.flags(cmd)
}

// NewKindCommand returns the command that runs one kind of scenario.
func NewKindCommand(kind string, k Kind) *cobra.Command {
	s := scenario.New(kind)
	var out benchOutput
	cmd := &cobra.Command{
		Use:     kind,
		Short:   k.Short,
		Long:    k.Long,
		Example: k.Example,
		Args:    cli.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runBench(cmd, s, &out) },
	}
	scenarioFlags(cmd.Flags(), kind, &s)
	out.flags(cmd)
	return cmd
}

// newBenchRunCommand returns the command "bench run".
func newBenchRunCommand() *cobra.Command {
	var out benchOutput
	var file benchFile
	cmd := &cobra.Command{
		Use:   "run SCENARIO.toml",
		Short: "Run the scenario of a file",
		Long: `Run the scenario of a file. The file has "kind" and the settings of that kind's
command, without dashes:

  kind = "single"
  pairs = 200
  rate = 400
  duration = "30s"`,
		Example: "  teamtalk bench run day.toml --html day.html\n  teamtalk bench run day.toml " +
			"--set addr=10.0.0.5:8000 --set duration=1m",
		Args: cli.Exactly(1, "one SCENARIO.toml"),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := file.read(cmd, args[0])
			if err != nil {
				return err
			}
			return runBench(cmd, s, &out)
		},
	}
	file.flags(cmd)
	out.flags(cmd)
	return cmd
}

// benchFile reads the file of a scenario. Settings of flags override those of the file.
type benchFile struct{ set []string }

// flags defines the flags.
func (b *benchFile) flags(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&b.set, "set", nil,
		"override a setting of the file, such as rate=400; repeat the flag for more")
}

// read returns the scenario of a file, with the settings of the flags.
func (b *benchFile) read(cmd *cobra.Command, path string) (scenario.Scenario, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return scenario.Scenario{}, err
	}
	s, err := scenario.Parse(data)
	if err != nil {
		return s, cli.Usagef(cmd, "%s: %w", path, err)
	}
	if s.Name == "" {
		s.Name = strings.TrimSuffix(filepath.Base(path), ".toml")
	}
	for _, text := range b.set {
		key, value, ok := strings.Cut(text, "=")
		fields := scenario.Fields(s.Kind)
		i := slices.IndexFunc(fields, func(f scenario.Field) bool {
			return f.Key != "kind" && (f.Key == key || f.Flag() == key)
		})
		switch {
		case !ok:
			return s, cli.Usagef(cmd, "--set %s: want setting=value", text)
		case i < 0:
			return s, cli.Usagef(cmd, "--set %s: no such setting of %s", text, s.Kind)
		}
		if err := fields[i].Set(&s, value); err != nil {
			return s, cli.Usagef(cmd, "--set %s: %w", text, err)
		}
	}
	return s, nil
}

// scenarioFlags defines a flag for every setting of a kind of scenario.
func scenarioFlags(flags *pflag.FlagSet, kind string, s *scenario.Scenario) {
	for _, f := range scenario.Fields(kind) {
		if f.Key == "kind" {
			continue
		}
		flag := flags.VarPF(&scenarioValue{f, s}, f.Flag(), "", f.Doc)
		if f.IsBool() {
			flag.NoOptDefVal = "true"
		}
	}
}

// scenarioValue is a setting of a scenario as a flag.
type scenarioValue struct {
	scenario.Field
	s *scenario.Scenario
}

// String returns the present value.
func (v *scenarioValue) String() string {
	if v.s == nil {
		return "" // the flag package calls it on a zero value
	}
	return v.Get(v.s)
}

// Set parses and sets the value.
func (v *scenarioValue) Set(text string) error { return v.Field.Set(v.s, text) }

// runBench runs a scenario and writes the result.
func runBench(cmd *cobra.Command, s scenario.Scenario, out *benchOutput) error {
	if err := errors.Join(s.Validate(), out.check()); err != nil {
		return cli.Usagef(cmd, "%w", err)
	}
	agents, err := out.processes(cmd)
	if err != nil {
		return err
	}
	if err := out.ceilings.check(cmd, &s); err != nil {
		return err
	}
	view := watchBench(cmd)
	defer view.Close() // a panic must not leave the terminal in raw mode
	view.Begin(report.Title(&s), countedTime(&s))
	opt := benchOptions(cmd, view)
	opt.Agents = agents
	res, err := out.run(cmd, s, opt)
	view.Close()
	if err != nil {
		return err
	}
	if err := out.ceilings.measure(cmd, &s, res); err != nil {
		return err
	}
	if err := out.writeResult(cmd, res); err != nil {
		return err
	}
	if !res.Checks.Clean() {
		return errNotClean
	}
	return nil
}

// run runs a scenario, and watches the processes on this machine.
func (o *benchOutput) run(cmd *cobra.Command, s scenario.Scenario,
	opt bench.Options) (*bench.Result, error) {
	if err := o.watch.open(cmd, &s, &opt); err != nil {
		return nil, err
	}
	res, err := bench.Run(cmd.Context(), s, opt)
	if err == nil {
		o.watch.close(res)
	}
	return res, err
}
