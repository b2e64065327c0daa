package proxyproto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
)

// v2 returns a header of version 2.
func v2(versionAndCommand, family byte, rest ...byte) []byte {
	b := append(bytes.Clone(signature), versionAndCommand, family)
	b = binary.BigEndian.AppendUint16(b, uint16(len(rest)))
	return append(b, rest...)
}

// from4 holds the addresses 203.0.113.7:50000 and 10.0.0.1:8000.
var from4 = []byte{203, 0, 113, 7, 10, 0, 0, 1, 0xC3, 0x50, 0x1F, 0x40}

// from6 holds those of 2001:db8::7 and 2001:db8::1.
var from6 = append(append(netip.MustParseAddr("2001:db8::7").AsSlice(),
	netip.MustParseAddr("2001:db8::1").AsSlice()...), 0xC3, 0x50, 0x1F, 0x40)

// field returns a field at the end of a header.
func field(kind byte, value ...byte) []byte {
	return append([]byte{kind, byte(len(value) >> 8), byte(len(value))}, value...)
}

// summed returns a header of version 2 with a checksum, which is wrong by off.
func summed(off uint32) []byte {
	b := v2(0x21, 0x11, append(bytes.Clone(from4), field(typeCRC, 0, 0, 0, 0)...)...)
	sum := crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) + off
	binary.BigEndian.PutUint32(b[len(b)-4:], sum)
	return b
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

const client4, client6 = "203.0.113.7:50000", "[2001:db8::7]:50000"

// headers are headers of both versions, and what they say.
var headers = map[string]told{
	"v1, IPv4":     line("TCP4 203.0.113.7 10.0.0.1 50000 8000", client4),
	"v1, IPv6":     line("TCP6 2001:db8::7 ::1 50000 8000", client6),
	"v1, mapped":   line("TCP6 ::ffff:203.0.113.7 ::1 50000 8000", client4),
	"v1, unknown":  line("UNKNOWN", ""),
	"v1, unknown+": line("UNKNOWN ff:: ff:: 1 2", ""),
	"v1, longest":  line("UNKNOWN "+strings.Repeat("f", 91), ""),
	"v1, too long": wrongLine("UNKNOWN " + strings.Repeat("f", 92)),
	"v1, short":    wrongLine("TCP4 203.0.113.7 10.0.0.1 50000"),
	"v1, family":   wrongLine("TCP4 2001:db8::7 ::1 50000 8000"),
	"v1, port":     wrongLine("TCP4 203.0.113.7 10.0.0.1 65536 8000"),
	"v1, zone":     wrongLine("TCP6 fe80::1%eth0 ::1 50000 8000"),
	"v1, UDP":      wrongLine("UDP4 203.0.113.7 10.0.0.1 50000 8000"),
	"v1, ends":     {[]byte("PROXY TCP4 203.0.113.7"), "", false, io.ErrUnexpectedEOF},

	"none":        {[]byte("GET / HTTP/1.1\r\n\r\n"), "", false, ErrMissing},
	"a frame":     {make([]byte, 20), "", false, ErrMissing},
	"nothing":     {nil, "", false, io.EOF},
	"a few bytes": {[]byte("PROXY"), "", false, io.ErrUnexpectedEOF},

	"v2, IPv4":      {v2(0x21, 0x11, from4...), client4, false, nil},
	"v2, IPv6":      {v2(0x21, 0x21, from6...), client6, false, nil},
	"v2, local":     {v2(0x20, 0x00), "", false, nil},
	"v2, local, IP": {v2(0x20, 0x11, from4...), "", false, nil},
	"v2, no family": {v2(0x21, 0x00, 1, 2, 3), "", false, nil},
	"v2, UDP":       {v2(0x21, 0x12, from4...), "", false, ErrMalformed},
	"v2, Unix":      {v2(0x21, 0x31, make([]byte, 216)...), "", false, ErrMalformed},
	"v2, command":   {v2(0x22, 0x11, from4...), "", false, ErrMalformed},
	"v3":            {v2(0x31, 0x11, from4...), "", false, ErrMalformed},
	"v2, short":     {v2(0x21, 0x21, from4...), "", false, ErrMalformed},
	"v2, fields":    with(client4, false, field(0x01, 'h', '2'), field(0x04, 0, 0)),
	"v2, TLS":       with(client4, true, field(typeSSL, 1, 0, 0, 0, 0)),
	"v2, no TLS":    with(client4, false, field(typeSSL, 0, 0, 0, 0, 0)),
	"v2, cut field": {v2(0x21, 0x11, join(from4, []byte{1, 0, 2, 'h'})...), "", false,
		ErrMalformed},
	"v2, checksum":       {summed(0), client4, false, nil},
	"v2, wrong checksum": {summed(1), "", false, ErrMalformed},
	"v2, long":           {v2(0x20, 0x00, make([]byte, maxV2)...), "", false, nil},
	"v2, too long":       {v2(0x20, 0x00, make([]byte, maxV2+1)...), "", false, ErrMalformed},
	"v2, ends":           {v2(0x21, 0x11, from4...)[:20], "", false, io.ErrUnexpectedEOF},
}

