package benchcmd

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"teamtalk/bench"
	"teamtalk/bench/echo"
	"teamtalk/bench/scenario"
	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/cmd/teamtalk/internal/open"
	"teamtalk/core/config"
	"teamtalk/core/engine"
	"teamtalk/sql/ceiling"
	"teamtalk/sql/mysqlconn"
)

// benchCeilings measures the ceilings of this machine after a run: the rates without the
// servers.
type benchCeilings struct {
	on       bool
	echo     string
	duration time.Duration
}

// flags defines the flags of a run.
func (b *benchCeilings) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&b.on, "ceilings", false, "after the run, measure the machine without the "+
		"servers: a bare echo of the same frames, and the databases alone with the same rows")
	b.shared(f)
	addDatabaseFlags(cmd)
}

// shared defines the flags that "bench ceiling" has too.
func (b *benchCeilings) shared(f *pflag.FlagSet) {
	f.StringVar(&b.echo, "echo", "", "address of a \"teamtalk bench echo\" on the servers' "+
		"machine (default: start one on this machine)")
	f.DurationVar(&b.duration, "ceiling-duration", 3*time.Second,
		"duration of the measurement of each ceiling")
}

// measure adds the ceilings to a result. A ceiling that cannot be measured holds the
// error.
func (b *benchCeilings) measure(cmd *cobra.Command, s *scenario.Scenario, res *bench.Result) error {
	if !b.on {
		return nil
	}
	echoOf, storedOf, _ := s.Ceilings()
	cfg, err := loadDatabases(cmd)
	if err != nil {
		return err
	}
	conversations := max(s.Pairs, 1)
	if s.ToGroups() {
		conversations = s.Groups
	}
	for _, c := range b.both(cmd, cfg, echo.Of(s), ceiling.Options{
		Size: int(s.Size), Duration: b.duration, Conversations: conversations, Groups: s.ToGroups(),
	}) {
		c.Of = map[string]string{echoCeiling: echoOf}[c.Name]
		if c.Of == "" {
			c.Of = storedOf
		}
		c.Bound(res)
		res.Ceilings = append(res.Ceilings, c)
	}
	return nil
}

// check returns the errors that measure would return after the run.
func (b *benchCeilings) check(cmd *cobra.Command, s *scenario.Scenario) error {
	if !b.on {
		return nil
	}
	if _, _, ok := s.Ceilings(); !ok {
		return cli.Usagef(cmd, "--ceilings goes with scenarios of texts, not with %s", s.Kind)
	}
	_, err := loadDatabases(cmd)
	return err
}

// echoCeiling is the name of the ceiling of the echo.
const echoCeiling = "echo of the same frames"

// maxConversations bounds the conversations of the rows: more do not change the rate.
const maxConversations = 10_000

// both measures the ceilings of the echo and of the databases.
func (b *benchCeilings) both(cmd *cobra.Command, cfg *config.Config, e echo.Options,
	o ceiling.Options) []bench.Ceiling {
	ctx, errOut := cmd.Context(), cmd.ErrOrStderr()
	fmt.Fprintf(errOut, "ceiling: a bare echo, %v\n", b.duration)
	frames := bench.Ceiling{Name: echoCeiling}
	e.Duration, e.Addr = b.duration, b.echo
	if err := measureEcho(ctx, e, &frames); err != nil {
		frames.Error = err.Error()
	}
	search := " and a search"
	if o.Rate > 0 {
		search = ""
	}
	fmt.Fprintf(errOut, "ceiling: the database alone, %v%s\n", b.duration, search)
	o.Conversations = min(o.Conversations, maxConversations)
	stored := bench.Ceiling{Name: "the same rows stored"}
	if err := measureStore(ctx, cfg, o, &stored); err != nil {
		stored.Error = err.Error()
	}
	return []bench.Ceiling{frames, stored}
}

// measureStore measures the database that the settings name.
func measureStore(ctx context.Context, cfg *config.Config, o ceiling.Options,
	c *bench.Ceiling) error {
	var r ceiling.Result
	var used *usage
	var err error
	if cfg.Store == "mysql" {
		r, used, err = measureMySQL(ctx, cfg, o)
	} else if used, err = watchPaced(o.Rate, nil); err == nil {
		used.count(&o.Begin, &o.End)
		// Measure on the disk of the data: in its folder, or in the folder where it would
		// be made.
		dir := cfg.DataDir
		if _, err := os.Stat(dir); err != nil {
			dir = filepath.Dir(filepath.Clean(dir))
		}
		r, err = ceiling.Embedded(ctx, dir, o)
	}
	if err != nil {
		return err
	}
	c.Rate = r.Rate
	c.How = fmt.Sprintf("%s; %d × %d rows", r.Database, r.Workers, r.Batch)
	if o.Rate > 0 {
		c.P50, c.P99 = milliseconds(r.P50), milliseconds(r.P99)
		c.Each = used.each(r.Rate, true)
	}
	return nil
}

