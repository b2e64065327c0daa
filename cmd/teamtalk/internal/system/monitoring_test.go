package system

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/cert/certtest"
	"teamtalk/sql/dbtest"
	"teamtalk/sql/schema"
)

// monitoring is the folder of the rules and dashboards.
const monitoring = "../../example/monitoring"

// descriptions returns the labels of each metric that a process may have, by name. A process with
// all roles on the embedded store and one on MySQL and Redis without route servers have all.
func descriptions(t *testing.T) map[string][]string {
	t.Helper()
	db, redis := dbtest.MariaDB(t), dbtest.Redis(t)
	dsn := db.NewDatabase(t)
	if err := schema.Migrate(t.Context(), db.Open(t, dsn), schema.Options{}); err != nil {
		t.Fatal(err)
	}
	c := certtest.Write(t, t.TempDir(), certtest.Options{})
	links := newCheckFiles(t)
	labels := map[string][]string{
		// of Prometheus itself
		"up": nil,
	}
	for _, set := range []map[string]string{
		{"tls.certificate": c.Certificate, "tls.key": c.Key, "web.listen": "127.0.0.1:0",
			"msfs.quota": "10GiB", "dbproxy.message_expiry": "9600h",
			"audit.file":     filepath.Join(t.TempDir(), "audit.log"),
			"trace.endpoint": "http://127.0.0.1:1"},
		{"store": "mysql", "mysql.master": dsn, "redis.addrs": redis.Addr(),
			"registry.enabled": "true", "node.name": "a", "msg.whereabouts": "redis",
			"roles": "msg,dbproxy", "msg.server_listen": "127.0.0.1:0",
			"link_tls.ca": links.ca, "link_tls.certificate": links.server,
			"link_tls.key": links.serverKey},
	} {
		opt := testOptions(t, set)
		s, err := start(t.Context(), opt)
		if err != nil {
			t.Fatal(err)
		}
		newReloader(s, &opt) // registers metrics
		metricsOf(s.reg, labels)
		if err := s.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}
	return labels
}

// metricsOf adds the metrics of a registry.
func metricsOf(reg *prometheus.Registry, labels map[string][]string) {
	to := make(chan *prometheus.Desc)
	go func() {
		reg.Describe(to)
		close(to)
	}()
	parts := regexp.MustCompile(`fqName: "(\w+)".*constLabels: \{(.*)\}, variableLabels: \{(.*)\}`)
	names := regexp.MustCompile(`(\w+)(="(?:[^"\\]|\\.)*")?`)
	for d := range to {
		m := parts.FindStringSubmatch(d.String())
		if m == nil {
			continue
		}
		all := labels[m[1]]
		for _, n := range names.FindAllStringSubmatch(m[2]+","+m[3], -1) {
			all = append(all, n[1])
		}
		labels[m[1]] = append(all, "instance", "job")
	}
}

// expressions checks the metrics and labels of expressions of PromQL.
type expressions struct {
	t      *testing.T
	labels map[string][]string
	// recorded are the names of recording rules, used the metrics that were found.
	recorded, used map[string]bool
}

var (
	selector = regexp.MustCompile(
		`\b((?:teamtalk|process|instance\w*:teamtalk)[\w:]*|up)\b(?:\{([^}]*)\})?`)
	matcher  = regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)\s*"[^"]*"`)
	grouping = regexp.MustCompile(`\b(?:by|on)\s*\(([^)]*)\)`)
	variable = regexp.MustCompile(`\$\w+|\$\{\w+\}`)
)

// check fails for a metric that no process has, and for a label that the metric lacks.
func (e *expressions) check(where, expr string) {
	e.t.Helper()
	expr = variable.ReplaceAllString(expr, "5m")
	var all []string
	for _, m := range selector.FindAllStringSubmatch(expr, -1) {
		name := m[1]
		if strings.Contains(name, ":") {
			if !e.recorded[name] {
				e.t.Errorf("%s: no rule records %s", where, name)
			}
			all = append(all, "instance", "peer", "queue", "reason")
			continue
		}
		labels, ok := e.labels[name]
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if base := strings.TrimSuffix(name, suffix); !ok && base != name {
				if labels, ok = e.labels[base]; ok {
					labels = append(slices.Clone(labels), "le")
					name = base
				}
			}
		}
		if !ok {
			e.t.Errorf("%s: no process has the metric %s", where, name)
			continue
		}
		e.used[name] = true
		all = append(all, labels...)
		all = append(all, "instance", "job")
		for _, l := range matcher.FindAllStringSubmatch(m[2], -1) {
			if l[1] != "instance" && l[1] != "job" && !slices.Contains(labels, l[1]) {
				e.t.Errorf("%s: %s has no label %s, but %q", where, name, l[1], labels)
			}
		}
	}
	for _, g := range grouping.FindAllStringSubmatch(expr, -1) {
		for _, l := range strings.Split(g[1], ",") {
			if l = strings.TrimSpace(l); !slices.Contains(all, l) {
				e.t.Errorf("%s: groups by %s, which none of its metrics has", where, l)
			}
		}
	}
}

