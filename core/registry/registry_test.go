package registry

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// full is a node that uses every part of a record.
func full() Node {
	return Node{Name: "msg-1.example", Role: "msg", Addr: "10.0.0.5:8000",
		Clients:  []string{"chat.example.com:8000", "[2001:db8::1]:8000"},
		Pages:    "10.0.0.5:8001",
		Capacity: 100000, Load: Load{Connections: 7, Users: 5}, Version: "v1.2.3"}
}

func TestRecord(t *testing.T) {
	for _, n := range []Node{full(), {Name: "a", Role: "push"}} {
		text, err := Encode(n)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Decode(n.Key().String(), text)
		if err != nil || !cmp.Equal(got, n) {
			t.Errorf("%s: %v, %v", text, cmp.Diff(n, got), err)
		}
	}
	later := `{"name":"a","role":"push","load":{},"zone":"north"}` // of a later version
	if _, err := Decode("push/a", later); err != nil {
		t.Error(err)
	}
}

func TestCheckHost(t *testing.T) {
	for _, s := range []string{"db1", "DB_1.example.com.", "10.0.0.5", "2001:db8::1",
		strings.Repeat("a", 253)} {
		if err := CheckHost(s); err != nil {
			t.Error(err)
		}
	}
	for _, s := range []string{"", "0.0.0.0", "::", "me@db1", "db1:80", "[::1]", "http://db1",
		"a b", "d\u00fc", "a\x1bb", strings.Repeat("a", 254)} {
		if err := CheckHost(s); err == nil {
			t.Errorf("%q is accepted", s)
		}
	}
}

// TestRefusedRecords breaks each rule of a record.
func TestRefusedRecords(t *testing.T) {
	long := strings.Repeat("x", 300)
	for name, change := range map[string]func(*Node){
		"no name":          func(n *Node) { n.Name = "" },
		"long name":        func(n *Node) { n.Name = long },
		"slash in name":    func(n *Node) { n.Name = "a/b" },
		"no role":          func(n *Node) { n.Role = "" },
		"long role":        func(n *Node) { n.Role = long },
		"digit in role":    func(n *Node) { n.Role = "msg2" },
		"no port":          func(n *Node) { n.Addr = "10.0.0.5" },
		"port 0":           func(n *Node) { n.Addr = "10.0.0.5:0" },
		"port too large":   func(n *Node) { n.Addr = "10.0.0.5:65536" },
		"no port of pages": func(n *Node) { n.Pages = "10.0.0.5" },
		"no host":          func(n *Node) { n.Addr = ":8000" },
		"long host":        func(n *Node) { n.Addr = long + ":8000" },
		"control in host":  func(n *Node) { n.Addr = "a\x1b[2J:8000" },
		"many clients":     func(n *Node) { n.Clients = []string{"a", "b", "c", "d", "e"} },
		"empty client":     func(n *Node) { n.Clients = []string{""} },
		"long client":      func(n *Node) { n.Clients = []string{long} },
		"long version":     func(n *Node) { n.Version = long },
		"line in version":  func(n *Node) { n.Version = "1\n2" },
		"negative":         func(n *Node) { n.Load.Users = -1 },
		"huge capacity":    func(n *Node) { n.Capacity = 1 << 62 },
	} {
		n := full()
		change(&n)
		if _, err := Encode(n); err == nil {
			t.Errorf("%s: encoded", name)
		} else if len(err.Error()) > 1000 {
			t.Errorf("%s: an error of %d bytes", name, len(err.Error()))
		}
	}
	n := full()
	for i := range n.Clients {
		n.Clients[i] = strings.Repeat("&", 200) // six bytes each in a record
	}
	if _, err := Encode(n); err == nil || !strings.Contains(err.Error(), "more than 1024") {
		t.Errorf("a record that is too long: %v", err)
	}
	text, err := Encode(full())
	if err != nil {
		t.Fatal(err)
	}
	for key, record := range map[string]string{
		"msg/other": text, "route/msg-1.example": text, "msg/a": "[]",
		"msg/msg-1.example": text + strings.Repeat(" ", MaxRecord), "msg/b": "",
		"msg/c": `{"name":"c","role":"msg","load":{"users":-1}}`,
	} {
		if n, err := Decode(key, record); err == nil {
			t.Errorf("%s: decoded as %v", key, n)
		}
	}
}

// FuzzDecode decodes any bytes. A node that is accepted keeps the rules of a record.
func FuzzDecode(f *testing.F) {
	text, err := Encode(full())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(full().Key().String(), text)
	f.Add("push/a", `{"name":"a","role":"push","capacity":1e3}`)
	f.Fuzz(func(t *testing.T, key, record string) {
		n, err := Decode(key, record)
		if err != nil {
			return
		}
		if n.Key().String() != key || n.check() != nil {
			t.Errorf("%q under %q was accepted", record, key)
		}
	})
}

// names returns the names of the nodes of a role.
func names(v *View, role string) string {
	list, _ := v.Nodes(role)
	var all []string
	for _, n := range list {
		all = append(all, fmt.Sprintf("%s@%d", n.Name, n.Epoch))
	}
	return strings.Join(all, " ")
}

func TestView(t *testing.T) {
	v := NewView()
	node := func(role, name string, epoch uint64) Node {
		return Node{Role: role, Name: name, Epoch: epoch}
	}
	loaded := node("msg", "a", 1)
	loaded.Load.Users = 9
	moved := node("msg", "a", 1)
	moved.Addr = "10.0.0.5:1"
	for _, x := range []struct {
		what     string
		list     []Node
		complete bool
		want     string // message servers after it
		changed  bool
	}{
		{"two start", []Node{node("msg", "b", 2), node("msg", "a", 1)}, true, "a@1 b@2", true},
		{"the same", []Node{node("msg", "a", 1), node("msg", "b", 2)}, true, "a@1 b@2", false},
		{"other load", []Node{loaded, node("msg", "b", 2)}, true, "a@1 b@2", false},
		{"another role", []Node{loaded, node("msg", "b", 2), node("push", "a", 1)}, true,
			"a@1 b@2", false},
		{"lost", nil, false, "a@1 b@2", false},
		{"one is back", []Node{node("msg", "b", 3)}, false, "a@1 b@3", true},
		{"settled", []Node{node("msg", "b", 3)}, true, "b@3", true},
		{"another address", []Node{moved}, true, "a@1", true},
		{"none", nil, true, "", true},
		{"still none", nil, true, "", false},
	} {
		_, changed := v.Nodes("msg")
		v.Update(x.list, x.complete)
		select {
		case <-changed:
			if !x.changed {
				t.Errorf("%s: told of a change", x.what)
			}
		default:
			if x.changed {
				t.Errorf("%s: not told", x.what)
			}
		}
		if got := names(v, "msg"); got != x.want {
			t.Errorf("%s: %q, want %q", x.what, got, x.want)
		}
	}
	before := v.Updates()
	v.Update([]Node{loaded}, true)
	if v.Updates() != before+1 {
		t.Errorf("%d updates after %d", v.Updates(), before)
	}
	if list, _ := v.Nodes("msg"); list[0].Load.Users != 9 || v.Count("msg") != 1 {
		t.Errorf("the load is not known: %v", list)
	}
}
