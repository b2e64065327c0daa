package system

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"teamtalk/core/cert/certtest"
	"teamtalk/core/link"
	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// proved returns the settings of servers with a certificate of their own CA.
func proved(c certtest.Cert, plaintext string) map[string]string {
	return map[string]string{"link_tls.ca": c.Certificate, "link_tls.certificate": c.Certificate,
		"link_tls.key": c.Key, "link_tls.cpp_plaintext": plaintext}
}

// startRoles starts the roles with the settings, and returns the addresses of their ports.
func startRoles(t *testing.T, roles string, sets ...map[string]string) (*system,
	map[string]string) {
	t.Helper()
	all := map[string]string{"roles": roles}
	for _, set := range sets {
		for key, value := range set {
			all[key] = value
		}
	}
	s, err := start(t.Context(), testOptions(t, all))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Stop(context.WithoutCancel(t.Context())) })
	at := map[string]string{}
	for _, p := range s.ports.List() {
		at[p.Name] = p.Addr().String()
	}
	return s, at
}

// refusals returns the count of refused connections for a reason.
func refusals(t *testing.T, s *system, reason string) (n float64) {
	t.Helper()
	all, err := s.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range all {
		if family.GetName() != "teamtalk_engine_refused_total" {
			continue
		}
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "reason" && l.GetValue() == reason {
					n += m.GetCounter().GetValue()
				}
			}
		}
	}
	return n
}

// TestStrangersAtServerPorts connects to each server port without the right certificate.
func TestStrangersAtServerPorts(t *testing.T) {
	own := certtest.Write(t, t.TempDir(), certtest.Options{})
	old := certtest.Write(t, t.TempDir(), certtest.Options{Begin: time.Now().Add(-2 * time.Hour),
		End: time.Now().Add(-time.Hour)})
	roots, err := os.ReadFile(own.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	expired, err := os.ReadFile(old.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	both := t.TempDir() + "/ca.pem"
	if err := os.WriteFile(both, append(roots, expired...), 0o600); err != nil {
		t.Fatal(err)
	}
	s, at := startRoles(t, "login,route,dbproxy,file,push", proved(own, "off"),
		map[string]string{"link_tls.ca": both})
	other := certtest.Shared().Pair
	tests := []struct {
		reason string
		certs  []tls.Certificate
		plain  bool
	}{
		{"plaintext", nil, true},
		{"no certificate", nil, false},
		{"certificate of another CA", []tls.Certificate{other}, false},
		{"expired certificate", []tls.Certificate{old.Pair}, false},
	}
	for _, port := range []string{"route", "dbproxy", "login servers", "file servers", "push"} {
		for _, test := range tests {
			before := refusals(t, s, test.reason)
			var err error
			if test.plain {
				err = sendPlain(at[port])
			} else {
				_, err = link.DialTLS(t.Context(), showing(test.certs), at[port])
			}
			if err == nil {
				t.Errorf("%s, %s: the port accepts it", port, test.reason)
			}
			for refusals(t, s, test.reason) == before { // the alert leaves before the count
				if t.Context().Err() != nil {
					t.Fatalf("%s, %s: not counted", port, test.reason)
				}
				time.Sleep(time.Millisecond) // no event reports the count
			}
		}
	}
}

// showing returns a dialler that shows a certificate, whichever CA the port asks for.
func showing(certs []tls.Certificate) *tls.Dialer {
	c := &tls.Certificate{}
	if len(certs) > 0 {
		c = &certs[0]
	}
	get := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c, nil }
	return &tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, GetClientCertificate: get}}
}

// sendPlain sends a heartbeat without TLS. It returns the end of the connection.
func sendPlain(addr string) error {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	if _, err := nc.Write(pdu.AppendHeader(nil, pb.CmdHeartBeat, 0)); err != nil {
		return err
	}
	_, err = nc.Read(make([]byte, 1))
	return err
}

// TestLinksWithTLS runs the message server apart from the others, in each step of the switch
// to TLS, and with both ends one step apart.
func TestLinksWithTLS(t *testing.T) {
	own := certtest.Write(t, t.TempDir(), certtest.Options{})
	none := map[string]string{}
	steps := []map[string]string{none, proved(own, "dial"), proved(own, "accept"),
		proved(own, "off")}
	for i := range steps {
		for _, j := range []int{i - 1, i, i + 1} {
			if j < 0 || j == len(steps) {
				continue
			}
			_, at := startRoles(t, "login,route,dbproxy", steps[i])
			s, _ := startRoles(t, "msg", steps[j], map[string]string{"msg.route": at["route"],
				"msg.dbproxy": at["dbproxy"], "msg.login": at["login servers"]})
			for {
				ok, text := isReady(t, s)
				if ok {
					break
				}
				if t.Context().Err() != nil {
					t.Fatalf("servers at step %d, message server at step %d: %s", i, j, text)
				}
				time.Sleep(time.Millisecond) // no event reports the state
			}
		}
	}
}

// isReady asks the admin port.
func isReady(t *testing.T, s *system) (bool, string) {
	t.Helper()
	nc, err := net.Dial("tcp", s.admin.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_, err = io.WriteString(nc, "GET /readyz HTTP/1.0\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(nc)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Contains(all, []byte(" 200 ")), strings.TrimSpace(string(all))
}

// TestBadCertificateOpensNothing starts all roles with settings of TLS that fail: no database,
// no folder, no file and no port is opened.
func TestBadCertificateOpensNothing(t *testing.T) {
	own := certtest.Write(t, t.TempDir(), certtest.Options{})
	other := certtest.Write(t, t.TempDir(), certtest.Options{})
	old := certtest.Write(t, t.TempDir(), certtest.Options{Begin: time.Now().Add(-2 * time.Hour),
		End: time.Now().Add(-time.Hour)})
	with := func(key, value string) map[string]string {
		set := proved(own, "off")
		set[key] = value
		return set
	}
	for name, set := range map[string]map[string]string{
		"certificate of another CA": with("link_tls.ca", other.Certificate),
		"no file":                   with("link_tls.certificate", own.Certificate+".none"),
		"key of another":            with("link_tls.key", other.Key),
		"ended":                     proved(old, "off"),
		"incomplete":                with("link_tls.ca", ""),
		"beyond loopback":           {"route.listen": ":0"},
		"ended, for clients":        {"tls.certificate": old.Certificate, "tls.key": old.Key},
	} {
		dir := t.TempDir()
		set["data_dir"], set["audit.file"] = dir+"/data", dir+"/audit.log"
		before := descriptors(t)
		s, err := start(t.Context(), testOptions(t, set))
		if err == nil {
			_ = s.Stop(t.Context())
			t.Errorf("%s: the start did not fail", name)
			continue
		}
		if !strings.Contains(err.Error(), "tls.") {
			t.Errorf("%s: the error names no setting: %v", name, err)
		}
		if list, err := os.ReadDir(dir); err != nil || len(list) > 0 {
			t.Errorf("%s: made %v, %v", name, list, err)
		}
		if more := leaked(dir, before, descriptors(t)); len(more) > 0 {
			t.Errorf("%s: open after the failed start: %q", name, more)
		}
	}
}
