package main

import (
	"errors"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"teamtalk/cmd/teamtalk/internal/chat"
	"teamtalk/cmd/teamtalk/internal/chat/jsonio"
	"teamtalk/cmd/teamtalk/internal/chat/plain"
	"teamtalk/cmd/teamtalk/internal/chat/terminal"
	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/core/im"
)

// chatFlags are the flags of the chat command.
type chatFlags struct {
	chat.Options
	peer    string
	tls     tlsFlags
	json    bool
	follow  bool
	noColor bool
	history int
	timeout time.Duration
}

// chatLong is the help text of the chat command.
const chatLong = `Chat as USER with PEER, a user or #GROUP, or with any conversation that you
open. /list, /contacts and /groups list them, and /help lists all commands.

The login server (--server) names the message server. After a lost connection the client
reconnects by itself, sends unacknowledged messages again, and shows missed ones. The password is
taken from --password, from ` + chat.EnvPassword + `, or asked for.

A new user registers with --register, if the server registers users, and is then logged in. A
server may require an invite code (--invite). Without a terminal the password must be given as
above.

Marks: … sending   ✓ stored by the server   ✗ failed    Presence: ● online   ○ offline

Files: /send FILE sends one, /get fetches one. The transfer of a file that the server keeps
continues after a lost connection, or after the next login.

Without a terminal each line of standard input is sent to PEER as a message, and each received
message is a line of standard output. Unread messages come first, and stay unread. The command
ends after the end of its input, when all messages are acknowledged. With --follow it continues.
` + jsonio.Help

// newChatCommand returns the command "chat".
func newChatCommand() *cobra.Command {
	var o chatFlags
	cmd := &cobra.Command{
		Use:   "chat USER [PEER]",
		Short: "Chat in this terminal, or from a script",
		Long:  chatLong,
		Example: `  teamtalk chat alice
  teamtalk chat alice bob --server http://chat.example.com:8080
  teamtalk chat carol --register --invite CODE
  echo "backup is done" | teamtalk chat robot bob
  teamtalk chat robot --json --follow < commands > events`,
		Args: cli.Between(1, 2, "a USER and perhaps a PEER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.User = args[0]
			if len(args) > 1 {
				o.peer = args[1]
			}
			return chatIn(cmd, o)
		},
	}
	o.add(cmd.Flags())
	return cmd
}

// add defines the flags.
func (o *chatFlags) add(f *pflag.FlagSet) {
	server := os.Getenv(chat.EnvServer)
	if server == "" {
		server = "http://127.0.0.1:8080"
	}
	f.StringVar(&o.Server, "server", server,
		"URL of the login server (environment: "+chat.EnvServer+")")
	f.StringVar(&o.MsgServer, "msg-server", "",
		"HOST:PORT of a message server, instead of asking the login server")
	f.StringVar(&o.Password, "password", "",
		"password; other users of this machine can see it (environment: "+chat.EnvPassword+")")
	f.BoolVar(&o.Register, "register", false, "register USER first, if the server registers users")
	f.StringVar(&o.Invite, "invite", "",
		"with --register: the invite code, if the server requires one")
	f.StringVar(&o.Nick, "nick", "", "with --register: the name shown to others (default USER)")
	f.StringVar(&o.API, "api", "",
		"URL of the HTTP API to register at (default: as the login server says)")
	f.StringVar(&o.TextKey, "text-key", "", "32-byte key of the texts "+
		"(default: the key of stock clients; environment: "+chat.EnvTextKey+")")
	o.tls.add(f)
	f.BoolVar(&o.Mobile, "mobile", false,
		"log in as a mobile client; one pc and one mobile client can be online together")
	f.BoolVar(&o.json, "json", false, "read commands and write events as lines of JSON")
	f.BoolVar(&o.follow, "follow", false, "continue after the end of the input")
	f.BoolVar(&o.noColor, "no-color", false, "write no colours (environment: NO_COLOR)")
	f.IntVar(&o.history, "history", 15, "messages shown when a conversation is opened")
	f.StringVar(&o.Downloads, "downloads", chat.DownloadFolder(),
		"folder for fetched files, made when missing")
	f.StringVar(&o.State, "state", chat.StateFolder(),
		"folder that remembers unfinished uploads; empty: they are not continued")
	f.DurationVar(&o.timeout, "timeout", time.Minute,
		"time for unacknowledged messages at the end of the input")
}

// chatIn runs the command with its flags.
func chatIn(cmd *cobra.Command, o chatFlags) error {
	if o.TextKey == "" {
		o.TextKey = os.Getenv(chat.EnvTextKey)
	}
	if _, err := im.NewTextCipher(o.TextKey); err != nil {
		return cli.Usagef(cmd, "--text-key: %v", err)
	}
	var err error
	if o.TLS, err = o.tls.config(o.Server); err != nil {
		return err
	}
	o.Unattended = o.json
	o.Progress = 250 * time.Millisecond
	if o.json {
		o.Progress = time.Second
	}
	if o.Given = cmd.Flags().Changed("password"); !o.Given {
		o.Password = os.Getenv(chat.EnvPassword)
		o.Given = o.Password != ""
	}
	var ask chat.Prompter // nil without a terminal
	if in := cmd.InOrStdin(); cli.IsTerminal(in) {
		ask = chat.NewPrompter(cmd.Context(), in.(*os.File), cmd.ErrOrStderr())
	}
	err = chat.Run(cmd.Context(), o.Options, newFrontend(cmd, o), ask)
	if errors.Is(err, chat.ErrNoPassword) {
		return &cli.UsageError{Cmd: cmd, Err: err}
	}
	return err
}

// newFrontend returns the frontend for the flags, standard input and standard output.
func newFrontend(cmd *cobra.Command, o chatFlags) chat.Frontend {
	in, out := cmd.InOrStdin(), cmd.OutOrStdout()
	switch {
	case o.json:
		return jsonio.New(in, out, jsonio.Options{
			Peer: o.peer, Follow: o.follow, History: o.history, Timeout: o.timeout,
		})
	case cli.IsTerminal(in) && cli.IsTerminal(out):
		return terminal.New(in.(*os.File), out.(*os.File), terminal.Options{
			Peer: o.peer, NoColor: o.noColor, History: o.history, Timeout: o.timeout,
		})
	default:
		return plain.New(in, out, cmd.ErrOrStderr(), plain.Options{
			Peer: o.peer, Follow: o.follow, Timeout: o.timeout,
		})
	}
}
