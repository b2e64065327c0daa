package proc

import (
	"net"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestParseStat(t *testing.T) {
	line := "42 (a) b) (c) S 1 42 42 0 -1 4194560 100 0 0 0 70 30 5 5 20 0 4 0 12345 1000 200 " +
		"18446744073709551615 1 1"
	st, err := parseStat([]byte(line))
	if err != nil || st != (stat{comm: "a) b) (c", ticks: 100, start: 12345}) {
		t.Errorf("%+v, %v", st, err)
	}
	if _, err := parseStat([]byte(strings.Replace(line, " S ", " Z ", 1))); !gone(err) {
		t.Errorf("a zombie counts as alive: %v", err)
	}
	for _, bad := range []string{"", "42", "42 (x", "42 (x) S 1",
		strings.Replace(line, "70", "x", 1)} {
		if _, err := parseStat([]byte(bad)); err == nil || gone(err) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestParseMachine(t *testing.T) {
	m, err := parseMachine([]byte("cpu  10 1 20 1000 500 2 3 4 10 0\ncpu0 1 2 3\ncpu1 1 2 " +
		"3\nintr 5\n"))
	if err != nil || m != (machine{busy: 40, taken: 4, cores: 2}) {
		t.Errorf("%+v, %v", m, err)
	}
	for _, bad := range []string{"", "cpu0 1\n", "cpu x\ncpu0 1\n"} {
		if _, err := parseMachine([]byte(bad)); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestParseHexAddr(t *testing.T) {
	for text, want := range map[string]string{
		"0100007F:1F90":                         "127.0.0.1:8080",
		"00000000:0050":                         "0.0.0.0:80",
		"0000000000000000FFFF00000100007F:1F90": "127.0.0.1:8080",
		"00000000000000000000000001000000:0001": "[::1]:1",
	} {
		if got, err := parseHexAddr(text); err != nil || got.String() != want {
			t.Errorf("%s is %v, want %s (%v)", text, got, want, err)
		}
	}
	for _, bad := range []string{"", "0100007F", "0100007F:", "01:1F90", "xx00007F:1F90",
		"0100007F:12345"} {
		if _, err := parseHexAddr(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

// TestCommandLine keeps secrets out of command lines, because people pass reports to
// others.
func TestCommandLine(t *testing.T) {
	f := found{args: []string{"teamtalk", "serve", "--roles", "dbproxy", "--mysql.master",
		"tt:hidden@tcp(db)/x", "--redis.password=hidden", "--push.key-file", "hidden",
		"--workers=4"}}
	got := commandLine(f)
	if strings.Contains(got, "hidden") || !strings.HasPrefix(got,
		"teamtalk serve --roles dbproxy --mysql.master …") ||
		!strings.HasSuffix(got, "--workers=4") {
		t.Errorf("%s", got)
	}
	if got := commandLine(found{args: []string{strings.Repeat("ü",
		300)}}); len(got) > longCommand+len("…") || !strings.HasSuffix(got, "…") {
		t.Errorf("%d bytes: %s", len(got), got)
	}
	if got := commandLine(found{stat: stat{comm: "kthreadd"}}); got != "kthreadd" {
		t.Errorf("%q", got)
	}
}

// TestSocketsOfTheKernel checks that the kernel lists this process's sockets as the tables in /proc
// do.
func TestSocketsOfTheKernel(t *testing.T) {
	empty := func() *sockets {
		return &sockets{conns: map[uint64]ends{}, at: map[ends]uint64{}, owner: map[uint64]int{},
			of: map[int][]uint64{}}
	}
	made := 0
	for addr, from := range map[string]string{"127.0.0.1:0": "127.0.0.2", "[::1]:0": "::1",
		":0": ""} {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Logf("%s: %v", addr, err) // no IPv6 here
			continue
		}
		defer l.Close()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		c, err := d.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		made += 2 // the server's end may not be accepted yet, and is no descriptor then
	}
	told, read := empty(), empty()
	list, err := tcpSockets()
	if err != nil {
		t.Skip("the kernel does not list sockets:", err)
	}
	for _, c := range list {
		told.addSocket(c)
	}
	if err := read.readTCP(); err != nil {
		t.Fatal(err)
	}
	mine := func(s *sockets) (found []string) {
		s.addOwner(os.Getpid())
		for _, l := range s.listening {
			if s.owner[l.inode] != 0 {
				found = append(found, "listens at "+l.addr.String())
			}
		}
		for inode, e := range s.conns {
			if s.owner[inode] != 0 {
				found = append(found, e.local.String()+" to "+e.remote.String())
			}
			if s.at[e] != inode {
				t.Errorf("the socket of %v is %d and %d", e, inode, s.at[e])
			}
		}
		slices.Sort(found)
		return found
	}
	got, want := mine(told), mine(read)
	if !slices.Equal(got, want) || len(want) < max(made, 2) {
		t.Errorf("the kernel lists %q, /proc has %q", got, want)
	}
}
