package benchcmd

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"teamtalk/bench"
	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/cmd/teamtalk/internal/system"
	"teamtalk/core/config"
	"teamtalk/core/engine"
	"teamtalk/sql/ceiling"
)

// benchCeilings has a run measure what this machine can do without the servers, once the run is over.
type benchCeilings struct {
	on       bool
	echo     string
	duration time.Duration
}

func (b *benchCeilings) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&b.on, "ceilings", false, "then measure what this machine does without the servers: a bare echo of the same frames, and the databases alone with the same rows")
	b.shared(f)
	addDatabaseFlags(cmd)
}

// shared are the flags that "bench ceiling" has too.
func (b *benchCeilings) shared(f *pflag.FlagSet) {
	f.StringVar(&b.echo, "echo", "", "address of a \"teamtalk bench echo\", on the servers' machine (default: one is started on this one)")
	f.DurationVar(&b.duration, "ceiling-duration", 3*time.Second, "how long each ceiling is measured")
}

// measure adds the ceilings to a result. What cannot be measured says so in its place.
func (b *benchCeilings) measure(cmd *cobra.Command, s *bench.Scenario, res *bench.Result) error {
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
	for _, c := range b.both(cmd, cfg, bench.EchoOf(s), ceiling.Options{Size: int(s.Size), Duration: b.duration, Conversations: conversations, Groups: s.ToGroups()}) {
		c.Of = map[string]string{echoCeiling: echoOf}[c.Name]
		if c.Of == "" {
			c.Of = storedOf
		}
		c.Bound(res)
		res.Ceilings = append(res.Ceilings, c)
	}
	return nil
}

// check says early what measure would say after the run.
func (b *benchCeilings) check(cmd *cobra.Command, s *bench.Scenario) error {
	if !b.on {
		return nil
	}
	if _, _, ok := s.Ceilings(); !ok {
		return cli.Usagef(cmd, "--ceilings goes with scenarios of texts, not with %s", s.Kind)
	}
	_, err := loadDatabases(cmd)
	return err
}

// echoCeiling is the name of the first ceiling.
const echoCeiling = "echo of the same frames"

// maxConversations bounds those of the rows: more make no difference.
const maxConversations = 10_000

// both measures the echo and the databases.
func (b *benchCeilings) both(cmd *cobra.Command, cfg *config.Config, e bench.EchoOptions, o ceiling.Options) []bench.Ceiling {
	ctx, errOut := cmd.Context(), cmd.ErrOrStderr()
	fmt.Fprintf(errOut, "ceiling: a bare echo, %v\n", b.duration)
	echo := bench.Ceiling{Name: echoCeiling}
	e.Duration, e.Addr = b.duration, b.echo
	var err error
	if echo.Rate, err = measureEcho(ctx, e); err != nil {
		echo.Error = err.Error()
	}
	fmt.Fprintf(errOut, "ceiling: the database alone, %v and a search\n", b.duration)
	o.Conversations = min(o.Conversations, maxConversations)
	stored := bench.Ceiling{Name: "the same rows stored"}
	r, err := measureStore(ctx, cfg, o)
	if err != nil {
		stored.Error = err.Error()
	} else {
		stored.Rate = r.Rate
		stored.How = fmt.Sprintf("%s; %d × %d rows", r.Database, r.Workers, r.Batch)
	}
	return []bench.Ceiling{echo, stored}
}

// measureStore measures the database that the settings name.
func measureStore(ctx context.Context, cfg *config.Config, o ceiling.Options) (ceiling.Result, error) {
	if cfg.Store == "mysql" {
		instances, err := system.RedisInstances(cfg.Redis)
		if err != nil {
			return ceiling.Result{}, err
		}
		return ceiling.MySQL(ctx, cfg.MySQL.Master.Reveal(), instances.Unread, o)
	}
	// On the disk of the data: in its folder, or where that would be made.
	dir := cfg.DataDir
	if _, err := os.Stat(dir); err != nil {
		dir = filepath.Dir(filepath.Clean(dir))
	}
	return ceiling.Embedded(ctx, dir, o)
}

