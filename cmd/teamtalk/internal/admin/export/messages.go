package export

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// message is a line of messages.jsonl.
type message struct {
	With  uint32    `json:"with,omitempty"`  // the other user
	Group uint32    `json:"group,omitempty"` // or the group
	ID    uint32    `json:"id"`
	Time  time.Time `json:"time"`
	From  uint32    `json:"from"`
	Kind  string    `json:"kind"` // text, or sound
	Text  *string   `json:"text,omitempty"`
	// Raw is the body of a text that the key does not decrypt.
	Raw      string   `json:"raw,omitempty"`
	Seconds  uint32   `json:"seconds,omitempty"` // of a sound
	Files    []string `json:"files,omitempty"`
	NotFound int      `json:"missing_files,omitempty"`
}

// eachPeer calls do with the users that the user has conversations with.
func (e *exporter) eachPeer(do func(peers []uint32) error) error {
	for after := uint32(0); ; {
		peers, err := e.Store.PeersOf(e.ctx, e.User.ID, after, page)
		if err != nil || len(peers) == 0 {
			return err
		}
		if err := do(peers); err != nil {
			return err
		}
		after = peers[len(peers)-1]
	}
}

// eachGroup calls do with the groups that the user is or was in.
func (e *exporter) eachGroup(do func(groups []uint32) error) error {
	for after, more := uint32(0), true; more; more = after > 0 {
		groups, last, err := e.Store.GroupsEver(e.ctx, e.User.ID, after)
		if err != nil {
			return err
		}
		if err := do(groups); err != nil {
			return err
		}
		after = last
	}
	return nil
}

// people writes the users that the user has conversations with.
func (e *exporter) people(enc *json.Encoder) error {
	return e.eachPeer(func(peers []uint32) error {
		users, err := e.Store.Users(e.ctx, peers)
		if err != nil {
			return err
		}
		slices.SortFunc(users, func(a, b im.User) int { return int(a.ID) - int(b.ID) })
		for _, u := range users {
			if e.OwnOnly {
				u = im.User{ID: u.ID}
			}
			if err := enc.Encode(struct {
				ID   uint32 `json:"id"`
				Name string `json:"name,omitempty"`
				Nick string `json:"nick,omitempty"`
			}{u.ID, u.Name, u.Nick}); err != nil {
				return err
			}
		}
		return nil
	})
}

// groups writes the groups that the user is or was in.
func (e *exporter) groups(enc *json.Encoder) error {
	return e.eachGroup(func(ids []uint32) error {
		list, err := e.Store.Groups(e.ctx, ids)
		if err != nil {
			return err
		}
		muted, err := e.Store.ShieldedGroups(e.ctx, e.User.ID, ids)
		if err != nil {
			return err
		}
		slices.SortFunc(list, func(a, b im.Group) int { return int(a.ID) - int(b.ID) })
		for _, g := range list {
			members := g.Members
			if e.OwnOnly {
				members = nil
			}
			kind := "temporary"
			if g.Type == pb.GroupType_GROUP_TYPE_NORMAL {
				kind = "normal"
			}
			if err := enc.Encode(struct {
				ID      uint32    `json:"id"`
				Name    string    `json:"name"`
				Kind    string    `json:"kind"`
				Creator bool      `json:"creator"`
				Member  bool      `json:"member"`
				Muted   bool      `json:"muted"`
				Created time.Time `json:"created"`
				Members []uint32  `json:"members,omitempty"`
			}{g.ID, g.Name, kind, g.Creator == e.User.ID, slices.Contains(g.Members, e.User.ID),
				slices.Contains(muted, g.ID), at(g.Created), members}); err != nil {
				return err
			}
		}
		return nil
	})
}