// TestMonitoring checks that the rules and dashboards name metrics that exist, with their labels,
// and that the page of operators has a row for each alert and dashboard.
func TestMonitoring(t *testing.T) {
	e := &expressions{t: t, labels: descriptions(t), recorded: map[string]bool{},
		used: map[string]bool{}}
	rules, page := read(t, "teamtalk.rules.yml"), read(t, "README.md")
	for _, m := range regexp.MustCompile(`- record: (\S+)`).FindAllStringSubmatch(rules, -1) {
		e.recorded[m[1]] = true
	}
	alerts := 0
	rule := regexp.MustCompile(
		`(?s)- (alert|record): (\S+)\n +expr: \|\n(.*?)\n +(?:for|labels|- )`)
	for _, m := range rule.FindAllStringSubmatch(rules+"\n      - ", -1) {
		e.check(m[2], m[3])
		if m[1] == "alert" {
			alerts++
			if !strings.Contains(page, "`"+m[2]+"`") {
				t.Errorf("README.md does not name the alert %s", m[2])
			}
		}
	}
	if n := strings.Count(rules, "- alert: "); alerts != n || n < 40 {
		t.Errorf("checked %d of %d alerts", alerts, n)
	}
	files, err := filepath.Glob(monitoring + "/dashboards/*.json")
	if err != nil || len(files) != 4 {
		t.Fatalf("dashboards: %q, %v", files, err)
	}
	for _, file := range files {
		dashboard(t, e, file)
		if !strings.Contains(page, filepath.Base(file)) {
			t.Errorf("README.md does not name %s", filepath.Base(file))
		}
	}
	if len(e.used) < 100 {
		t.Errorf("only %d metrics were found", len(e.used))
	}
}

// read returns a file of the folder.
func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(monitoring, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// dashboard checks the structure of a dashboard of Grafana, as far as Grafana needs it to show all
// panels, and the expressions of its panels.
func dashboard(t *testing.T, e *expressions, file string) {
	t.Helper()
	var d struct {
		UID, Title    string
		SchemaVersion int
		Templating    struct{ List []struct{ Name, Type string } }
		Panels        []struct {
			ID          int
			Type, Title string
			GridPos     rect
			Datasource  struct{ Type, UID string }
			Targets     []struct{ RefID, Expr string }
		}
	}
	b, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(b, &d)
	}
	if err != nil {
		t.Fatal(err)
	}
	if d.UID+".json" != filepath.Base(file) || d.Title == "" || d.SchemaVersion < 36 ||
		len(d.Templating.List) != 2 || d.Templating.List[0].Type != "datasource" {
		t.Errorf("%s: uid %q, title %q, schema %d, variables %v", file, d.UID, d.Title,
			d.SchemaVersion, d.Templating.List)
	}
	ids, taken := map[int]bool{}, places{}
	for _, p := range d.Panels {
		where := filepath.Base(file) + ", " + p.Title
		if ids[p.ID] || p.ID == 0 || p.Title == "" ||
			!slices.Contains([]string{"row", "stat", "timeseries"}, p.Type) {
			t.Errorf("%s: id %d, type %q", where, p.ID, p.Type)
		}
		ids[p.ID] = true
		taken.take(t, where, p.GridPos)
		if p.Type == "row" {
			continue
		}
		if len(p.Targets) == 0 || p.Datasource.UID != "${datasource}" {
			t.Errorf("%s: %d queries of %q", where, len(p.Targets), p.Datasource.UID)
		}
		for i, q := range p.Targets {
			if q.RefID != string(rune('A'+i)) {
				t.Errorf("%s: query %d is called %q", where, i, q.RefID)
			}
			e.check(where, q.Expr)
		}
	}
}

// rect is the place of a panel, on a grid of 24 columns.
type rect struct{ H, W, X, Y int }

// places are the cells of the grid with the panel on each.
type places map[[2]int]string

// take gives the cells of r to a panel. It fails when another one has one of them.
func (p places) take(t *testing.T, panel string, r rect) {
	t.Helper()
	if r.H < 1 || r.W < 1 || r.X < 0 || r.X+r.W > 24 {
		t.Errorf("%s: place %+v", panel, r)
	}
	for x := r.X; x < r.X+r.W; x++ {
		for y := r.Y; y < r.Y+r.H; y++ {
			if at := [2]int{x, y}; p[at] != "" {
				t.Fatalf("%s covers %s", panel, p[at])
			} else {
				p[at] = panel
			}
		}
	}
}

// TestPromtool lets the tool of Prometheus check the configuration and the rules, and run the tests
// of the rules. It is skipped where the tool is not installed: its package takes 94 MiB.
func TestPromtool(t *testing.T) {
	tool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed (Debian package prometheus)")
	}
	for _, args := range [][]string{{"check", "config", "prometheus.yml"},
		{"check", "rules", "teamtalk.rules.yml"}, {"test", "rules", "teamtalk.rules_test.yml"}} {
		cmd := exec.Command(tool, args...)
		cmd.Dir = monitoring
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}