// measureMySQL measures MySQL and Redis.
func measureMySQL(ctx context.Context, cfg *config.Config, o ceiling.Options) (ceiling.Result,
	*usage, error) {
	instances, err := open.Redis(cfg.Redis)
	if err != nil {
		return ceiling.Result{}, nil, err
	}
	encrypted, err := open.MySQLTLS(cfg.MySQL)
	if err != nil {
		return ceiling.Result{}, nil, err
	}
	dsn := cfg.MySQL.Master.Reveal()
	parsed, err := mysqlconn.Parse(dsn, encrypted)
	if err != nil {
		return ceiling.Result{}, nil, err
	}
	used, err := watchPaced(o.Rate, append([]string{parsed.Addr}, instances.Unread.Addrs...))
	if err != nil {
		return ceiling.Result{}, nil, err
	}
	used.count(&o.Begin, &o.End)
	r, err := ceiling.MySQL(ctx, dsn, encrypted, instances.Unread, o)
	return r, used, err
}

// measureEcho measures the echo at o.Addr, or one that it starts in a process of its own.
// An echo in this process would share the generator's scheduler, which no server does.
func measureEcho(ctx context.Context, o echo.Options, c *bench.Ceiling) error {
	if o.Addr == "" {
		addr, stop, err := startEcho(ctx)
		if err != nil {
			return err
		}
		defer stop()
		o.Addr = addr
	}
	used, err := watchPaced(o.Rate, []string{o.Addr})
	if err != nil {
		return err
	}
	used.count(&o.Begin, &o.End)
	r, err := echo.Measure(ctx, o)
	if err != nil {
		return err
	}
	c.Rate = r.Rate
	if o.Rate > 0 {
		c.P50, c.P99, c.Each = milliseconds(r.P50), milliseconds(r.P99), used.each(r.Rate, false)
	}
	return nil
}

// startEcho starts this program as an echo. The echo ends when stop is called, and when
// this process ends, even if it is killed.
func startEcho(ctx context.Context) (addr string, stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return "", nil, fmt.Errorf("start an echo: %w", err)
	}
	child := exec.CommandContext(ctx, self, "bench", "echo", "--listen", "127.0.0.1:0",
		"--until-eof")
	in, err := child.StdinPipe()
	if err != nil {
		return "", nil, fmt.Errorf("start an echo: %w", err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		return "", nil, fmt.Errorf("start an echo: %w", err)
	}
	var complaint strings.Builder
	child.Stderr = &complaint
	if err := child.Start(); err != nil {
		return "", nil, fmt.Errorf("start an echo: %w", err)
	}
	stop = func() {
		in.Close()
		_ = child.Wait() // the outcome of the echo does not change the measurement
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		stop()
		return "", nil, fmt.Errorf("start an echo: %w: %s", err,
			strings.TrimSpace(complaint.String()))
	}
	return strings.TrimSpace(line), stop, nil
}

// newEchoCommand returns the command "bench echo".
func newEchoCommand() *cobra.Command {
	var opt engine.EchoOptions
	var untilEOF bool
	cmd := &cobra.Command{
		Use:   "echo",
		Short: "Send every frame back, to measure the ceiling from another machine",
		Long: `Send every frame back unchanged, with the servers' event engine and nothing else,
until interrupted. The command prints its address. Run it on the machine of the message servers,
while they are stopped, and give the address to --echo on the generator's machine. Do not open it
to the internet.`,
		Example: `  teamtalk bench echo --listen :9999           # on the machine of the servers
  teamtalk bench ceiling --echo server:9999    # on the machine of the generator`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runEcho(cmd, opt, untilEOF) },
	}
	f := cmd.Flags()
	f.StringVar(&opt.Addr, "listen", "127.0.0.1:9999",
		"address to listen on; port 0 selects a free one")
	f.IntVar(&opt.Loops, "loops", 0, "event loops (0: as many as cores)")
	f.BoolVar(&untilEOF, "until-eof", false, "end with standard input")
	f.Lookup("until-eof").Hidden = true
	return cmd
}

