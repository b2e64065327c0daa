// Package benchcmd is the command "bench": it measures servers with the scenarios of package bench.
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
	"teamtalk/cmd/teamtalk/internal/cli"
)

// New makes the command "bench" with its subcommands.
func New() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure message servers, these or others of the protocol",
		Long: `Measure message servers that speak this protocol, these or others. Every message is checked: acked,
delivered once and in order, unchanged; what went wrong stands beside every rate, and makes the exit code 1.

With --rate things start on a schedule, and latency counts from the scheduled time, so that a server
that stalls cannot hide it. Without it they go as fast as the servers answer.

The users must exist, and the server must not limit the rate of a connection:

  teamtalk user add --count 15000 --format u%05d --password pw
  teamtalk serve --msg.rate 0 --msg.ack stored

A run is shown while it goes on; ctrl-c ends it early, and what was counted is reported. --json keeps the
result, to be shown again or compared with others, and --html makes a page with charts of it.`,
		Args:        cli.CheckArgs(cobra.ArbitraryArgs),
		RunE:        cli.CommandsOnly,
		Annotations: cli.HoldsCommands,
	}
	cmd.AddGroup(&cobra.Group{ID: "measure", Title: "To measure:"}, &cobra.Group{ID: "read", Title: "To read what was measured:"},
		&cobra.Group{ID: "prepare", Title: "To prepare:"})
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			cmd.AddCommand(c)
		}
	}
	for _, kind := range bench.Kinds() {
		if k, ok := Kinds[kind]; ok {
			add("measure", NewKindCommand(kind, k))
		}
	}
	add("measure", newBenchRunCommand(), NewSweepCommand(), newBenchCeilingCommand(), newEchoCommand())
	add("read", newBenchReportCommand(), newBenchCompareCommand())
	add("prepare", newBenchFillCommand())
	cmd.AddCommand(newBenchAgentCommand())
	return cmd
}

// newBenchAgentCommand is what --generators and --agent start.
func newBenchAgentCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "agent",
		Short:  "Generate load for another process, which says what on standard input",
		Hidden: true,
		Args:   cli.CheckArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return bench.ServeAgent(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
}

// Kind is what the help says about a kind of scenario.
type Kind struct{ Short, Long, Example string }

// Kinds are the scenarios with a command of their own.
var Kinds = map[string]Kind{
	bench.KindConnect: {"Many users log in: how many a second, and how long does it take", `Users log in, log out, and let the next one in; or close without a word; or stay until all are there.`,
		"  teamtalk bench connect --connections 5000 --duration 30s\n  teamtalk bench connect --connections 15000 --after stay --duration 5m\n  teamtalk bench connect --connections 2000 --online 10000 --rate 500"},
	bench.KindIdle: {"Hold many logged-in connections, and say what one costs", `Users log in and do nothing but send heartbeats. The memory of processes is read before and after.`,
		"  teamtalk bench idle --connections 15000 --pid $(pgrep -f 'teamtalk serve --roles msg')"},
	bench.KindSingle: {"Pairs of users write texts: how fast are they acked and delivered", `Pairs of users write texts, the first of each pair to the second.`,
		"  teamtalk bench single --pairs 200\n  teamtalk bench single --pairs 200 --rate 400 --duration 30s"},
	bench.KindGroup: {"Users write to groups: how fast does every member get it", `Some members of each group write to it; every other member has to get each message once.`,
		"  teamtalk bench group --groups 10 --members 200 --senders 2 --rate 100"},
	bench.KindMixed: {"A company's day: logins, texts, groups, reads, files, all at once", `Users at work write to each other and in groups, mark as read, read history, ask who is online, type,
and send files; others log in, fetch what a client shows first, and log out. --share-… set the proportions.`,
		"  teamtalk bench mixed --population 2000 --roaming 200 --groups 50 --members 40 --rate 500 --duration 1m"},
	bench.KindFile: {"Pairs of users send files over the file server", `Pairs of users send files, the first of each to the second, and every byte is compared.
Message servers let a client say ten things about files a second, so that a pair sends five files
a second at most: larger files, or more pairs, make more of a load.`,
		"  teamtalk bench file --pairs 10 --file-size 10MiB\n  teamtalk bench file --pairs 50 --mode online --rate 20"},
	bench.KindSoak: {"Another kind of scenario, for hours", `Another kind of scenario, for hours, with a line a minute. It takes the settings of all kinds.`,
		"  teamtalk bench soak --of mixed --population 1000 --rate 200 --duration 8h"},
}

