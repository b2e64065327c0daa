package cert

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/cert/certtest"
)

const day = 24 * time.Hour

// ring makes a CA that is valid for one time, and a certificate of it that is valid for
// another one.
func ring(t *testing.T, ca, own time.Duration) (file string, o Options) {
	t.Helper()
	dir := t.TempDir()
	a, pair, err := NewAuthority("ring", ca)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(dir, "ca.pem")
	if err := pair.Write(file, filepath.Join(dir, "ca-key.pem")); err != nil {
		t.Fatal(err)
	}
	if pair, err = a.Issue([]string{"db1"}, own); err != nil {
		t.Fatal(err)
	}
	o = Options{Certificate: filepath.Join(dir, "db1.pem"), Key: filepath.Join(dir, "db1-key.pem")}
	if err := pair.Write(o.Certificate, o.Key); err != nil {
		t.Fatal(err)
	}
	return file, o
}

// TestEndedCA: when the CA has ended and the certificate of the server has not, as with other
// tools, the error names the CA.
func TestEndedCA(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		at := func(name string) string { return filepath.Join(dir, name) }
		a, pair, err := NewAuthority("ring", day)
		if err != nil {
			t.Fatal(err)
		}
		if err := pair.Write(at("ca.pem"), at("ca-key.pem")); err != nil {
			t.Fatal(err)
		}
		longer := *a.cert
		longer.NotAfter = longer.NotAfter.Add(30 * day)
		a.cert = &longer
		if pair, err = a.Issue([]string{"db1"}, 20*day); err != nil {
			t.Fatal(err)
		}
		o := Options{Certificate: at("db1.pem"), Key: at("db1-key.pem"),
			Log: slog.New(slog.DiscardHandler)}
		if err := pair.Write(o.Certificate, o.Key); err != nil {
			t.Fatal(err)
		}
		p, err := LoadPeers(at("ca.pem"), o)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * day)
		err = p.Reload()
		if err == nil || !strings.Contains(err.Error(), `the CA "ring" in `+at("ca.pem")+" ended") {
			t.Errorf("got %v, want the end of the CA", err)
		}
	})
}

// TestWarnings watches certificates for days: of clients' ports, of a server, and of its CA.
func TestWarnings(t *testing.T) {
	for _, test := range []struct {
		name          string
		ca, own, seen time.Duration
		want          map[string]int // lines by file and level
	}{
		{"long", 365 * day, 90 * day, 59 * day, nil},
		// The start of the last day before the limit is no warning, each of 5 days after it is.
		{"own", 365 * day, 90 * day, 65 * day, map[string]int{"db1.pem WARN": 5}},
		{"ca", 95 * day, 60 * day, 0, nil},
		{"a short life", 365 * day, 12 * day, 7 * day, nil},
		{"a short life ends", 365 * day, 12 * day, 10 * day, map[string]int{"db1.pem WARN": 3}},
		// A certificate ends no later than its CA.
		{"both", 90 * day, 90 * day, 93 * day, map[string]int{"db1.pem WARN": 29,
			"ca.pem WARN": 29, "db1.pem ERROR": 4, "ca.pem ERROR": 4}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ca, o := ring(t, test.ca, test.own)
				var log bytes.Buffer
				o.Log = slog.New(slog.NewTextHandler(&log, nil))
				p, err := LoadPeers(ca, o)
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				go Watch(ctx, p)
				time.Sleep(test.seen + time.Hour)
				synctest.Wait()
				if got := lines(log.String()); fmt.Sprint(got) != fmt.Sprint(test.want) {
					t.Errorf("lines %v, want %v:\n%s", got, test.want, &log)
				}
			})
		})
	}
}

// lines counts the lines of a log by file and level.
func lines(log string) map[string]int {
	count := map[string]int{}
	for line := range strings.Lines(log) {
		for _, file := range []string{"db1.pem", "ca.pem", "cert.pem"} {
			for _, level := range []string{"WARN", "ERROR"} {
				if strings.Contains(line, "/"+file) && strings.Contains(line, "level="+level) {
					count[file+" "+level]++
				}
			}
		}
	}
	return count
}

// TestWarningAtStart reads certificates that end soon.
func TestWarningAtStart(t *testing.T) {
	now := time.Now()
	o := options(t, certtest.Options{Begin: now.Add(-80 * day), End: now.Add(10 * day)})
	var log bytes.Buffer
	o.Log = slog.New(slog.NewTextHandler(&log, nil))
	if _, err := Load(o); err != nil {
		t.Fatal(err)
	}
	if got := lines(log.String()); got["cert.pem WARN"] != 1 ||
		!strings.Contains(log.String(), "days=9") {
		t.Errorf("the log is %q", log.String())
	}
	log.Reset()
	if _, err := LoadPeers(o.Certificate, o); err != nil { // it is its own CA
		t.Fatal(err)
	}
	if got := strings.Count(log.String(), "a certificate ends soon"); got != 1 {
		t.Errorf("the log is %q", log.String())
	}
}

// TestEnds reads the metrics of a server's certificate and of its CA.
func TestEnds(t *testing.T) {
	ca, o := ring(t, 365*day, 90*day)
	reg := prometheus.NewRegistry()
	o.Log, o.Registerer = slog.New(slog.DiscardHandler), reg
	p, err := LoadPeers(ca, o)
	if err != nil {
		t.Fatal(err)
	}
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, family := range all {
		got[family.GetName()] = family.GetMetric()[0].GetGauge().GetValue()
	}
	own, root := p.files.End(), p.root.Load().NotAfter
	if !own.Before(root) {
		t.Errorf("the certificate ends at %v, its CA at %v", own, root)
	}
	for name, want := range map[string]time.Time{
		"teamtalk_servers_certificate_end_seconds": own, "teamtalk_servers_ca_end_seconds": root,
	} {
		if got[name] != float64(want.Unix()) {
			t.Errorf("%s is %v, want %v", name, got[name], want.Unix())
		}
	}
}
