package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/core/cert"
)

// The names of the files of the CA.
const (
	caFile    = "ca.pem"
	caKeyFile = "ca-key.pem"
)

// newCertCommand returns the command "cert".
func newCertCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cert",
		Short: "Make certificates for the servers of a deployment",
		Long: `Make certificates for the servers of a deployment. With certificates of one private
CA, servers that are separate processes recognise each other and encrypt their links: section
link_tls of the settings. Certificates for clients (section tls) come from a public CA instead.`,
		Example: `  teamtalk cert ca
  teamtalk cert server 10.0.0.11 msg1.internal`,
		Args:        cobra.ArbitraryArgs,
		RunE:        cli.CommandsOnly,
		Annotations: cli.HoldsCommands,
	}
	cmd.AddCommand(newCertCACommand(), newCertServerCommand())
	return cmd
}

// maxDays is the longest time for which a certificate is made: a century.
const maxDays = 36525

// daysOf returns the duration of a number of days.
func daysOf(cmd *cobra.Command, n int) (time.Duration, error) {
	if n < 1 || n > maxDays {
		return 0, cli.Usagef(cmd, "--days %d: want 1 to %d", n, maxDays)
	}
	return time.Duration(n) * 24 * time.Hour, nil
}

// write writes a pair into two new files. advice tells what to do when one exists.
func write(pair cert.Pair, file, key, advice string) error {
	err := pair.Write(file, key)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: %s", err, advice)
	}
	return err
}

// newCertCACommand returns the command "cert ca".
func newCertCACommand() *cobra.Command {
	var dir, name string
	var valid int
	cmd := &cobra.Command{
		Use:   "ca",
		Short: "Make the private CA of a deployment",
		Long: `Make the private CA of a deployment: ca.pem, which every server needs, and
ca-key.pem, which only "teamtalk cert server" needs. Keep the key off the servers: with it, anybody
can make a server that all others trust. Files that exist are not overwritten.`,
		Example: "  teamtalk cert ca --dir /root/teamtalk-ca",
		Args:    cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			period, err := daysOf(cmd, valid)
			if err != nil {
				return err
			}
			_, pair, err := cert.NewAuthority(name, period)
			if err != nil {
				return err
			}
			err = write(pair, filepath.Join(dir, caFile), filepath.Join(dir, caKeyFile),
				"the folder has a CA. Go on with teamtalk cert server; for another CA, whose "+
					"certificates those servers do not trust, name another folder with --dir")
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), `made the CA %s and its key %s
next, for each server:  teamtalk cert server %sADDRESS
`, filepath.Join(dir, caFile), filepath.Join(dir, caKeyFile), dirFlag(dir))
			return err
		},
	}
	cmd.Flags().StringVar(&dir, "dir", ".", "the folder of the files")
	cmd.Flags().StringVar(&name, "name", "TeamTalk servers", "the name in the certificate")
	cmd.Flags().IntVar(&valid, "days", 3650, "how long the certificate is valid")
	return cmd
}

// dirFlag returns the flag for a folder, as a part of a command line.
func dirFlag(dir string) string {
	if dir == "." {
		return ""
	}
	return fmt.Sprintf("--dir %s ", dir)
}

// hostName matches the names that a certificate of a server may have, beside IP addresses. They
// are the names of files as well.
var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?$`)

// number matches names whose last part is a number: a wrong IP address, and no host name.
var number = regexp.MustCompile(`(^|\.)[0-9]+$`)

// newCertServerCommand returns the command "cert server".
func newCertServerCommand() *cobra.Command {
	var dir string
	var valid int
	cmd := &cobra.Command{
		Use:   "server ADDRESS...",
		Short: "Make the certificate of a server",
		Long: `Make the certificate of a server, signed by the CA of "teamtalk cert ca". ADDRESS is
an IP address or a host name of the server; the first one names the files. One certificate may
serve all processes of a machine. Files that exist are not overwritten: to renew a certificate,
remove them first, and send the server SIGHUP afterwards.`,
		Example: `  teamtalk cert server 10.0.0.11
  teamtalk cert server msg1.internal 10.0.0.11 --days 90`,
		Args: cli.AtLeast(1, "the addresses of a server"),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, a := range args {
				if net.ParseIP(a) == nil && (!hostName.MatchString(a) || number.MatchString(a)) {
					return cli.Usagef(cmd, "%q is no IP address or host name", a)
				}
			}
			period, err := daysOf(cmd, valid)
			if err != nil {
				return err
			}
			return makeServerCert(cmd, dir, args, period)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", ".", "the folder of the CA and of the new files")
	cmd.Flags().IntVar(&valid, "days", 365,
		"how long the certificate is valid, at most as long as the CA")
	return cmd
}

// makeServerCert makes the certificate of a server, and says how to use it.
func makeServerCert(cmd *cobra.Command, dir string, names []string, valid time.Duration) error {
	ca, err := cert.LoadAuthority(filepath.Join(dir, caFile), filepath.Join(dir, caKeyFile))
	if err != nil {
		return fmt.Errorf("%w; teamtalk cert ca makes a CA", err)
	}
	pair, err := ca.Issue(names, valid)
	if err != nil {
		return err
	}
	base := strings.ReplaceAll(names[0], ":", "-") // of an IPv6 address
	file, key := base+".pem", base+"-key.pem"
	err = write(pair, filepath.Join(dir, file), filepath.Join(dir, key),
		"to renew a certificate remove it first, or name another folder with --dir")
	if err != nil {
		return err
	}
	// The lines are valid in a file of settings.
	_, err = fmt.Fprintf(cmd.OutOrStdout(), `# made the certificate %[1]s and its key %[2]s
# next, copy both and %[3]s to the server, and add to its settings:

[link_tls]
ca = "/etc/teamtalk/%[4]s"
certificate = "/etc/teamtalk/%[5]s"
key = "/etc/teamtalk/%[6]s"
`, filepath.Join(dir, file), filepath.Join(dir, key), filepath.Join(dir, caFile), caFile, file,
		key)
	return err
}
