package benchcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"teamtalk/bench/faults"
	"teamtalk/bench/faults/deploy"
	"teamtalk/cmd/teamtalk/internal/cli"
)

// benchFaults are the flags of bench faults.
type benchFaults struct {
	faults.Options
	json     string
	markdown bool
	keep     bool
	verbose  bool
}

// faultsHelp is the help text of bench faults.
const faultsHelp = `Run a deployment of this program on this machine, let clients write to each
other, inject faults into it, and compare the records of all clients with all histories and with
the tables. The report has a row for each fault. The exit code is 1 when something was lost,
duplicated or reordered, or when a client waited longer than --max-beyond after the servers were
ready again.

The deployment "embedded" is one process. In "separate" each role is a process, with two message
servers, on a MariaDB and a Redis that the command starts. In "galera" two dbproxies write to two
of three Galera nodes. "cluster" has a Redis Cluster of three masters and three replicas,
"sentinel" a Redis master with two replicas and three Sentinels. In "replica" two dbproxies use a
MariaDB master with a read replica. In "registry" three message servers, three
dbproxies, two login servers and two file servers find each other in Redis, and in "mesh" these do
without a route server. --redis gives a deployment another Redis. All of them also have a file
server, an HTTP API, a push server and a small file server, with clients that use them: the report
has a second table for these.

The faults are:

  kill:ROLE   SIGKILL, and a new start after a moment
  down:ROLE   SIGKILL, and a new start after 5 to 10 s
  dying:mariadb
              two to four times SIGKILL in a row, slow connections in between
  stop:ROLE   SIGSTOP, and SIGCONT after up to 3 s
  term:ROLE   SIGTERM, and a new start
  cut:ROLE    reset all connections to the role
  slow:ROLE   delay all bytes to and from the role
  hang:ROLE   let no byte pass for up to 4 s, then reset the connections
  clock:ROLE  step the wall clock of a server by 200 s, 900 s or -2 h, and back
  skew:ROLE   let the wall clock of a server be 5 s behind for up to 6 s
  kill-all    SIGKILL of all servers at once
  rolling     SIGTERM and a new start of each server in turn
  failover    SIGKILL of a Redis master until a replica has replaced it (a Redis with replicas)
  reshard     move slots of the Redis Cluster, one with a pause half-way
  lag:replica stop the replica from applying changes for up to 6 s (replica)
  full:ROLE   leave no room on the disk of the store for up to 5 s (embedded, separate)

"kill" alone stands for all roles, and so on. "full" needs a user namespace, in which the command
mounts a small disk without root, and is injected only when it is named. The deployment is made in
a temporary folder (see TMPDIR), listens on loopback only, and is removed at the end.`

// newBenchFaultsCommand returns the command "bench faults".
func newBenchFaultsCommand() *cobra.Command {
	f := &benchFaults{}
	cmd := &cobra.Command{
		Use:   "faults",
		Short: "Kill, stop and cut the parts of a deployment, and check that no message is lost",
		Long:  faultsHelp,
		Example: `  teamtalk bench faults --deployment embedded --rounds 5
  teamtalk bench faults --faults kill:msg,kill:dbproxy --rounds 1000 --json kills.json
  teamtalk bench faults --faults kill --rounds 1000 --deployments 4 --rate 60
  teamtalk bench faults --deployment cluster --faults failover,reshard --max-beyond 0
  teamtalk bench faults --deployment mesh --redis sentinel --faults failover --max-beyond 0`,
		Args: cli.NoArgs,
		RunE: f.run,
	}
	flags := cmd.Flags()
	flags.StringVar(&f.Deployment, "deployment", deploy.Separate,
		"deployment: "+strings.Join(deploy.Kinds, ", "))
	flags.StringVar(&f.Redis, "redis", "", "Redis of the deployment: "+
		strings.Join(deploy.RedisKinds, ", ")+" (default: cluster and sentinel in the deployments "+
		"of that name, otherwise single)")
	flags.StringSliceVar(&f.Faults, "faults", nil, "faults to inject (default: all but full)")
	flags.IntVar(&f.Rounds, "rounds", 10, "times that each fault is injected")
	flags.DurationVar(&f.Duration, "duration", 0,
		"end the row of a fault after this time, also before its last round (0: never)")
	flags.Float64Var(&f.Rate, "rate", 100, "texts per second, of all clients together")
	flags.IntVar(&f.Teams, "teams", 1, "teams of six clients")
	flags.Uint64Var(&f.Seed, "seed", 0, "number that selects targets and times (0: a random one)")
	flags.DurationVar(&f.Settle, "settle", time.Minute,
		"longest wait for acks and deliveries after a fault")
	flags.BoolVar(&f.Repeats, "repeats", true, "count a text without client_msg_id that is "+
		"stored twice as a failure")
	flags.IntVar(&f.Deployments, "deployments", 1, "deployments to run at once, each with a "+
		"part of the rounds")
	flags.DurationVar(&f.MaxBeyond, "max-beyond", time.Second, "longest wait of a client after "+
		"all servers are ready again that is no failure (0: any, for a machine with other load)")
	flags.StringArrayVar(&f.Flags, "serve-flag", nil,
		"flag of all servers, such as --serve-flag=--log.level=debug; repeat the flag for more")
	flags.StringVar(&f.json, "json", "", "write the result to a file as JSON (\"-\": to standard "+
		"output)")
	flags.BoolVar(&f.markdown, "markdown", false, "write tables in Markdown")
	flags.BoolVar(&f.keep, "keep", false, "keep logs and data when the result is not clean")
	flags.BoolVar(&f.verbose, "verbose", false, "print each round")
	return cmd
}

