package im

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"teamtalk/core/kdf"
	"teamtalk/proto/pb"
)

// The checks of this file hold values against the columns of the MySQL schema. Every
// store applies them, so that its rows can move to MySQL.

// The longest texts of an account and of a sound, in characters.
const (
	MaxName      = 32          // also domain and nick
	MaxPassword  = kdf.MaxForm // as stored
	MaxSalt      = 4
	MaxPhone     = 11
	MaxEmail     = 64
	MaxAvatar    = 255
	MaxSignInfo  = 128
	MaxAudioPath = 255
)

// maxTiny is the largest value of a column of one byte.
const maxTiny = 255

// CheckText returns an error with kind Invalid when text is not UTF-8, or has more than
// limit characters. The error calls the text by the name in what.
func CheckText(what, text string, limit int) error {
	if !utf8.ValidString(text) {
		return Errorf(Invalid, "%s is not UTF-8", what)
	}
	if n := utf8.RuneCountInString(text); n > limit {
		return Errorf(Invalid, "%s is %d characters long; %d fit", what, n, limit)
	}
	return nil
}

// CheckTyped is CheckText for a text that a person typed. It also rejects texts that can
// only be a mistake: with a control character, or with a blank at the beginning or end.
func CheckTyped(what, text string, limit int) error {
	switch {
	case !utf8.ValidString(text): // CheckText returns the error
	case strings.ContainsFunc(text, unicode.IsControl):
		return Errorf(Invalid, "%s contains a control character", what)
	case text != strings.TrimSpace(text):
		return Errorf(Invalid, "%s begins or ends with a blank", what)
	}
	return CheckText(what, text, limit)
}

// CheckAccount returns the reason why a cannot be stored, with kind Invalid: a text that
// is too long or not UTF-8, a name that is empty or blank, or a gender or status out of
// range.
func CheckAccount(a *Account) error {
	for _, f := range []struct {
		name, text string
		limit      int
	}{
		{"name", a.Name, MaxName}, {"domain", a.Domain, MaxName}, {"nick", a.Nick, MaxName},
		{"phone", a.Phone, MaxPhone}, {"email", a.Email, MaxEmail},
	} {
		if err := CheckText(f.name, f.text, f.limit); err != nil {
			return err
		}
	}
	if strings.TrimRight(a.Name, " ") == "" { // databases ignore blanks at the end of a name
		return Errorf(Invalid, "a user needs a name")
	}
	if a.Gender > maxTiny {
		return Errorf(Invalid, "gender %d is out of range", a.Gender)
	}
	if err := CheckPassword(a.Password, a.Salt); err != nil {
		return err
	}
	if err := CheckAvatar(a.Avatar); err != nil {
		return err
	}
	if err := CheckSignInfo(a.SignInfo); err != nil {
		return err
	}
	return CheckUserStatus(a.Status)
}

// CheckPassword returns the reason why a password and its salt cannot be stored, with
// kind Invalid.
func CheckPassword(password, salt string) error {
	if err := CheckText("password", password, MaxPassword); err != nil {
		return err
	}
	return CheckText("salt", salt, MaxSalt)
}

// CheckAvatar returns the reason why the avatar of a user cannot be stored, with kind
// Invalid.
func CheckAvatar(url string) error { return CheckText("avatar", url, MaxAvatar) }

// CheckSignInfo returns the reason why the signature text of a user cannot be stored,
// with kind Invalid.
func CheckSignInfo(text string) error { return CheckText("sign info", text, MaxSignInfo) }

// CheckUserStatus returns the reason why a status cannot be stored, with kind Invalid.
func CheckUserStatus(s UserStatus) error {
	if s > maxTiny {
		return Errorf(Invalid, "user status %d is out of range", s)
	}
	return nil
}

// CheckMessage returns the reason why m cannot be stored whatever the store holds, with
// kind Invalid; see MessageStore.AppendMessages.
func CheckMessage(m *Message) error {
	switch m.Type {
	case pb.MsgType_MSG_TYPE_SINGLE_TEXT, pb.MsgType_MSG_TYPE_GROUP_TEXT:
		switch {
		case len(m.Data) > MaxContent:
			return Errorf(Invalid, "message of %d bytes is longer than %d", len(m.Data), MaxContent)
		case !utf8.Valid(m.Data):
			return Errorf(Invalid, "message is not UTF-8")
		}
	case pb.MsgType_MSG_TYPE_SINGLE_AUDIO, pb.MsgType_MSG_TYPE_GROUP_AUDIO:
		if m.Audio == nil {
			return Errorf(Invalid, "audio message without audio")
		}
		if err := CheckText("path of audio", m.Audio.Path, MaxAudioPath); err != nil {
			return err
		}
	default:
		return Errorf(Invalid, "message of unknown type %d", m.Type)
	}
	switch {
	case m.From == 0 || m.To == 0:
		return Errorf(Invalid, "message without a sender or recipient")
	case m.From == m.To && !m.Type.IsGroup():
		return Errorf(Invalid, "message from user %d to itself", m.From)
	case len(m.ClientID) > MaxClientID:
		return Errorf(Invalid, "client_msg_id of %d bytes is longer than %d",
			len(m.ClientID), MaxClientID)
	}
	return nil
}

// CheckGroup returns the reason why g cannot be created whatever its members are, with
// kind Invalid.
func CheckGroup(g *Group) error {
	if g.Type != pb.GroupType_GROUP_TYPE_NORMAL && g.Type != pb.GroupType_GROUP_TYPE_TMP {
		return Errorf(Invalid, "unknown group type %d", g.Type)
	}
	if err := CheckGroupName(g.Name); err != nil {
		return err
	}
	return CheckText("avatar of a group", g.Avatar, MaxGroupName)
}

// CheckGroupName returns the reason why a group cannot have this name, with kind Invalid: it is
// empty, too long, not UTF-8, or has only characters that show nothing.
func CheckGroupName(name string) error {
	if name == "" {
		return Errorf(Invalid, "a group needs a name")
	}
	if err := CheckText("name of a group", name, MaxGroupName); err != nil {
		return err
	}
	if !strings.ContainsFunc(name, visible) {
		return Errorf(Invalid, "the name %+q of a group has no visible character", name)
	}
	return nil
}

// brailleBlank is a symbol for Unicode, and has no dots.
const brailleBlank = '\u2800'

// visible reports whether a character leaves a mark where it stands alone. Some letters do not,
// such as the fillers of Hangul, and an accent needs a letter.
func visible(r rune) bool {
	return unicode.In(r, unicode.L, unicode.N, unicode.P, unicode.S) && r != brailleBlank &&
		!unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r)
}

// CheckGroupSize returns the reason why a group cannot have n members, with kind Invalid.
func CheckGroupSize(n int) error {
	if n > MaxGroupMembers {
		return Errorf(Invalid, "a group of %d members is larger than %d", n, MaxGroupMembers)
	}
	return nil
}
