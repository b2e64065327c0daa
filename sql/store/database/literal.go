package database

import (
	"encoding/hex"
	"strconv"
)

// AppendText appends a text, which must be UTF-8, as a literal of SQL. Its digits end no
// literal, whatever the sql_mode and the character set of the connection are.
func AppendText(b, text []byte) []byte { return AppendHex(append(b, "_utf8mb4 "...), text) }

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
