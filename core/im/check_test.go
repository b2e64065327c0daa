package im

import (
	"strings"
	"testing"

	"teamtalk/proto/pb"
)

// TestCheckText tries texts around a limit of three characters.
func TestCheckText(t *testing.T) {
	for text, want := range map[string]bool{
		"": true, "abc": true, "漢字界": true, "a\x00b": true, "abcd": false, "漢字界x": false,
		"\xff": false,
	} {
		err := CheckText("text", text, 3)
		if (err == nil) != want || err != nil && KindOf(err) != Invalid {
			t.Errorf("%q: %v, want it valid: %v", text, err, want)
		}
	}
}

// TestCheckTypedRejectsMistakes tries texts that a person can only have typed by mistake.
func TestCheckTypedRejectsMistakes(t *testing.T) {
	for text, part := range map[string]string{
		"": "", "漢字 界": "", "a\tb": "control character", "ab ": "begins or ends",
		" ab":  "begins or ends",
		"\xff": "not UTF-8", "12345": "text is 5 characters long; 4 fit",
	} {
		err := CheckTyped("text", text, 4)
		switch {
		case part == "" && err != nil:
			t.Errorf("%q: %v", text, err)
		case part == "":
		case KindOf(err) != Invalid || err == nil || !strings.Contains(err.Error(), part):
			t.Errorf("%q: %v, want kind invalid and %q", text, err, part)
		}
	}
}

// TestCheckAccount breaks one field of a valid account at a time.
func TestCheckAccount(t *testing.T) {
	for name, breakIt := range map[string]func(*Account){
		"empty name":    func(a *Account) { a.Name = "" },
		"blank name":    func(a *Account) { a.Name = "  " },
		"long name":     func(a *Account) { a.Name = strings.Repeat("x", MaxName+1) },
		"long domain":   func(a *Account) { a.Domain = strings.Repeat("x", MaxName+1) },
		"long nick":     func(a *Account) { a.Nick = strings.Repeat("x", MaxName+1) },
		"long password": func(a *Account) { a.Password = strings.Repeat("x", MaxPassword+1) },
		"long salt":     func(a *Account) { a.Salt = strings.Repeat("x", MaxSalt+1) },
		"long phone":    func(a *Account) { a.Phone = strings.Repeat("1", MaxPhone+1) },
		"long email":    func(a *Account) { a.Email = strings.Repeat("x", MaxEmail+1) },
		"long avatar":   func(a *Account) { a.Avatar = strings.Repeat("x", MaxAvatar+1) },
		"long sign":     func(a *Account) { a.SignInfo = strings.Repeat("x", MaxSignInfo+1) },
		"gender":        func(a *Account) { a.Gender = maxTiny + 1 },
		"status":        func(a *Account) { a.Status = maxTiny + 1 },
	} {
		a := Account{User: User{Name: "alice", Gender: maxTiny, Status: maxTiny}}
		if err := CheckAccount(&a); err != nil {
			t.Fatal(err)
		}
		breakIt(&a)
		if err := CheckAccount(&a); KindOf(err) != Invalid {
			t.Errorf("%s: %v, want kind invalid", name, err)
		}
	}
}

// TestCheckMessage tries valid and invalid messages.
func TestCheckMessage(t *testing.T) {
	const text, audio = pb.MsgType_MSG_TYPE_GROUP_TEXT, pb.MsgType_MSG_TYPE_SINGLE_AUDIO
	long := strings.Repeat("x", MaxAudioPath+1)
	for name, c := range map[string]struct {
		m     Message
		valid bool
	}{
		"text": {Message{From: 1, To: 1, Type: text, Data: make([]byte, MaxContent)},
			true},
		"long text": {Message{From: 1, To: 1, Type: text, Data: make([]byte, MaxContent+1)},
			false},
		"not UTF-8":    {Message{From: 1, To: 1, Type: text, Data: []byte("\xff")}, false},
		"no sender":    {Message{To: 1, Type: text}, false},
		"no recipient": {Message{From: 1, Type: text}, false},
		"long client id": {Message{From: 1, To: 1, Type: text, ClientID: make([]byte,
			MaxClientID+1)}, false},
		"audio":      {Message{From: 1, To: 2, Type: audio, Audio: &Audio{Path: "x"}}, true},
		"to oneself": {Message{From: 1, To: 1, Type: audio, Audio: &Audio{Path: "x"}}, false},
		"no audio":   {Message{From: 1, To: 2, Type: audio}, false},
		"long path":  {Message{From: 1, To: 2, Type: audio, Audio: &Audio{Path: long}}, false},
		"no type":    {Message{From: 1, To: 2}, false},
	} {
		if err := CheckMessage(&c.m); (err == nil) != c.valid || err != nil &&
			KindOf(err) != Invalid {
			t.Errorf("%s: %v, want it valid: %v", name, err, c.valid)
		}
	}
}

// TestCheckGroup tries the limits of a group.
func TestCheckGroup(t *testing.T) {
	valid := Group{Type: pb.GroupType_GROUP_TYPE_TMP, Name: strings.Repeat("漢", MaxGroupName)}
	noType, noName, avatar := valid, valid, valid
	noType.Type, noName.Name, avatar.Avatar = 3, "", valid.Name+"x"
	if err := CheckGroup(&valid); err != nil {
		t.Error(err)
	}
	for _, g := range []Group{noType, noName, avatar} {
		if err := CheckGroup(&g); KindOf(err) != Invalid {
			t.Errorf("%+v: %v, want kind invalid", g, err)
		}
	}
	for name, ok := range map[string]bool{"g": true, "1": true, "!": true, "群": true, "é": true,
		"e\u0301": true, "👪": true, "\u200bx": true, " x ": true,
		" ": false, "\t\n": false, "\u3000": false, "\u200b": false, "\u2060\ufeff": false,
		"\u202e\u202c": false, "\u0301": false, "\ufe0f": false, "\u3164": false, "\u115f": false,
		"\u2800": false, "\x00": false, "\U000e0041": false} {
		if err := CheckGroupName(name); (err == nil) != ok || !ok && KindOf(err) != Invalid {
			t.Errorf("name %+q: %v", name, err)
		}
	}
	if err := CheckGroupSize(MaxGroupMembers); err != nil {
		t.Error(err)
	}
	if err := CheckGroupSize(MaxGroupMembers + 1); KindOf(err) != Invalid {
		t.Errorf("%v, want kind invalid", err)
	}
}
