package sim

import (
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// A mutation is a fault that is put into the servers, to see that the simulation finds it.
// A line of their source is replaced in a build that leaves the files as they are.
//
//	.ci/mutations              all of them
//	.ci/mutations pins -seeds 3000

var mutate = flag.String("mutate", "", "regular expression: the mutations that TestMutations tries")

// mutation is a fault. One whose name begins with mesh is tried without a route server.
type mutation struct {
	name     string
	file     string // from the root
	old, new string // a part of the file that occurs once, and what replaces it
	// One of the kinds of failures occurs within so many seeds.
	kinds string
	seeds int
}

// mutations returns the faults, each with the promise that it breaks.
func mutations() []mutation {
	return []mutation{
		// The calls of a conversation go to one db_proxy while any of them is open.
		{"pins", "core/link/pins.go", "if at := s.keys[key]; at != nil {",
			"if at := s.keys[key]; at != nil && key == 0 {", "order|overtaken", 200},
		// A text goes to those that are members when it is stored.
		{"group versions ignored", "handlers/msg/group/members.go",
			"if v := w.m.GroupVersion; w.m.HasGroupVersion && v != 0 {\n\t\tif g.version == v {",
			"if v := w.m.GroupVersion; v == 1<<31 {\n\t\tif g.version == v {",
			"stranger|not delivered", 300},
		{"group versions not told", "handlers/dbproxy/messages.go",
			"= p.row.ID, p.row.Duplicate, p.row.GroupVersion", "= p.row.ID, p.row.Duplicate, 0",
			"stranger|not delivered", 300},
		// Members that are online know the members of their groups.
		{"changes not passed on", "handlers/msg/group/change.go", "gs.opt.Others.Forward(n)", "",
			"members", 100},
		{"changes not told", "handlers/msg/group/change.go",
			"gs.changed(n, func(cur, chg []uint32) { gs.tell(n, cur, chg, nil) })",
			"gs.changed(n, func(cur, chg []uint32) {})", "members", 100},
		// A receiver gets the texts of a conversation in the order of their ids.
		{"turns", "handlers/msg/turns/turns.go",
			"case last.id < prev && prev < id:\n\t\treturn true",
			"case last.id < prev && prev < id:\n\t\treturn false", "order|not delivered", 100},
		// The texts of a sender are stored in the order in which they were written.
		{"order behind a failure, msg", "handlers/msg/conversation/order.go",
			"admit(f *attempt) bool {\n\tif !f.repeats {",
			"admit(f *attempt) bool {\n\tif true {", "overtaken|unacked", 200},
		{"order behind a failure, dbproxy", "handlers/dbproxy/order.go",
			"return int32(p.epoch-f.epoch) > 0 ||", "return true ||", "overtaken", 300},
		// A text that is acked is delivered.
		{"search for a lost text", "handlers/msg/missing/missing.go",
			"if f.open.Add(1) > maxSearches {", "if f.open.Add(1) > 0 {",
			"not delivered|order", 1000},
		// A process that drains finishes what it has accepted. Without the drain of a
		// db_proxy no client loses anything: its message servers ask again.
		{"drain of a message server", "handlers/msg/drain.go",
			"h.conversation.ReleaseAcks(l)", "", "unacked", 1000},
		// Reading clears the unread count.
		{"read acks", "handlers/msg/conversation/read.go",
			"if err := h.store.Send(uint64(key.User), r.seq, m); err != nil {",
			"if err := error(nil); err != nil {", "unread", 10},
		// A query is answered.
		{"queries are not held", "handlers/msg/passing/hold.go",
			"case im.Unavailable, im.Busy, im.Closed:\n\t\treturn true",
			"case im.Unavailable, im.Busy, im.Closed:\n\t\treturn false", "query", 100},
		// Nothing waits for ever.
		{"acks of repeats", "handlers/dbproxy/messages.go",
			"p.msg.CreateTime = p.row.FirstCreated",
			"p.msg.MsgID, p.msg.CreateTime = 0, p.row.FirstCreated", "waits", 100},
	}
}

// statusMutations returns the faults of what is told of users, and those of meshes.
func statusMutations() []mutation {
	return []mutation{
		// Statuses that were lost with a link to a route server are told again.
		{"statuses are not told again", "handlers/msg/peers/links.go",
			"p.statuses.linkLost(p.opt.Now())", "_ = kickKept", "status", 200},
		// Without a route server, a text goes to the message servers that have its users.
		{"mesh: texts", "handlers/mesh/forward.go", "s.links.Peer(node).Send(m)", "_ = node",
			"not delivered", 100},
		{"mesh: texts of groups", "handlers/mesh/groups.go", "to[n] = struct{}{}", "_ = n",
			"not delivered", 100},
		// Statuses that were lost with a link are told again.
		{"mesh: statuses of a broken link", "handlers/mesh/changes.go",
			"s.behind[p] = struct{}{}", "_ = p", "status", 300},
	}
}

// source returns the path of a mutation's file and its text.
func (m *mutation) source(t *testing.T) (path, text string) {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("../../../..", m.file))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, string(b)
}

// TestMutationsApply: the parts that mutations replace exist. One that does not has to
// follow its code.
func TestMutationsApply(t *testing.T) {
	for _, m := range append(mutations(), statusMutations()...) {
		_, text := m.source(t)
		if n := strings.Count(text, m.old); n != 1 {
			t.Errorf("%s: %d times in %s: %s", m.name, n, m.file, m.old)
		}
	}
}

// TestMutations builds the simulation with each mutation and looks for a seed that fails.
func TestMutations(t *testing.T) {
	if *mutate == "" {
		t.Skip("it builds the simulation many times; run it with -args -mutate .")
	}
	chosen, err := regexp.Compile(*mutate)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range append(mutations(), statusMutations()...) {
		if !chosen.MatchString(m.name) {
			continue
		}
		t.Run(m.name, func(t *testing.T) {
			n := max(m.seeds, *seeds)
			out, err := exec.Command(m.build(t), "-test.run", "^TestSeeds$", "-test.v",
				"-seeds", strconv.Itoa(n), "-one",
				"-mesh="+strconv.FormatBool(strings.HasPrefix(m.name, "mesh"))).CombinedOutput()
			failure := regexp.MustCompile(`seed \d+( with meshes)?: \S+: (` + m.kinds + `): .*`)
			if found := failure.Find(out); err == nil || found == nil {
				t.Errorf("not found in %d seeds:\n%s", n, out)
			} else {
				t.Logf("%s", found)
			}
		})
	}
}

// build builds the test of this package with the mutation and returns its path.
func (m *mutation) build(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	path, text := m.source(t)
	changed, overlay := filepath.Join(dir, "changed.go"), filepath.Join(dir, "overlay.json")
	test := filepath.Join(dir, "sim.test")
	plan, err := json.Marshal(map[string]any{"Replace": map[string]string{path: changed}})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{overlay: plan,
		changed: []byte(strings.Replace(text, m.old, m.new, 1))} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("go", "test", "-c", "-vet=off", "-overlay", overlay, "-o", test, ".")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return test
}
