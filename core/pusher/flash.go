package pusher

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"teamtalk/proto/pb"
)

// What a push shows of what is no text.
const (
	showAnything = "您收到一条新消息"
	showAudio    = "[语音]"
	showPicture  = "[图片]"
)

// pictureBegin and pictureEnd stand around the address of a picture, within a text.
const (
	pictureBegin = "&$#@~^@[{:"
	pictureEnd   = ":}]&$~@#@"
)

// pushData tells the app what to open.
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
		panic(fmt.Sprintf("push data: %v", err)) // three numbers
	}
	return string(text)
}

// flash is what a push shows of a message.
func (p *Pusher) flash(m *pb.MsgData) string {
	switch m.Type {
	case pb.MsgType_MSG_TYPE_SINGLE_AUDIO, pb.MsgType_MSG_TYPE_GROUP_AUDIO:
		return showAudio
	}
	if p.opt.Text < 0 {
		return showAnything
	}
	text, err := p.opt.Cipher.Decrypt(m.Data)
	if err != nil || !utf8.ValidString(text) {
		return showAnything // not one of the clients' bodies, or under another key
	}
	text = shorten(strings.TrimSpace(showPictures(text)), p.opt.Text)
	if text == "" {
		return showAnything
	}
	return text
}

// showPictures puts a word in the place of each picture.
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

// shorten cuts text after n characters, with an ellipsis in the place of what is left out.
func shorten(text string, n int) string {
	for i := range text {
		if n == 0 {
			return text[:i] + "…"
		}
		n--
	}
	return text
}
