package admincmd

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"teamtalk/cmd/teamtalk/internal/admin"
	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/core/config"
	"teamtalk/core/im"
	"teamtalk/handlers/adminapi"
)

// apiFlags are the flags of commands that call the admin API. These are about connections, which
// the store does not know.
type apiFlags struct{ url, token string }

// add defines the flags.
func (f *apiFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.url, "api", "", "URL of the admin API (default: that of "+
		"admin_api.listen on this machine)")
	cmd.Flags().StringVar(&f.token, "token-file", "", "file with the token that teamtalk token "+
		"add has printed; - is standard input")
}

// apiTimeout bounds a call of the admin API.
const apiTimeout = 30 * time.Second

// call makes a call, and decodes its answer into out.
func (f *apiFlags) call(cmd *cobra.Command, method, path string, out any) error {
	base, err := f.base(cmd)
	if err != nil {
		return err
	}
	token, err := f.readToken(cmd)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), apiTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(base, "/")+path, nil)
	if err != nil {
		return cli.Usagef(cmd, "--api %q is no URL", base)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	rsp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("call the admin API: %w", err)
	}
	defer rsp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(rsp.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("call the admin API: %w", err)
	}
	var failed struct {
		Error struct{ Message string }
	}
	if rsp.StatusCode != http.StatusOK {
		if json.Unmarshal(body, &failed) != nil || failed.Error.Message == "" {
			return fmt.Errorf("%s answers with status %d: is it the admin API?", base,
				rsp.StatusCode)
		}
		return errors.New(failed.Error.Message)
	}
	return json.Unmarshal(body, out)
}

// base returns the URL of the API.
func (f *apiFlags) base(cmd *cobra.Command) (string, error) {
	if f.url != "" {
		return f.url, nil
	}
	cfg, err := cli.LoadConfig(cmd)
	if err != nil {
		return "", err
	}
	host, port, err := net.SplitHostPort(config.Addr(cfg.AdminAPI.Listen))
	if err != nil {
		return "", cli.Usagef(cmd, "want --api, or the settings of a server with admin_api.listen")
	}
	scheme := "http://"
	if cfg.TLS.Certificate != "" || len(cfg.TLS.ACME.Domains) > 0 {
		scheme = "https://"
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return scheme + net.JoinHostPort(host, port), nil
}

// readToken reads the token.
func (f *apiFlags) readToken(cmd *cobra.Command) (string, error) {
	if f.token == "" {
		return "", cli.Usagef(cmd, "want --token-file")
	}
	in := cmd.InOrStdin()
	if f.token != "-" {
		file, err := os.Open(f.token)
		if err != nil {
			return "", err
		}
		defer file.Close()
		in = file
	}
	data, err := io.ReadAll(io.LimitReader(in, 4096))
	return string(bytes.TrimSpace(data)), err
}

// newUserKickCommand returns the command "user kick".
func newUserKickCommand() *cobra.Command {
	var api apiFlags
	cmd := &cobra.Command{
		Use:   "kick NAME",
		Short: "End the connections of a user",
		Long: `End the connections of a user, over the admin API of a running server. The clients
show that the user has logged in elsewhere: they know no reason that fits. Most stay logged out
until the user logs in. To keep the user out: teamtalk user disable.`,
		Example: "  teamtalk user kick alice --token-file token --config teamtalk.toml",
		Args:    cli.OneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			err := api.call(cmd, http.MethodPost, "/v1/users/"+url.PathEscape(args[0])+"/kick",
				&adminapi.None{})
			if err == nil {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "the connections of %s end\n",
					cli.Printable(args[0]))
			}
			return err
		},
	}
	api.add(cmd)
	return cmd
}

// newUserOnlineCommand returns the command "user online".
func newUserOnlineCommand() *cobra.Command {
	var api apiFlags
	cmd := &cobra.Command{
		Use:   "online NAME ...",
		Short: "Tell which users are online, and where",
		Long: `Tell which users are online, over the admin API of a running server. In a cluster
without route servers the list also has their devices: NODE:CLIENT.`,
		Example: "  teamtalk user online alice bob --token-file token --config teamtalk.toml",
		Args:    cli.AtLeast(1, "one NAME or more"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withStore(cmd, true, func(ctx context.Context, _ *config.Config,
				s im.Store) error {
				users, err := admin.FindMembers(ctx, s, args, false)
				if err != nil {
					return err
				}
				ids := strings.Trim(strings.Join(strings.Fields(fmt.Sprint(admin.UserIDs(users))),
					","), "[]")
				var online adminapi.OnlineUsers
				if err := api.call(cmd, http.MethodGet, "/v1/online?users="+ids,
					&online); err != nil {
					return err
				}
				return showOnline(cmd.OutOrStdout(), users, online.Users)
			})
		},
	}
	api.add(cmd)
	return cmd
}

// showOnline writes which users are online.
func showOnline(out io.Writer, users []im.User, online []adminapi.OnlineUser) error {
	rows := [][]string{{"ID", "NAME", "STATE", "DEVICES"}}
	for _, u := range users {
		state, devices := "offline", []string{}
		i := slices.IndexFunc(online, func(o adminapi.OnlineUser) bool { return o.ID == u.ID })
		if i >= 0 && online[i].Online {
			state = "online"
			for _, d := range online[i].Devices {
				devices = append(devices, d.Node+":"+d.Client)
			}
		}
		rows = append(rows, []string{fmt.Sprint(u.ID), u.Name, state,
			cmp.Or(strings.Join(devices, " "), "-")})
	}
	return cli.WriteTable(out, rows)
}
