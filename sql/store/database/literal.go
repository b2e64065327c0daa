package database

import (
	"encoding/hex"
	"strconv"
)

// AppendText appends a text, which must be UTF-8, as a literal of SQL. The literal is
// right only with the sql_mode and character set of sessionSettings.
func AppendText(b, text []byte) []byte {
	b = append(b, '\'')
	from := 0
	for i, c := range text {
		switch c {
		case 0:
			c = '0'
		case '\\', '\'':
		default:
			continue
		}
		b = append(b, text[from:i]...)
		b = append(b, '\\', c)
		from = i + 1
	}
	b = append(b, text[from:]...)
	return append(b, '\'')
}

// Join returns ids as the list for IN ().
func Join(ids []uint32) string {
	b := make([]byte, 0, len(ids)*8)
	for i, id := range ids {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, uint64(id), 10)
	}
	return string(b)
}

// AppendHex appends bytes as a hex literal of SQL.
func AppendHex(b, v []byte) []byte {
	b = append(b, "x'"...)
	b = hex.AppendEncode(b, v)
	return append(b, '\'')
}
