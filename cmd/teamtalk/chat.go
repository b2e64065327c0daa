package main

import (
	"errors"
	"os"
	"time"

	"github.com/spf13/cobra"

	"teamtalk/cmd/teamtalk/internal/chat"
	"teamtalk/cmd/teamtalk/internal/chat/jsonio"
	"teamtalk/cmd/teamtalk/internal/chat/plain"
	"teamtalk/cmd/teamtalk/internal/chat/terminal"
	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/core/im"
)

// newChatCommand makes the command "chat".
func newChatCommand() *cobra.Command {
	var o chat.Options
	cmd := &cobra.Command{
		Use:   "chat USER [PEER]",
		Short: "Chat in this terminal, or from a script",
		Long: `Chat as USER, with PEER (a user, or #GROUP) or with whom you choose (/list, /who and /groups say who
there is, /help says the rest).

The message server is found through the login server (--server); after a lost connection the client
connects again by itself, sends what was not acknowledged, and shows what was missed.
The password is taken from --password, from ` + chat.EnvPassword + `, or asked for.

Somebody new registers with --register, where the server lets people do so, and is then logged in. A server
may want an invite code (--invite). With nobody to ask, the password must be given as above.

Marks: … sending   ✓ stored by the server   ✗ failed    Presence: ● online   ○ offline

Files: /send FILE sends one, /get fetches one. What the server keeps goes on where it stood after a broken
connection, or with the next login.

Without a terminal each line of standard input is a message to PEER, each line of standard output one
that came in. The command ends when its input has, once everything is acknowledged, unless --follow.
` + jsonio.Help,
		Example: `  teamtalk chat alice
  teamtalk chat alice bob --server http://chat.example.com:8080
  teamtalk chat carol --register --invite CODE
  echo "backup is done" | teamtalk chat robot bob
  teamtalk chat robot --json --follow < commands > events`,
		Args: cli.CheckArgs(cobra.RangeArgs(1, 2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.User = args[0]
			if len(args) > 1 {
				o.Peer = args[1]
			}
			return chatIn(cmd, o)
		},
	}
	server := os.Getenv(chat.EnvServer)
	if server == "" {
		server = "http://127.0.0.1:8080"
	}
	f := cmd.Flags()
	f.StringVar(&o.Server, "server", server, "URL of the login server (environment: "+chat.EnvServer+")")
	f.StringVar(&o.MsgServer, "msg-server", "", "HOST:PORT of a message server; no login server is asked then")
	f.StringVar(&o.Password, "password", "", "password; other users of this machine can see it (environment: "+chat.EnvPassword+")")
	f.BoolVar(&o.Register, "register", false, "USER is new: register first, where the server lets people do so")
	f.StringVar(&o.Invite, "invite", "", "with --register: the invite code, where one is needed")
	f.StringVar(&o.Nick, "nick", "", "with --register: the name shown to others, if not USER")
	f.StringVar(&o.Api, "api", "", "URL of the HTTP API to register at, if the login server does not say")
	f.StringVar(&o.TextKey, "text-key", "", "32-byte key of the texts, if not the usual one (environment: "+chat.EnvTextKey+")")
	f.BoolVar(&o.Mobile, "mobile", false, "log in as a mobile client: one pc and one mobile client may be online together")
	f.BoolVar(&o.Json, "json", false, "commands and events as JSON lines")
	f.BoolVar(&o.Follow, "follow", false, "go on after the end of the input")
	f.BoolVar(&o.NoColor, "no-color", false, "no colours (environment: NO_COLOR)")
	f.IntVar(&o.History, "history", 15, "messages shown when a conversation is opened")
	f.StringVar(&o.Downloads, "downloads", chat.DownloadFolder(), "folder for files that are fetched; made if it is not there")
	f.StringVar(&o.State, "state", chat.StateFolder(), "folder where uploads that broke off are remembered; empty: they are not")
	f.DurationVar(&o.Timeout, "timeout", time.Minute, "for what is unacknowledged at the end of the input")
	return cmd
}

// chatIn runs the command with its flags.
func chatIn(cmd *cobra.Command, o chat.Options) error {
	if o.TextKey == "" {
		o.TextKey = os.Getenv(chat.EnvTextKey)
	}
	if _, err := im.NewTextCipher(o.TextKey); err != nil {
		return cli.Usagef(cmd, "--text-key: %v", err)
	}
	o.Progress = 250 * time.Millisecond
	if o.Json {
		o.Progress = time.Second
	}
	if o.Given = cmd.Flags().Changed("password"); !o.Given {
		o.Password = os.Getenv(chat.EnvPassword)
		o.Given = o.Password != ""
	}
	var ask *chat.Asker // nil: there is no person to ask
	if in := cmd.InOrStdin(); cli.IsTerminal(in) {
		ask = chat.NewAsker(cmd.Context(), in.(*os.File), cmd.ErrOrStderr())
	}
	err := chat.Run(cmd.Context(), o, newFrontend(cmd, o), ask)
	if errors.Is(err, chat.ErrNoPassword) {
		return &cli.UsageError{Cmd: cmd, Err: err}
	}
	return err
}

// newFrontend chooses by what standard input and output are.
func newFrontend(cmd *cobra.Command, o chat.Options) chat.Frontend {
	in, out := cmd.InOrStdin(), cmd.OutOrStdout()
	switch {
	case o.Json:
		return jsonio.New(in, out)
	case cli.IsTerminal(in) && cli.IsTerminal(out):
		return terminal.New(in.(*os.File), out.(*os.File), o)
	default:
		return plain.New(in, out, cmd.ErrOrStderr())
	}
}