// runEcho runs an echo until it is interrupted, or until the end of standard input.
func runEcho(cmd *cobra.Command, opt engine.EchoOptions, untilEOF bool) error {
	if _, _, err := net.SplitHostPort(opt.Addr); err != nil {
		return cli.Usagef(cmd, "--listen: %v", err)
	}
	e, err := engine.StartEcho(opt)
	if err != nil {
		return err
	}
	fmt.Fprintln(cmd.OutOrStdout(), e.Addr())
	eof := make(chan struct{})
	if untilEOF {
		go func() {
			_, _ = io.Copy(io.Discard, cmd.InOrStdin())
			close(eof)
		}()
	}
	select {
	case <-eof:
	case <-cmd.Context().Done():
	case <-e.Done():
		return e.Err()
	}
	return e.Close()
}

// newBenchCeilingCommand returns the command "bench ceiling".
func newBenchCeilingCommand() *cobra.Command {
	var b benchCeilings
	var e echo.Options
	o := ceiling.Options{}
	var rate float64
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "ceiling",
		Short: "Measure the machine without the servers: a bare echo, and the databases alone",
		Long: `Measure the ceilings of the servers' rates on this machine: the frames a second
that a bare echo sends back to the same connections, and the rows of messages a second that the
databases alone store, in batches and as durable as a server's. A scenario with --ceilings
measures them after its run, and reports the share of them that it reached.

With --rate the frames and rows are due on a schedule, and the command prints how long each
took and its processor time in each process: what a text costs before any server does
something. At some hundred a second most of that is what it takes to wake a process.

With MySQL the command creates and drops a database of its own, and uses keys of its own in
Redis. With the embedded store it uses a temporary folder beside the data. Existing data is not
touched.`,
		Example: `  teamtalk bench ceiling
  teamtalk bench ceiling --store mysql --redis.addrs 127.0.0.1:6379 \
    --mysql.master 'teamtalk:secret@tcp(127.0.0.1:3306)/teamtalk'
  teamtalk bench ceiling --config teamtalk.toml --size 1000
  teamtalk bench ceiling --rate 400 --ceiling-duration 10s`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadDatabases(cmd)
			if err != nil {
				return err
			}
			if rate < 0 || rate > ceiling.MaxRate {
				return cli.Usagef(cmd, "--rate: want 0 to %d, not %g", ceiling.MaxRate, rate)
			}
			o.Size, o.Duration = e.Size, b.duration
			o.Rate, e.Rate = rate, rate
			list := b.both(cmd, cfg, e, o)
			if err := printCeilingList(cmd.OutOrStdout(), list, asJSON); err != nil {
				return err
			}
			if slices.ContainsFunc(list, func(c bench.Ceiling) bool { return c.Error != "" }) {
				return errors.New("a ceiling could not be measured: see above")
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.IntVar(&e.Connections, "connections", 400, "connections to the echo")
	f.IntVar(&e.Window, "window", 16, "frames in flight on each connection")
	f.IntVar(&e.Size, "size", 64, "bytes of each text")
	f.IntVar(&o.Conversations, "conversations", 200, "conversations that the rows belong to")
	f.BoolVar(&o.Groups, "groups", false, "the rows are messages to groups")
	f.Float64Var(&rate, "rate", 0,
		"frames and rows a second, on a schedule (0: as many as possible)")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	b.shared(f)
	addDatabaseFlags(cmd)
	return cmd
}

// printCeilingList writes the ceilings as text or as JSON.
func printCeilingList(w io.Writer, list []bench.Ceiling, asJSON bool) error {
	if !asJSON {
		printCeilings(w, list)
		return nil
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(list)
}

// printCeilings writes a line for each ceiling.
func printCeilings(w io.Writer, list []bench.Ceiling) {
	for _, c := range list {
		how := ""
		if c.How != "" {
			how = " (" + c.How + ")"
		}
		if c.Error != "" {
			fmt.Fprintf(w, "%s: not measured: %s\n", c.Name, c.Error)
		} else {
			fmt.Fprintf(w, "%s: %.0f/s%s\n", c.Name, c.Rate, how)
		}
		if c.P50 > 0 {
			fmt.Fprintf(w, "  p50 %.2f ms, p99 %.2f ms\n", c.P50, c.P99)
		}
		for _, name := range slices.Sorted(maps.Keys(c.Each)) {
			fmt.Fprintf(w, "  %.0f µs each of %s\n", c.Each[name], name)
		}
	}
}
