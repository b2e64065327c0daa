package pusher

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"teamtalk/proto/pb"
)

// The texts of a push. The sentences follow the sender's nick. Those about sounds, and
// showNameless, are the first implementation's.
const (
	showNameless   = "您收到了一条消息"
	audioToYou     = "给您发送了一条语音消息"
	audioToGroup   = "在群聊中发送了一条语音消息"
	messageToYou   = "给您发送了一条消息"
	messageToGroup = "在群聊中发送了一条消息"
	showPicture    = "[图片]"
)

// pictureBegin and pictureEnd enclose the address of a picture within a text.
const (
	pictureBegin = "&$#@~^@[{:"
	pictureEnd   = ":}]&$~@#@"
)

// pushData returns the JSON that tells the app which conversation to open.
func pushData(m *pb.MsgData) string {
	data := struct {
		MsgType uint32 `json:"msg_type"`
		FromID  uint32 `json:"from_id"`
		GroupID uint32 `json:"group_id,omitempty"`
	}{MsgType: uint32(m.Type), FromID: m.FromUserID}
	if m.Type.IsGroup() {
		data.GroupID = m.ToSessionID
	}
	text, err := json.Marshal(data)
	if err != nil {
		panic(fmt.Sprintf("push data: %v", err)) // three numbers always encode
	}
	return string(text)
}

// flash returns the text of a push: "nick:text", or the nick and a sentence for a sound
// and for a text that must not or cannot be displayed. The parameter nick is the
// sender's. When it is "", the sender is not known, and the push displays nothing of the
// message.
func (p *Pusher) flash(m *pb.MsgData, nick string) string {
	if nick == "" {
		return showNameless
	}
	switch m.Type {
	case pb.MsgType_MSG_TYPE_SINGLE_AUDIO:
		return nick + audioToYou
	case pb.MsgType_MSG_TYPE_GROUP_AUDIO:
		return nick + audioToGroup
	}
	if text := p.clearText(m.Data); text != "" {
		return nick + ":" + text
	}
	if m.Type.IsGroup() {
		return nick + messageToGroup
	}
	return nick + messageToYou
}

// clearText returns the part of a text message that a push may display. It returns ""
// when the setting forbids texts, and when the text is empty or cannot be decrypted,
// because another program made the body or it has another key. For such a body the first
// implementation sends no push at all.
func (p *Pusher) clearText(body []byte) string {
	if p.opt.Text <= 0 {
		return ""
	}
	text, err := p.opt.Cipher.Decrypt(body)
	if err != nil || !utf8.ValidString(text) {
		return ""
	}
	return shorten(strings.TrimSpace(showPictures(text)), p.opt.Text)
}

// showPictures replaces each picture by a word.
func showPictures(text string) string {
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(text, pictureBegin)
		_, after, ended := strings.Cut(rest, pictureEnd)
		if !found || !ended {
			out.WriteString(text)
			return out.String()
		}
		out.WriteString(before)
		out.WriteString(showPicture)
		text = after
	}
}

// shorten cuts text after n characters, and marks the cut with an ellipsis.
func shorten(text string, n int) string {
	for i := range text {
		if n == 0 {
			return text[:i] + "…"
		}
		n--
	}
	return text
}
