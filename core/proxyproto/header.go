// Package proxyproto reads the header of the PROXY protocol, versions 1 and 2, with which a
// proxy such as HAProxy tells a server the address of the client whose connection it
// forwards. The format is that of HAProxy's document proxy-protocol.txt.
package proxyproto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/netip"
	"strconv"
	"strings"
)

// Header is what a proxy says of a connection.
type Header struct {
	// Source is the address of the client. It is not valid for a connection of the proxy
	// itself, such as a health check, and for one whose client the proxy does not know.
	Source netip.AddrPort
	// Secure says that the client has TLS, which the proxy ends. Only version 2 can tell.
	Secure bool
}

const (
	// maxV1 is the length of the longest line of version 1, in bytes.
	maxV1 = 107
	// maxV2 bounds what follows the first 16 bytes of version 2. Addresses take 36 bytes, and
	// proxies add some hundred with names and certificates.
	maxV2 = 4 << 10
	// shortest is the length of the shortest header: PROXY UNKNOWN. One of version 2 has 16.
	shortest = 15
	fixedV2  = 16
)

// signature begins a header of version 2.
var signature = []byte("\r\n\r\n\x00\r\nQUIT\n")

var (
	// ErrMissing reports that a connection does not begin with a header.
	ErrMissing = errors.New("proxyproto: the connection does not begin with a PROXY header")
	// ErrMalformed reports a header that is damaged, too long, or of a kind that is not
	// understood.
	ErrMalformed = errors.New("proxyproto: malformed PROXY header")
)

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// Read reads a header and no byte behind it. io.EOF means that the connection ended before
// its first byte.
func Read(r io.Reader) (Header, error) {
	var buf [fixedV2]byte
	if _, err := io.ReadFull(r, buf[:shortest]); err != nil {
		return Header{}, err
	}
	switch {
	case bytes.HasPrefix(buf[:], signature):
		return readV2(r, buf)
	case bytes.HasPrefix(buf[:], []byte("PROXY ")):
		return readV1(r, buf[:shortest])
	}
	return Header{}, ErrMissing
}

// readV1 reads the rest of a line that begins with begin.
func readV1(r io.Reader, begin []byte) (Header, error) {
	line := make([]byte, 0, maxV1)
	line = append(line, begin...)
	for !bytes.HasSuffix(line, []byte("\r\n")) {
		if len(line) == maxV1 {
			return Header{}, malformed("line of more than %d bytes", maxV1)
		}
		n := len(line)
		line = line[:n+1]
		if _, err := io.ReadFull(r, line[n:]); err != nil {
			return Header{}, unexpected(err)
		}
	}
	return parseV1(string(line[:len(line)-2]))
}

// parseV1 parses a line without its end.
func parseV1(line string) (Header, error) {
	fields := strings.Split(line, " ")
	if len(fields) > 1 && fields[1] == "UNKNOWN" {
		return Header{}, nil // what follows has no meaning
	}
	if len(fields) != 6 || fields[1] != "TCP4" && fields[1] != "TCP6" {
		return Header{}, malformed("%q", line)
	}
	var ends [2]netip.AddrPort // the client, and the address that it connected to
	for i := range ends {
		addr, err := netip.ParseAddr(fields[2+i])
		port, portErr := strconv.ParseUint(fields[4+i], 10, 16)
		if err != nil || portErr != nil || addr.Zone() != "" ||
			addr.Is4() != (fields[1] == "TCP4") {
			return Header{}, malformed("%q", line)
		}
		ends[i] = netip.AddrPortFrom(addr.Unmap(), uint16(port))
	}
	return Header{Source: ends[0]}, nil
}

// The values of version 2 that are understood.
const (
	version2 = 0x2
	local    = 0x0
	proxied  = 0x1

	unspecified = 0x00
	tcp4        = 0x11
	tcp6        = 0x21

	typeCRC = 0x03
	typeSSL = 0x20
	// clientSSL is the bit of the first byte of typeSSL that says that the client has TLS.
	clientSSL = 0x01
)

// readV2 reads the rest of a header of version 2.
func readV2(r io.Reader, buf [fixedV2]byte) (Header, error) {
	if _, err := io.ReadFull(r, buf[shortest:]); err != nil {
		return Header{}, unexpected(err)
	}
	size := int(binary.BigEndian.Uint16(buf[14:]))
	if size > maxV2 {
		return Header{}, malformed("%d bytes, at most %d are accepted", size, maxV2)
	}
	all := make([]byte, fixedV2+size)
	copy(all, buf[:])
	if _, err := io.ReadFull(r, all[fixedV2:]); err != nil {
		return Header{}, unexpected(err)
	}
	return parseV2(all)
}

// parseV2 parses a whole header of version 2.
func parseV2(all []byte) (Header, error) {
	version, command, rest := all[12]>>4, all[12]&0xF, all[fixedV2:]
	switch {
	case version != version2:
		return Header{}, malformed("version %d", version)
	case command == local:
		return Header{}, nil // addresses have no meaning
	case command != proxied:
		return Header{}, malformed("command %d", command)
	}
	var h Header
	switch family := all[13]; family {
	case unspecified:
		return Header{}, nil // nor has what follows
	case tcp4, tcp6:
		size := 4
		if family == tcp6 {
			size = 16
		}
		if len(rest) < 2*size+4 {
			return Header{}, malformed("%d bytes of addresses", len(rest))
		}
		addr, _ := netip.AddrFromSlice(rest[:size]) // 4 and 16 bytes are an address
		h.Source = netip.AddrPortFrom(addr.Unmap(), binary.BigEndian.Uint16(rest[2*size:]))
		rest = rest[2*size+4:]
	default:
		return Header{}, malformed("family and protocol %#x", family)
	}
	return h, h.readFields(all, rest)
}

// readFields reads the fields at the end of a header: each has a type, a length and a value.
// Unknown types are skipped.
func (h *Header) readFields(all, rest []byte) error {
	for len(rest) > 0 {
		if len(rest) < 3 {
			return malformed("field of %d bytes", len(rest))
		}
		kind, size := rest[0], int(binary.BigEndian.Uint16(rest[1:]))
		if len(rest) < 3+size {
			return malformed("field of %d bytes, %d are there", size, len(rest)-3)
		}
		value := rest[3 : 3+size]
		switch kind {
		case typeCRC:
			if !checked(all, value) {
				return malformed("wrong checksum")
			}
		case typeSSL:
			h.Secure = size > 0 && value[0]&clientSSL != 0
		}
		rest = rest[3+size:]
	}
	return nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checked reports whether sum, a part of all, is the checksum of all with zeros in its place.
func checked(all, sum []byte) bool {
	if len(sum) != 4 {
		return false
	}
	want := binary.BigEndian.Uint32(sum)
	clear(sum)
	got := crc32.Checksum(all, castagnoli)
	binary.BigEndian.PutUint32(sum, want)
	return got == want
}

// unexpected returns the error of a connection that ends within a header.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
