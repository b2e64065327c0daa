package pusher

import (
	"strings"
	"testing"
	"unicode/utf8"

	"teamtalk/core/config"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// usualText is the default of the setting.
var usualText = config.Default().Msg.PushText

func TestFlashShortensTextAndPictures(t *testing.T) {
	const hidden = "Ann给您发送了一条消息"
	for _, test := range []struct {
		text string
		max  int
		want string
	}{
		{"hello", usualText, "Ann:hello"},
		{"hello", 5, "Ann:hello"},
		{"hello!", 5, "Ann:hello…"},
		{"你好世界", 3, "Ann:你好世…"},
		{"a😀b", 2, "Ann:a😀…"},
		{strings.Repeat("长", 41), usualText, "Ann:" + strings.Repeat("长", 40) + "…"},
		{"hello", 0, hidden},
		{"", usualText, hidden},
		{"  \n ", usualText, hidden},
		{"bad \xff", usualText, hidden},
		{pictureBegin + "http://x/y.jpg" + pictureEnd, usualText, "Ann:[图片]"},
		{"look: " + pictureBegin + "http://x" + pictureEnd +
			pictureBegin + "http://y" + pictureEnd + " nice", usualText, "Ann:look: [图片][图片] nice"},
		{pictureBegin + "http://" + strings.Repeat("x", 100) + pictureEnd + "12345678", 10,
			"Ann:[图片]123456…"},
		{"begun " + pictureBegin + "x", usualText, "Ann:begun " + pictureBegin + "x"},
		{pictureEnd + pictureBegin, usualText, "Ann:" + pictureEnd + pictureBegin},
	} {
		p := New(Options{Text: test.max, Cipher: cipher(t)})
		if got := p.flash(single(t, test.text), "Ann"); got != test.want {
			t.Errorf("%q, %d characters: %q, want %q", test.text, test.max, got, test.want)
		}
		if got := p.flash(single(t, test.text), ""); got != "您收到了一条消息" {
			t.Errorf("%q of an unknown sender: %q", test.text, got)
		}
	}
}

// TestFlashWithoutText covers sounds, and texts that cannot be decrypted.
func TestFlashWithoutText(t *testing.T) {
	other, err := im.NewTextCipher(strings.Repeat("k", 32))
	if err != nil {
		t.Fatal(err)
	}
	p := New(Options{Text: usualText, Cipher: other})
	sound, key := []byte("\x00\x00\x00\x01x"), cipher(t).Encrypt("under another key")
	for _, test := range []struct {
		typ  pb.MsgType
		data []byte
		want string
	}{
		{pb.MsgType_MSG_TYPE_SINGLE_AUDIO, sound, "Ann给您发送了一条语音消息"},
		{pb.MsgType_MSG_TYPE_GROUP_AUDIO, sound, "Ann在群聊中发送了一条语音消息"},
		{pb.MsgType_MSG_TYPE_SINGLE_TEXT, key, "Ann给您发送了一条消息"},
		{pb.MsgType_MSG_TYPE_GROUP_TEXT, key, "Ann在群聊中发送了一条消息"},
		{pb.MsgType_MSG_TYPE_GROUP_TEXT, []byte("plain"), "Ann在群聊中发送了一条消息"},
	} {
		if got := p.flash(&pb.MsgData{Type: test.typ, Data: test.data}, "Ann"); got != test.want {
			t.Errorf("%s: %q, want %q", test.typ, got, test.want)
		}
	}
}

// FuzzFlash checks that the push for any body has the nick first and valid text of a
// bounded length after it.
func FuzzFlash(f *testing.F) {
	f.Add("hello", 3)
	f.Add(pictureBegin+"x"+pictureEnd+pictureBegin, 40)
	f.Add("a\xff😀", 1)
	f.Fuzz(func(t *testing.T, text string, limit int) {
		if limit %= 100; limit < 0 {
			limit = -limit
		}
		p := New(Options{Text: limit, Cipher: cipher(t)})
		m := single(t, text)
		got := p.flash(m, "Ann")
		if !strings.HasPrefix(got, "Ann") || !utf8.ValidString(got) {
			t.Errorf("shows %q", got)
		}
		shown, isText := strings.CutPrefix(got, "Ann:")
		n := utf8.RuneCountInString(strings.TrimSuffix(shown, "…"))
		if isText && n > max(limit, 1) && n > p.opt.Text {
			t.Errorf("%d characters with a limit of %d", n, p.opt.Text)
		}
		m.Data = []byte(text)
		if got := p.flash(m, "Ann"); !strings.HasPrefix(got, "Ann") || !utf8.ValidString(got) {
			t.Errorf("shows %q for a broken body", got)
		}
	})
}
