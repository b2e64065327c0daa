package bench

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
)

// stampLen is the length of a stamp in a text, in bytes: letters, digits, '-' and '_', so that it stays a text for every store.
const stampLen = 32

// stamp is what every message's text begins with.
type stamp struct {
	run    uint8  // tells the messages of this run from those of another
	conv   uint32 // conversation, below 1<<24
	sender uint16 // place among the senders of the conversation
	user   uint32 // id of the sender
	number uint32 // of the sender's messages in this conversation, from 1 on
	due    int64  // when it was to be sent, in nanoseconds since 1970; kept in whole microseconds
}

var stampLetters = base64.RawURLEncoding

// put writes the stamp to the beginning of text.
func (s *stamp) put(text []byte) {
	var b [24]byte
	binary.BigEndian.PutUint32(b[0:], uint32(s.run)<<24|s.conv&0xffffff)
	binary.BigEndian.PutUint16(b[4:], s.sender)
	binary.BigEndian.PutUint32(b[6:], s.user)
	binary.BigEndian.PutUint32(b[10:], s.number)
	micros := uint64(s.due / 1000)
	b[14], b[15], b[16] = byte(micros>>48), byte(micros>>40), byte(micros>>32)
	binary.BigEndian.PutUint32(b[17:], uint32(micros))
	sum := stampSum(b[:21])
	b[21], b[22], b[23] = byte(sum>>16), byte(sum>>8), byte(sum)
	stampLetters.Encode(text[:stampLen], b[:])
}

// parse reads the stamp at the beginning of text. It reports false when there is none, or one that was changed.
func (s *stamp) parse(text []byte) bool {
	var b [24]byte
	if len(text) < stampLen {
		return false
	}
	if _, err := stampLetters.Decode(b[:], text[:stampLen]); err != nil {
		return false
	}
	if sum := stampSum(b[:21]); b[21] != byte(sum>>16) || b[22] != byte(sum>>8) || b[23] != byte(sum) {
		return false
	}
	s.run = b[0]
	s.conv = binary.BigEndian.Uint32(b[0:]) & 0xffffff
	s.sender = binary.BigEndian.Uint16(b[4:])
	s.user = binary.BigEndian.Uint32(b[6:])
	s.number = binary.BigEndian.Uint32(b[10:])
	s.due = (int64(b[14])<<48 | int64(b[15])<<40 | int64(b[16])<<32 | int64(binary.BigEndian.Uint32(b[17:]))) * 1000
	return true
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func stampSum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// filler is what follows the stamp in every text of a run: known, so that a change shows.
func filler(size int) []byte {
	const letters = "The quick brown fox jumps over the lazy dog. "
	n := max(0, size-stampLen)
	return bytes.Repeat([]byte(letters), n/len(letters)+1)[:n]
}
