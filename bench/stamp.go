package bench

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
)

// stampLen is the length of a stamp in a text, in bytes. A stamp is made of letters,
// digits, '-' and '_', so that each store keeps it as text.
const stampLen = 32

// stamp is the beginning of each message's text.
type stamp struct {
	run    uint8  // distinguishes the messages of this run from those of others
	conv   uint32 // conversation, below 1<<24
	sender uint16 // position among the senders of the conversation
	user   uint32 // user id of the sender
	number uint32 // number among the sender's messages in this conversation, from 1
	due    int64  // when the message was due, in nanoseconds since 1970; kept in whole microseconds
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

// parse reads the stamp at the beginning of text. It returns false when there is none, or
// when it has changed.
func (s *stamp) parse(text []byte) bool {
	var b [24]byte
	if len(text) < stampLen {
		return false
	}
	if _, err := stampLetters.Decode(b[:], text[:stampLen]); err != nil {
		return false
	}
	if sum := stampSum(b[:21]); b[21] != byte(sum>>16) || b[22] != byte(sum>>8) ||
		b[23] != byte(sum) {
		return false
	}
	s.run = b[0]
	s.conv = binary.BigEndian.Uint32(b[0:]) & 0xffffff
	s.sender = binary.BigEndian.Uint16(b[4:])
	s.user = binary.BigEndian.Uint32(b[6:])
	s.number = binary.BigEndian.Uint32(b[10:])
	high, low := int64(b[14])<<16|int64(b[15])<<8|int64(b[16]), binary.BigEndian.Uint32(b[17:])
	s.due = (high<<32 | int64(low)) * 1000
	return true
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func stampSum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// filler returns the text that follows the stamp in each message of a run. It is known,
// so that a change is detected.
func filler(size int) []byte {
	const letters = "The quick brown fox jumps over the lazy dog. "
	n := max(0, size-stampLen)
	return bytes.Repeat([]byte(letters), n/len(letters)+1)[:n]
}
