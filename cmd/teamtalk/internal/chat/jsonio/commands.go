package jsonio

import (
	"context"
	"errors"

	"teamtalk/core/client"
)

// command executes a command.
type command = func(f *Frontend, ctx context.Context, cmd Command) error

// commands returns the commands by name, without quit. The empty name sends a text.
func commands() map[string]command {
	return map[string]command{
		"":               (*Frontend).send,
		"contacts":       (*Frontend).contacts,
		"unread":         (*Frontend).sayUnread,
		"history":        (*Frontend).history,
		"read":           (*Frontend).read,
		"list":           (*Frontend).list,
		"groups":         (*Frontend).groups,
		"departs":        (*Frontend).departs,
		"status":         (*Frontend).status,
		"voice":          (*Frontend).voice,
		"typing":         (*Frontend).typing,
		"create_group":   (*Frontend).createGroup,
		"add_members":    (*Frontend).changeGroup,
		"remove_members": (*Frontend).changeGroup,
		"leave_group":    (*Frontend).changeGroup,
		"mute":           (*Frontend).mute,
		"unmute":         (*Frontend).mute,
		"files":          (*Frontend).listFiles,
		"send_file":      (*Frontend).fileCommand,
		"get_file":       (*Frontend).fileCommand,
		"refuse_file":    (*Frontend).fileCommand,
		"cancel_file":    (*Frontend).fileCommand,
		"remove_session": (*Frontend).removeSession,
		"push_shield":    (*Frontend).pushShield,
		"sign":           (*Frontend).sign,
		"avatar":         (*Frontend).avatar,
		"kick_pc":        (*Frontend).kickPC,
	}
}

// sayUnread writes the conversations with unread messages.
func (f *Frontend) sayUnread(context.Context, Command) error {
	f.say(Event{Event: "unread", Unread: f.unread()})
	return nil
}

// sign changes the user's sign info.
func (f *Frontend) sign(ctx context.Context, cmd Command) error {
	return f.done(cmd, Event{}, client.SetSignInfo(ctx, f.s.Client, cmd.Text))
}

// avatar changes the user's picture.
func (f *Frontend) avatar(ctx context.Context, cmd Command) error {
	return f.done(cmd, Event{}, client.SetAvatar(ctx, f.s.Client, cmd.Text))
}

// kickPC ends the session of the user's pc client.
func (f *Frontend) kickPC(ctx context.Context, cmd Command) error {
	if !f.s.Mobile() {
		return errors.New("only a mobile client may do that: --mobile")
	}
	return f.done(cmd, Event{}, client.KickPC(ctx, f.s.Client))
}