// told is a header and what it says, as in headers.
type told struct {
	header []byte
	source string // empty: not valid
	secure bool
	err    error
}

func line(text, source string) told {
	return told{[]byte("PROXY " + text + "\r\n"), source, false, nil}
}

func wrongLine(text string) told {
	return told{[]byte("PROXY " + text + "\r\n"), "", false, ErrMalformed}
}

// with returns a header of version 2 with fields behind the addresses.
func with(source string, secure bool, fields ...[]byte) told {
	return told{v2(0x21, 0x11, join(from4, join(fields...))...), source, secure, nil}
}

// TestRead reads headers byte by byte, and nothing behind them.
func TestRead(t *testing.T) {
	for name, test := range headers {
		t.Run(name, func(t *testing.T) {
			r := bytes.NewReader(test.header)
			if test.err == nil {
				r = bytes.NewReader(join(test.header, []byte("rest")))
			}
			h, err := Read(iotest.OneByteReader(r))
			if !errors.Is(err, test.err) {
				t.Fatalf("error %v, want %v", err, test.err)
			}
			if err != nil {
				return
			}
			var want netip.AddrPort
			if test.source != "" {
				want = netip.MustParseAddrPort(test.source)
			}
			if h.Source != want || h.Secure != test.secure {
				t.Errorf("header %+v, want %v", h, want)
			}
			if rest, _ := io.ReadAll(r); string(rest) != "rest" {
				t.Errorf("%q is left", rest)
			}
		})
	}
}

// FuzzRead reads any bytes. A header ends where its form says, and names one kind of address.
func FuzzRead(f *testing.F) {
	f.Add([]byte("PROXY TCP4 203.0.113.7 10.0.0.1 50000 8000\r\nrest"))
	f.Add([]byte("PROXY UNKNOWN\r\n"))
	f.Add(v2(0x21, 0x11, from4...))
	f.Add(v2(0x21, 0x21, join(from6, field(typeSSL, 1, 0, 0, 0, 0))...))
	f.Add(summed(0))
	f.Fuzz(func(t *testing.T, p []byte) {
		r := bytes.NewReader(p)
		h, err := Read(r)
		used := p[:len(p)-r.Len()]
		if err != nil {
			if len(used) > fixedV2+maxV2 {
				t.Errorf("%d bytes read", len(used))
			}
			return
		}
		if h.Source.IsValid() && h.Source.Addr() != h.Source.Addr().Unmap() ||
			h.Source.Addr().Zone() != "" {
			t.Errorf("source %v", h.Source)
		}
		if again, err := Read(bytes.NewReader(used)); err != nil || again != h {
			t.Errorf("%x: %+v, %v, and then %+v", used, h, err, again)
		}
		if !bytes.HasPrefix(p, signature) && !bytes.HasSuffix(used, []byte("\r\n")) {
			t.Errorf("a line ends with %q", used)
		}
	})
}
