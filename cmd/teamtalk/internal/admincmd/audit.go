package admincmd

import (
	"context"
	"fmt"
	"log/slog"
	"os/user"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"teamtalk/cmd/teamtalk/internal/open"
	"teamtalk/core/audit"
	"teamtalk/core/config"
)

// auditTimeout is the longest time that the end of a command waits for the audit log.
const auditTimeout = 10 * time.Second

// commandAudit records a command in the audit log, if the settings have one.
type commandAudit struct{ log *audit.Log }

// openAudit opens the audit log before the command does anything: an administrator that may
// not write to it changes nothing.
func openAudit(cmd *cobra.Command, cfg *config.Config) (commandAudit, error) {
	errs := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
	log, err := open.Audit(cfg, errs, nil)
	return commandAudit{log}, err
}

// end records the command with its outcome. It returns err, or the error of writing.
func (a commandAudit) end(cmd *cobra.Command, err error) error {
	return a.endWith(cmd, err, false, "")
}

// endWith is end with details of the outcome. done says that the command has done its work,
// although it returns an error for its exit code.
func (a commandAudit) endWith(cmd *cobra.Command, err error, done bool, detail string) error {
	e := audit.Event{Kind: audit.Command, By: "shell " + account(), What: commandText(cmd),
		Result: audit.OK, Detail: detail}
	if err != nil && !done {
		e.Result, e.Detail = audit.Failed, audit.Detail(err, err.Error())
	}
	a.log.Record(e)
	ctx, cancel := context.WithTimeout(context.Background(), auditTimeout)
	defer cancel()
	if closing := a.log.Close(ctx); err == nil {
		err = closing
	}
	return err
}

// account returns the name of the account that runs this process.
func account() string {
	u, err := user.Current()
	if err != nil {
		return "unknown"
	}
	return u.Username
}

// openFlags are the flags whose value says what a command is about, and is no secret.
var openFlags = map[string]bool{"network": true, "older-than": true, "only": true}

// commandText returns a command with its arguments and the names of its flags. The values of
// flags may be secret, and are left out except for openFlags.
func commandText(cmd *cobra.Command) string {
	_, text, _ := strings.Cut(cmd.CommandPath(), " ")
	for _, arg := range cmd.Flags().Args() {
		text += fmt.Sprintf(" %s", arg)
	}
	cmd.Flags().Visit(func(f *pflag.Flag) {
		text += " --" + f.Name
		if openFlags[f.Name] {
			text += " " + f.Value.String()
		}
	})
	return text
}