// messages writes the messages, a conversation or group after the other, each newest first.
func (e *exporter) messages(enc *json.Encoder) error {
	err := e.eachPeer(func(peers []uint32) error {
		for _, peer := range peers {
			read := func(begin uint32) ([]im.Message, error) {
				return e.Store.History(e.ctx, e.User.ID, peer, begin, page)
			}
			if err := e.conversation(enc, message{With: peer}, read, nil); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return e.eachGroup(func(groups []uint32) error {
		for _, g := range groups {
			if err := e.group(enc, g); err != nil {
				return err
			}
		}
		return nil
	})
}

// group writes the messages of others that the user can read in a group, then all of the user,
// oldest first.
func (e *exporter) group(enc *json.Encoder, g uint32) error {
	if !e.OwnOnly {
		read := func(begin uint32) ([]im.Message, error) {
			return e.Store.GroupHistory(e.ctx, e.User.ID, g, begin, page)
		}
		others := func(m *im.Message) bool { return m.From != e.User.ID }
		if err := e.conversation(enc, message{Group: g}, read, others); err != nil {
			return err
		}
	}
	for after := uint32(0); ; {
		list, err := e.Store.SentToGroup(e.ctx, e.User.ID, g, after, page)
		if err != nil || len(list) == 0 {
			return err
		}
		for i := range list {
			if err := e.message(enc, message{Group: g}, &list[i]); err != nil {
				return err
			}
		}
		after = list[len(list)-1].ID
	}
}

// conversation writes the messages that read returns, in pages that begin at an id.
func (e *exporter) conversation(enc *json.Encoder, in message,
	read func(begin uint32) ([]im.Message, error), take func(*im.Message) bool) error {
	for begin := uint32(0); ; {
		list, err := read(begin)
		if err != nil || len(list) == 0 {
			return err
		}
		for i := range list {
			m := &list[i]
			if take != nil && !take(m) || e.OwnOnly && m.From != e.User.ID {
				continue
			}
			if err := e.message(enc, in, m); err != nil {
				return err
			}
		}
		if begin = list[len(list)-1].ID - 1; begin == 0 {
			return nil
		}
	}
}

// message writes a message.
func (e *exporter) message(enc *json.Encoder, line message, m *im.Message) error {
	line.ID, line.Time, line.From, line.Kind = m.ID, at(m.Created), m.From, "text"
	switch m.Type {
	case pb.MsgType_MSG_TYPE_SINGLE_AUDIO, pb.MsgType_MSG_TYPE_GROUP_AUDIO:
		line.Kind = "sound"
		if m.Audio == nil { // its row is gone
			line.NotFound = 1
			break
		}
		line.Seconds = m.Audio.Duration
		if err := e.attach(&line, m.Audio.Path); err != nil {
			return err
		}
	default:
		text, err := e.Cipher.Decrypt(m.Data)
		if err != nil || !utf8.ValidString(text) {
			line.Raw = string(m.Data)
			break
		}
		line.Text = &text
		for _, url := range pictures(text) {
			if err := e.attach(&line, url); err != nil {
				return err
			}
		}
	}
	e.report.Messages++
	return enc.Encode(line)
}

// attach adds a file to the line of its message.
func (e *exporter) attach(line *message, url string) error {
	file, err := e.copyLater(url)
	switch {
	case err != nil:
		return err
	case file != "":
		line.Files = append(line.Files, file)
	default:
		line.NotFound++
		e.report.Missing++
	}
	return nil
}

// The address of a picture within a text of the clients is between these.
const (
	pictureBegin = "&$#@~^@[{:"
	pictureEnd   = ":}]&$~@#@"
)

// pictures returns the addresses of the pictures in a text.
func pictures(text string) (urls []string) {
	for {
		_, rest, ok := strings.Cut(text, pictureBegin)
		if !ok {
			return urls
		}
		url, after, ok := strings.Cut(rest, pictureEnd)
		if !ok {
			return urls
		}
		urls, text = append(urls, url), after
	}
}

// String describes a report for people.
func (r Report) String() string {
	return fmt.Sprintf("%s, %s, %s not on this machine", counted(r.Messages, "message"),
		counted(r.Files, "file"), counted(r.Missing, "file"))
}

// counted returns a number with the word for what it counts.
func counted(n int, word string) string {
	if n != 1 {
		word += "s"
	}
	return fmt.Sprintf("%d %s", n, word)
}
