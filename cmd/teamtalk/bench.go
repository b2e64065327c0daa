package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"teamtalk/bench"
)

func newBenchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure message servers, these or others of the protocol",
		Long: `Measure message servers that speak this protocol, these or others. Every message is checked: acked,
delivered once and in order; what went wrong stands beside every rate, and makes the exit code 1.

The users must exist, and the server must not limit the rate of a connection:

  teamtalk user add --count 15000 --format u%05d --password pw
  teamtalk serve --msg.rate 0 --msg.ack stored`,
		Args: checkArgs(cobra.ArbitraryArgs),
		RunE: commandsOnly,
	}
	cmd.AddCommand(newBenchIdleCommand(), newBenchSingleCommand())
	return cmd
}

// report is what a measurement gives.
type report interface {
	Print(w io.Writer)
}

func printReport(cmd *cobra.Command, r report, asJSON bool) error {
	if !asJSON {
		r.Print(cmd.OutOrStdout())
		return nil
	}
	enc := json.NewEncoder(cmd.OutOrStdout())
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

func addTargetFlags(cmd *cobra.Command, t *bench.Target, asJSON *bool) {
	f := cmd.Flags()
	f.StringSliceVar(&t.Addrs, "addr", []string{"127.0.0.1:8000"}, "message servers; connections are spread over them")
	f.StringVar(&t.UserFormat, "format", "u%05d", "login name of user number 1, 2, …")
	f.StringVar(&t.Password, "password", "pw", "password of every user")
	f.IntVar(&t.Parallel, "parallel", 64, "logins under way at once")
	f.BoolVar(asJSON, "json", false, "print the result as JSON")
}

func newBenchIdleCommand() *cobra.Command {
	var opt bench.IdleOptions
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "idle",
		Short:   "Hold many logged-in connections, and say what one costs",
		Example: `  teamtalk bench idle --connections 15000 --pid $(pgrep -f 'teamtalk serve --roles msg')`,
		Args:    checkArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := bench.Idle(cmd.Context(), opt)
			if err != nil {
				return err
			}
			if err := printReport(cmd, r, asJSON); err != nil {
				return err
			}
			if r.StillOpen < r.Connections {
				return fmt.Errorf("%d of %d connections did not last", r.Connections-r.StillOpen, r.Connections)
			}
			return nil
		},
	}
	addTargetFlags(cmd, &opt.Target, &asJSON)
	f := cmd.Flags()
	f.IntVar(&opt.Connections, "connections", 1000, "how many, one for each user")
	f.IntVar(&opt.Pid, "pid", 0, "process of the message server, to read its memory")
	f.DurationVar(&opt.Settle, "settle", 5*time.Second, "pause between the last login and reading memory")
	f.DurationVar(&opt.Hold, "hold", 0, "how much longer to stay, with heartbeats")
	return cmd
}

func newBenchSingleCommand() *cobra.Command {
	var opt bench.SingleOptions
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "single",
		Short: "Pairs of users write texts: how fast are they acked and delivered",
		Long: `Pairs of users write texts, the first of each pair to the second.

With --rate the messages leave on a schedule, and latency counts from the scheduled time, so that a
server that stalls cannot hide it. Without it each pair has up to --window messages on their way.`,
		Example: `  teamtalk bench single --pairs 200
  teamtalk bench single --pairs 200 --rate 400 --duration 30s`,
		Args: checkArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := bench.Single(cmd.Context(), opt)
			if err != nil {
				return err
			}
			if err := printReport(cmd, r, asJSON); err != nil {
				return err
			}
			if r.Bad() {
				return errors.New("not everything arrived as it should; see the last line above")
			}
			return nil
		},
	}
	addTargetFlags(cmd, &opt.Target, &asJSON)
	f := cmd.Flags()
	f.IntVar(&opt.Pairs, "pairs", 200, "pairs of users")
	f.Float64Var(&opt.Rate, "rate", 0, "messages a second of all pairs together (0: as fast as --window allows)")
	f.IntVar(&opt.Window, "window", 16, "messages of a pair that may wait for their ack")
	f.IntVar(&opt.Size, "size", 64, "bytes of each text, at least 32")
	f.DurationVar(&opt.Warmup, "warmup", 2*time.Second, "time before counting")
	f.DurationVar(&opt.Duration, "duration", 10*time.Second, "time counted")
	return cmd
}
