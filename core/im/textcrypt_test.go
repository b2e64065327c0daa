package im

import (
	"crypto/aes"
	"encoding/base64"
	"encoding/json"
	"os"
	"strings"
	"testing"
)

func testCipher(t testing.TB) *TextCipher {
	c, err := NewTextCipher("")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestTextCipherMatchesFirstClients compares with bodies that the first clients made, in
// testdata.
func TestTextCipherMatchesFirstClients(t *testing.T) {
	raw, err := os.ReadFile("testdata/texts.json")
	if err != nil {
		t.Fatal(err)
	}
	var golden []struct{ Body, Text string }
	if err := json.Unmarshal(raw, &golden); err != nil || len(golden) == 0 {
		t.Fatalf("%d golden texts, %v", len(golden), err)
	}
	c := testCipher(t)
	for _, g := range golden {
		if got, err := c.Decrypt([]byte(g.Body)); err != nil || got != g.Text {
			t.Errorf("Decrypt(%q) = %q, %v; want %q", g.Body, got, err, g.Text)
		}
		if got := string(c.Encrypt(g.Text)); got != g.Body {
			t.Errorf("Encrypt(%q) = %q, want %q", g.Text, got, g.Body)
		}
	}
}

// TestTextCipherRoundTrip tries every remainder of the block size, with the borders at 12
// and 16 bytes.
func TestTextCipherRoundTrip(t *testing.T) {
	c := testCipher(t)
	for n := range 70 {
		text := strings.Repeat("ä", n/2) + strings.Repeat("x", n%2)
		body := c.Encrypt(text)
		raw, err := base64.StdEncoding.DecodeString(string(body))
		padding := len(raw) - len(text)
		if err != nil || len(raw)%aes.BlockSize != 0 || padding < 4 || padding >= 4+aes.BlockSize {
			t.Fatalf("%d bytes became %d, %v", len(text), len(raw), err)
		}
		if got, err := c.Decrypt(body); err != nil || got != text {
			t.Fatalf("Decrypt(Encrypt(%q)) = %q, %v", text, got, err)
		}
	}
}

func TestMaxTextFitsMaxContent(t *testing.T) {
	c := testCipher(t)
	if n := len(c.Encrypt(strings.Repeat("x", MaxText))); n > MaxContent {
		t.Errorf("a text of MaxText bytes makes a body of %d", n)
	}
	if n := len(c.Encrypt(strings.Repeat("x", MaxText+1))); n <= MaxContent {
		t.Errorf("a text of MaxText+1 bytes still fits, in %d", n)
	}
}

func TestTextCipherRejectsBadKeysAndBodies(t *testing.T) {
	if _, err := NewTextCipher("short"); KindOf(err) != Invalid {
		t.Errorf("short key: %v", err)
	}
	c := testCipher(t)
	other, err := NewTextCipher(strings.Repeat("k", 32))
	if err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string]string{
		"empty":      "",
		"not base64": "hello, world",
		"half block": base64.StdEncoding.EncodeToString(make([]byte, 8)),
		"odd length": base64.StdEncoding.EncodeToString(make([]byte, 17)),
		"wrong key":  string(other.Encrypt("the length shows it, nearly always")),
	} {
		if text, err := c.Decrypt([]byte(body)); KindOf(err) != Malformed || err == nil {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
}

// TestDecryptChecksLength checks that the length must lie inside the body, and that the
// bytes between the text and its length do not matter.
func TestDecryptChecksLength(t *testing.T) {
	c := testCipher(t)
	body := func(plain string) []byte {
		raw := []byte(plain)
		for i := 0; i < len(raw); i += aes.BlockSize {
			c.block.Encrypt(raw[i:i+aes.BlockSize], raw[i:i+aes.BlockSize])
		}
		return []byte(base64.StdEncoding.EncodeToString(raw))
	}
	if got, err := c.Decrypt(body("hi garbage..\x00\x00\x00\x02")); err != nil || got != "hi" {
		t.Errorf("garbage in the padding: %q, %v", got, err)
	}
	for _, plain := range []string{"hi garbage..\x00\x00\x00\x0d", "hi garbage..\xff\xff\xff\xff",
		"hi garbage..\x80\x00\x00\x00"} {
		if got, err := c.Decrypt(body(plain)); err == nil {
			t.Errorf("%q decrypted to %q", plain, got)
		}
	}
}

func FuzzTextDecrypt(f *testing.F) {
	c := testCipher(f)
	f.Add([]byte(""))
	f.Add(c.Encrypt(""))
	f.Add(c.Encrypt("exactly 12 b"))
	f.Add(c.Encrypt(strings.Repeat("long ", 100)))
	f.Fuzz(func(t *testing.T, body []byte) {
		text, err := c.Decrypt(body)
		if err != nil {
			if KindOf(err) != Malformed {
				t.Errorf("kind %v: %v", KindOf(err), err)
			}
			return
		}
		if again, err := c.Decrypt(c.Encrypt(text)); err != nil || again != text {
			t.Errorf("%q came back as %q, %v", text, again, err)
		}
	})
}

func TestIsCipherText(t *testing.T) {
	c, encode := testCipher(t), base64.StdEncoding.EncodeToString
	for n := range 70 {
		if !IsCipherText(c.Encrypt(strings.Repeat("x", n))) {
			t.Errorf("an encrypted text of %d bytes is rejected", n)
		}
		want := n > 0 && n%aes.BlockSize == 0
		if got := IsCipherText([]byte(encode(make([]byte, n)))); got != want {
			t.Errorf("base64 of %d bytes: %v", n, got)
		}
	}
	block := encode([]byte(strings.Repeat("\xff", aes.BlockSize)))
	for _, body := range []string{
		"", "hello", "hello world, 4*n", "====", block + "\n", block[:4] + "\r\n" + block[4:],
		strings.ReplaceAll(block, "/", "_"), block[:22], block[:20] + "=" + block[21:23] + "=",
		block + block, strings.Repeat("=", 24), block[:21] + "===", block[:23] + "\x00",
		" " + block[:23],
	} {
		if IsCipherText([]byte(body)) {
			t.Errorf("%q is accepted", body)
		}
	}
}

// FuzzIsCipherText checks that exactly the bodies that decode to whole blocks are
// accepted.
func FuzzIsCipherText(f *testing.F) {
	f.Add([]byte("AAAAAAAAAAAAAAAAAAAAAA=="))
	f.Add([]byte("plain"))
	f.Fuzz(func(t *testing.T, body []byte) {
		raw, err := base64.StdEncoding.DecodeString(string(body))
		whole := err == nil && len(raw) > 0 && len(raw)%aes.BlockSize == 0
		if got := IsCipherText(body); got != (whole && !strings.ContainsAny(string(body), "\r\n")) {
			t.Errorf("%q: %v, decodes to %d bytes, %v", body, got, len(raw), err)
		}
	})
}
