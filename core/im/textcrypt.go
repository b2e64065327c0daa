package im

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/binary"
)

// DefaultTextKey is the key built into the first clients. It is not a secret: it only
// keeps people from reading texts by accident in a table or a trace.
const DefaultTextKey = "12345678901234567890123456789012"

// MaxText is the longest text, in bytes, whose body fits MaxContent after padding,
// encryption and base64.
const MaxText = MaxContent/4*3 - textTrailer

// textTrailer is the length of the number at the end of the last block, in bytes.
const textTrailer = 4

// TextCipher converts texts to the bodies of text messages and back. A body is base64 of
// AES-256 in ECB mode. The text is padded with zeros, and the last four bytes of the last
// block hold its length, big-endian. Servers pass bodies on unchanged. Clients and the
// pusher need the clear text. Any goroutine.
type TextCipher struct {
	block cipher.Block
}

// NewTextCipher returns the cipher with a key of 32 bytes; "" means DefaultTextKey.
// Invalid when the key has another length.
func NewTextCipher(key string) (*TextCipher, error) {
	if key == "" {
		key = DefaultTextKey
	}
	if len(key) != 32 {
		return nil, Errorf(Invalid, "text key has %d bytes, needs 32", len(key))
	}
	block, err := aes.NewCipher([]byte(key))
	if err != nil {
		return nil, WithKind(Invalid, "text key", err)
	}
	return &TextCipher{block: block}, nil
}

// Encrypt returns the body for a text. Equal texts have equal bodies. Every store rejects
// the body of a text longer than MaxText.
func (c *TextCipher) Encrypt(text string) []byte {
	n := (len(text) + textTrailer + aes.BlockSize - 1) / aes.BlockSize * aes.BlockSize
	buf := make([]byte, n)
	copy(buf, text)
	binary.BigEndian.PutUint32(buf[n-textTrailer:], uint32(len(text)))
	for i := 0; i < n; i += aes.BlockSize {
		c.block.Encrypt(buf[i:i+aes.BlockSize], buf[i:i+aes.BlockSize])
	}
	body := make([]byte, base64.StdEncoding.EncodedLen(n))
	base64.StdEncoding.Encode(body, buf)
	return body
}

// Decrypt returns the text of a body. Malformed when the body is not base64 of whole
// blocks, or ends in an impossible length; a wrong key nearly always gives such a length.
// The bytes between the text and its length are ignored, because the first clients left
// uninitialized memory there.
func (c *TextCipher) Decrypt(body []byte) (string, error) {
	buf := make([]byte, base64.StdEncoding.DecodedLen(len(body)))
	n, err := base64.StdEncoding.Decode(buf, body)
	if err != nil {
		return "", WithKind(Malformed, "text body is not base64", err)
	}
	if n == 0 || n%aes.BlockSize != 0 {
		return "", Errorf(Malformed, "text body has %d bytes, not whole blocks", n)
	}
	buf = buf[:n]
	for i := 0; i < n; i += aes.BlockSize {
		c.block.Decrypt(buf[i:i+aes.BlockSize], buf[i:i+aes.BlockSize])
	}
	length := binary.BigEndian.Uint32(buf[n-textTrailer:])
	if uint64(length) > uint64(n-textTrailer) {
		return "", Errorf(Malformed, "text body of %d bytes claims a text of %d", n, length)
	}
	return string(buf[:length]), nil
}

// IsCipherText reports whether body has the form of an encrypted text: standard base64,
// without line breaks, of one or more whole cipher blocks. It does not decrypt: the key
// does not matter.
func IsCipherText(body []byte) bool {
	if len(body) == 0 || len(body)%4 != 0 {
		return false
	}
	digits := bytes.TrimSuffix(bytes.TrimSuffix(body, []byte("=")), []byte("="))
	for _, c := range digits {
		switch {
		case 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '+', c == '/':
		default:
			return false
		}
	}
	return (len(body)/4*3-(len(body)-len(digits)))%aes.BlockSize == 0
}