// check checks the flags.
func (f *benchFaults) check(cmd *cobra.Command) error {
	switch {
	case f.Rounds < 1:
		return cli.Usagef(cmd, "--rounds: want 1 or more, got %d", f.Rounds)
	case f.Teams < 1 || f.Teams > 100:
		return cli.Usagef(cmd, "--teams: want 1 to 100, got %d", f.Teams)
	case !(f.Rate > 0 && f.Rate <= 100_000):
		return cli.Usagef(cmd, "--rate: want more than 0 and at most 100000, got %v", f.Rate)
	case f.Settle < time.Second:
		return cli.Usagef(cmd, "--settle: want 1s or more, got %v", f.Settle)
	case f.Duration < 0:
		return cli.Usagef(cmd, "--duration: want 0 or more, got %v", f.Duration)
	case f.MaxBeyond < 0:
		return cli.Usagef(cmd, "--max-beyond: want 0 or more, got %v", f.MaxBeyond)
	case f.Deployments < 1 || f.Deployments > min(100, f.Rounds):
		return cli.Usagef(cmd, "--deployments: want 1 to %d (not more than --rounds), got %d",
			min(100, f.Rounds), f.Deployments)
	}
	return nil
}

// run runs the deployment in a temporary folder and writes the result.
func (f *benchFaults) run(cmd *cobra.Command, _ []string) (err error) {
	if err := f.check(cmd); err != nil {
		return err
	}
	if f.Binary, err = os.Executable(); err != nil {
		return err
	}
	if faults.NeedsDisk(f.Faults) && os.Getenv(withDisks) == "" {
		return f.withDisks(cmd)
	}
	if f.Dir, err = os.MkdirTemp("", "teamtalk-faults-"); err != nil {
		return err
	}
	clean := false
	defer func() {
		if f.keep && !clean {
			fmt.Fprintf(cmd.ErrOrStderr(), "logs and data: %s\n", f.Dir)
			return
		}
		err = errors.Join(err, os.RemoveAll(f.Dir))
	}()
	for f.Seed == 0 {
		f.Seed = rand.Uint64N(1_000_000)
	}
	f.OpenTables, f.Progress = openTables, cmd.ErrOrStderr()
	f.Log = slog.New(slog.DiscardHandler)
	if f.verbose {
		f.Log = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
	}
	fmt.Fprintf(f.Progress, "seed %d, data in %s\n", f.Seed, f.Dir)
	res, err := faults.Run(cmd.Context(), f.Options)
	if res != nil {
		res.Build = cli.Build(cmd)
		clean = err == nil && res.Clean()
		err = errors.Join(err, f.write(cmd.OutOrStdout(), res))
	}
	if err == nil && !clean {
		err = errNotClean
	}
	return err
}

// withDisks is the variable that tells a process of this command that it runs in
// deploy.RunWithDisks.
const withDisks = "TEAMTALK_BENCH_WITH_DISKS"

// withDisks runs the command again in a process that may mount small disks.
func (f *benchFaults) withDisks(cmd *cobra.Command) error {
	again := exec.Command(f.Binary, os.Args[1:]...)
	again.Env = append(os.Environ(), withDisks+"=1")
	again.Stdout, again.Stderr = cmd.OutOrStdout(), cmd.ErrOrStderr()
	err := deploy.RunWithDisks(cmd.Context(), again)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		return errNotClean // the process has said so, or what went wrong
	}
	return err
}

// write writes the result.
func (f *benchFaults) write(out io.Writer, res *faults.Result) error {
	switch f.json {
	case "-":
		return res.JSON(out)
	case "":
	default:
		file, err := os.Create(f.json)
		if err != nil {
			return err
		}
		if err := errors.Join(res.JSON(file), file.Close()); err != nil {
			return err
		}
	}
	if f.markdown {
		return res.Markdown(out)
	}
	return res.Text(out)
}

// openTables opens the tables of a deployment.
func openTables(ctx context.Context, dsn, dataDir string) (faults.Tables, error) {
	if dsn != "" {
		return openMySQL(ctx, dsn)
	}
	return openEmbedded(ctx, filepath.Join(dataDir, embeddedFile))
}
