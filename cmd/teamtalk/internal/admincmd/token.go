package admincmd

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/core/im"
	"teamtalk/handlers/adminapi/tokens"
)

// NewToken returns the command "token".
func NewToken() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Make and remove tokens of the admin API",
		Long: `Make and remove tokens of the admin API. They are in the file of the setting
admin_api.tokens, or of --file. Servers that run notice a change at once. The file holds a hash of
each token, so a token that is lost cannot be shown again: make another.

The admin API runs when admin_api.listen is set. GET /openapi.json on its port describes the
calls.`,
		Example: `  teamtalk token add ops --config teamtalk.toml
  teamtalk token add monitor --role read-only --file /etc/teamtalk/tokens
  curl -H "Authorization: Bearer $TOKEN" http://127.0.0.1:9091/v1/users`,
		Args:        cobra.ArbitraryArgs,
		RunE:        cli.CommandsOnly,
		Annotations: cli.HoldsCommands,
	}
	cli.AddConfigFlags(cmd, "admin_api.tokens")
	cmd.AddCommand(newTokenAddCommand(), newTokenListCommand(), newTokenRemoveCommand())
	return cmd
}

// tokenFile is the flag that names the file of tokens.
type tokenFile struct{ path string }

// add defines the flag.
func (f *tokenFile) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.path, "file", "", "the file, instead of that of admin_api.tokens")
}

// change calls do with the path of the file, and records the command in the audit log.
func (f *tokenFile) change(cmd *cobra.Command, do func(path string) error) (err error) {
	cfg, err := cli.LoadConfig(cmd)
	if err != nil {
		return err
	}
	path := f.path
	if path == "" {
		path = cfg.AdminAPI.Tokens
	}
	if path == "" {
		return cli.Usagef(cmd, "want --file, or the setting admin_api.tokens")
	}
	log, err := openAudit(cmd, cfg)
	if err != nil {
		return err
	}
	defer func() { err = log.end(cmd, err) }()
	return do(path)
}

// newTokenAddCommand returns the command "token add".
func newTokenAddCommand() *cobra.Command {
	var file tokenFile
	var role string
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Make a token, and print it",
		Long: `Make a token, and print it. The name is for the audit log, and for removing it.
With the role read-only the token may change nothing, and read no messages.`,
		Example: "  teamtalk token add monitor --role read-only --config teamtalk.toml",
		Args:    cli.OneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			t, secret, err := tokens.Make(args[0], tokens.Role(role))
			if err != nil {
				return &cli.UsageError{Cmd: cmd, Err: err}
			}
			return file.change(cmd, func(path string) error {
				err := tokens.Change(path, func(list []tokens.Token) ([]tokens.Token, error) {
					if tokens.Has(list, t.Name) {
						return nil, im.Errorf(im.Exists, "%s has a token %s: remove it first",
							path, t.Name)
					}
					return append(list, t), nil
				})
				if err != nil {
					return err
				}
				_, err = fmt.Fprintln(cmd.OutOrStdout(), secret)
				return err
			})
		},
	}
	file.add(cmd)
	cmd.Flags().StringVar(&role, "role", string(tokens.Admin), "admin or read-only")
	return cmd
}

// newTokenListCommand returns the command "token list".
func newTokenListCommand() *cobra.Command {
	var file tokenFile
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the names and roles of all tokens",
		Long:    "List the names and roles of all tokens.",
		Example: "  teamtalk token list --config teamtalk.toml",
		Args:    cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return file.change(cmd, func(path string) error {
				list, err := tokens.Read(path)
				if err != nil {
					return err
				}
				rows := [][]string{{"NAME", "ROLE"}}
				for _, t := range list {
					rows = append(rows, []string{t.Name, string(t.Role)})
				}
				return cli.WriteTable(cmd.OutOrStdout(), rows)
			})
		},
	}
	file.add(cmd)
	return cmd
}

// newTokenRemoveCommand returns the command "token remove".
func newTokenRemoveCommand() *cobra.Command {
	var file tokenFile
	cmd := &cobra.Command{
		Use:     "remove NAME",
		Short:   "Remove a token",
		Long:    "Remove a token. Calls with it are refused at once.",
		Example: "  teamtalk token remove monitor --config teamtalk.toml",
		Args:    cli.OneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			return file.change(cmd, func(path string) error {
				err := tokens.Change(path, func(list []tokens.Token) ([]tokens.Token, error) {
					if !tokens.Has(list, args[0]) {
						return nil, im.Errorf(im.NotFound, "%s has no token %s", path, args[0])
					}
					return slices.DeleteFunc(list, func(t tokens.Token) bool {
						return t.Name == args[0]
					}), nil
				})
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "removed the token %s\n", args[0])
				return err
			})
		},
	}
	file.add(cmd)
	return cmd
}