// benchOutput says who generates, and where results go.
type benchOutput struct {
	reportFiles
	generators int
	agents     []string
	watch      benchWatch
	ceilings   benchCeilings
}

// ownGenerator begins the names of generators started on this machine.
const ownGenerator = "generator "

// processes are the generators to be started, none when this process is the generator.
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
			agents = append(agents, bench.Agent{Name: fmt.Sprint(ownGenerator, i+1), Command: []string{self, "bench", "agent"}})
		}
	}
	for i, command := range o.agents {
		agents = append(agents, bench.Agent{Name: fmt.Sprint("agent ", i+1), Command: []string{"sh", "-c", command}})
	}
	return agents, nil
}

func (o *benchOutput) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	o.reportFiles.flags(f)
	f.IntVar(&o.generators, "generators", 0, "generator processes to start on this machine (0: this process generates)")
	f.StringArrayVar(&o.agents, "agent", nil, "command that starts a generator elsewhere, such as 'ssh host teamtalk bench agent'; once for each")
	o.watch.flags(f)
	o.ceilings.flags(cmd)
}

// NewKindCommand makes the command that runs one kind of scenario.
func NewKindCommand(kind string, k Kind) *cobra.Command {
	s := bench.NewScenario(kind)
	var out benchOutput
	cmd := &cobra.Command{
		Use:     kind,
		Short:   k.Short,
		Long:    k.Long,
		Example: k.Example,
		Args:    cli.CheckArgs(cobra.NoArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return runBench(cmd, s, &out) },
	}
	scenarioFlags(cmd.Flags(), kind, &s)
	out.flags(cmd)
	return cmd
}

func newBenchRunCommand() *cobra.Command {
	var out benchOutput
	var file benchFile
	cmd := &cobra.Command{
		Use:   "run SCENARIO.toml",
		Short: "Run the scenario of a file",
		Long: `Run the scenario of a file. It has "kind" and the settings of that kind's command, without the dashes:

  kind = "single"
  pairs = 200
  rate = 400
  duration = "30s"`,
		Example: "  teamtalk bench run day.toml --html day.html\n  teamtalk bench run day.toml --set addr=10.0.0.5:8000 --set duration=1m",
		Args:    cli.CheckArgs(cobra.ExactArgs(1)),
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

// benchFile is a scenario's file, with settings in place of the file's.
type benchFile struct{ set []string }

func (b *benchFile) flags(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&b.set, "set", nil, "a setting in place of the file's, such as rate=400; once for each")
}

func (b *benchFile) read(cmd *cobra.Command, path string) (bench.Scenario, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return bench.Scenario{}, err
	}
	s, err := bench.ParseScenario(data)
	if err != nil {
		return s, cli.Usagef(cmd, "%s: %w", path, err)
	}
	if s.Name == "" {
		s.Name = strings.TrimSuffix(filepath.Base(path), ".toml")
	}
	for _, text := range b.set {
		key, value, ok := strings.Cut(text, "=")
		fields := bench.Fields(s.Kind)
		i := slices.IndexFunc(fields, func(f bench.Field) bool { return f.Key != "kind" && (f.Key == key || f.Flag() == key) })
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

// scenarioFlags makes a flag for every setting of a kind of scenario.
func scenarioFlags(flags *pflag.FlagSet, kind string, s *bench.Scenario) {
	for _, f := range bench.Fields(kind) {
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
	bench.Field
	s *bench.Scenario
}

// String is the value now.
func (v *scenarioValue) String() string {
	if v.s == nil {
		return "" // made by the flag package to learn what the zero value looks like
	}
	return v.Get(v.s)
}

// Set sets it.
func (v *scenarioValue) Set(text string) error { return v.Field.Set(v.s, text) }

func runBench(cmd *cobra.Command, s bench.Scenario, out *benchOutput) error {
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

// run makes a run, with the processes on this machine watched.
func (o *benchOutput) run(cmd *cobra.Command, s bench.Scenario, opt bench.Options) (*bench.Result, error) {
	if err := o.watch.open(cmd, &s, &opt); err != nil {
		return nil, err
	}
	res, err := bench.Run(cmd.Context(), s, opt)
	if err == nil {
		o.watch.close(res)
	}
	return res, err
}