// measureEcho measures the echo that o names, or one in a process of its own: in this one it would share the generator's scheduler, which no server does.
func measureEcho(ctx context.Context, o bench.EchoOptions) (rate float64, err error) {
	if o.Addr == "" {
		addr, stop, err := startEcho(ctx)
		if err != nil {
			return 0, err
		}
		defer stop()
		o.Addr = addr
	}
	return bench.Echo(ctx, o)
}

// startEcho starts this program as an echo. It ends with stop, or with this process, however that ends.
func startEcho(ctx context.Context) (addr string, stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return "", nil, fmt.Errorf("start an echo: %w", err)
	}
	child := exec.CommandContext(ctx, self, "bench", "echo", "--listen", "127.0.0.1:0", "--until-eof")
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
		_ = child.Wait() // it was told to end; how it did says nothing of the measurement
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		stop()
		return "", nil, fmt.Errorf("start an echo: %w: %s", err, strings.TrimSpace(complaint.String()))
	}
	return strings.TrimSpace(line), stop, nil
}

func newEchoCommand() *cobra.Command {
	var opt engine.EchoOptions
	var untilEOF bool
	cmd := &cobra.Command{
		Use:   "echo",
		Short: "Send every frame back: the other end of a ceiling measured from another machine",
		Long: `Send every frame back as it came, with the servers' event engine and nothing else, until interrupted.
The address is printed. Run it where the message servers run, in their place, and give its address to
--echo on the generator's machine. It is not for the open network.`,
		Example: `  teamtalk bench echo --listen :9999                     # on the servers' machine
  teamtalk bench ceiling --echo server:9999              # on the generator's`,
		Args: cli.CheckArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return runEcho(cmd, opt, untilEOF) },
	}
	f := cmd.Flags()
	f.StringVar(&opt.Addr, "listen", "127.0.0.1:9999", "address to listen on; port 0 takes a free one")
	f.IntVar(&opt.Loops, "loops", 0, "event loops (0: as many as cores)")
	f.BoolVar(&untilEOF, "until-eof", false, "end with standard input")
	f.Lookup("until-eof").Hidden = true
	return cmd
}

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

func newBenchCeilingCommand() *cobra.Command {
	var b benchCeilings
	var e bench.EchoOptions
	o := ceiling.Options{}
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "ceiling",
		Short: "What this machine does without the servers: a bare echo, and the databases alone",
		Long: `Measure what bounds the servers' rates on this machine: how many frames a bare echo sends back to the
same connections, and how many rows of messages the databases alone take, in batches, as durable as a
server's. A scenario with --ceilings does this after its run and says which part of it was reached.

With MySQL a database of its own is made on the server and dropped, and keys of its own in Redis; with
the embedded store a temporary folder beside the data. Nothing that is there is touched.`,
		Example: `  teamtalk bench ceiling
  teamtalk bench ceiling --store mysql --mysql.master 'teamtalk:secret@tcp(127.0.0.1:3306)/teamtalk' --redis.addrs 127.0.0.1:6379
  teamtalk bench ceiling --config teamtalk.toml --size 1000`,
		Args: cli.CheckArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadDatabases(cmd)
			if err != nil {
				return err
			}
			o.Size, o.Duration = e.Size, b.duration
			list := b.both(cmd, cfg, e, o)
			if err := printCeilingList(cmd.OutOrStdout(), list, asJSON); err != nil {
				return err
			}
			for _, c := range list {
				if c.Error != "" {
					return errors.New("not every ceiling could be measured")
				}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.IntVar(&e.Connections, "connections", 400, "connections to the echo")
	f.IntVar(&e.Window, "window", 16, "frames of a connection that are on their way")
	f.IntVar(&e.Size, "size", 64, "bytes of each text")
	f.IntVar(&o.Conversations, "conversations", 200, "conversations that the rows belong to")
	f.BoolVar(&o.Groups, "groups", false, "the rows are messages to groups")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	b.shared(f)
	addDatabaseFlags(cmd)
	return cmd
}

func printCeilingList(w io.Writer, list []bench.Ceiling, asJSON bool) error {
	if !asJSON {
		printCeilings(w, list)
		return nil
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(list)
}

// printCeilings is a line for every ceiling.
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
	}
}
