package im

import (
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// reservedNames are names that people take for those of the company's administrators or of
// the system. People do not give them to themselves.
var reservedNames = func() map[string]bool {
	reserved := map[string]bool{}
	for _, name := range strings.Fields("admin administrator admins adm root superuser super " +
		"sudo system sysadmin sysop operator moderator support helpdesk service services " +
		"security abuse postmaster webmaster hostmaster noreply nobody official teamtalk server " +
		"bot 管理员 系统管理员 超级管理员 管理 系统 系统消息 系统通知 官方 客服 网管 运维 管理員 系統管理員 系統") {
		reserved[skeleton(name)] = true
	}
	return reserved
}()

// ReservedName reports whether a login name or nick is reserved, or looks like one that is:
// with letters of other scripts, wide letters, accents, characters that cannot be seen,
// digits in place of letters, punctuation, or a number at the end.
func ReservedName(name string) bool {
	return reservedNames[skeleton(name)] ||
		reservedNames[skeleton(strings.TrimRightFunc(norm.NFKC.String(name), notALetter))]
}

func notALetter(r rune) bool { return !unicode.IsLetter(r) }

// skeleton returns the same text for names that look alike.
func skeleton(name string) string {
	var b strings.Builder
	for _, r := range norm.NFKD.String(name) {
		r = unicode.ToLower(r)
		if latin, alike := lookAlikes[r]; alike {
			r = latin
		}
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			b.WriteRune(r)
		}
	}
	return strings.NewReplacer("rn", "m", "vv", "w").Replace(b.String())
}

// lookAlikes are characters that look like a Latin letter in lower case. The letter i is
// among them: in capitals it looks like l.
var lookAlikes = func() map[rune]rune {
	alike := map[rune]rune{}
	for latin, others := range map[rune]string{
		'a': "аαɑ4@ᴀ", 'b': "ьвβ8ʙ", 'c': "сϲᴄ¢", 'd': "ԁɗ", 'e': "еεє3ҽᴇ", 'g': "ɡց9", 'h': "һнʜ",
		'j': "јϳ", 'k': "кκᴋ", 'l': "iіιıїɩ1!|ӏɪʟl", 'm': "мᴍ", 'n': "пηոɴ", 'o': "оοσ0ᴏօ",
		'p': "рρᴘ", 'q': "ԛ", 'r': "гʀᴦ", 's': "ѕ5$ꜱ", 't': "тτ7ᴛ", 'u': "υцսᴜ", 'v': "νѵᴠ",
		'w': "шѡωᴡ", 'x': "хχ", 'y': "уγүʏ", 'z': "2ᴢ",
	} {
		for _, r := range others {
			alike[r] = latin
		}
	}
	return alike
}()
