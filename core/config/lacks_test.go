package config

import (
	"slices"
	"strings"
	"testing"
)

// TestLacks: a process with some roles warns of the servers that no setting names.
func TestLacks(t *testing.T) {
	link := "TEAMTALK_LINK_TLS_PLAINTEXT_BEYOND_LOOPBACK=true"
	for _, x := range []struct {
		env  []string
		want []string // keys
	}{
		{[]string{}, nil},
		{[]string{"TEAMTALK_ROLES=msg"}, []string{"msg.file"}},
		{[]string{"TEAMTALK_ROLES=msg", "TEAMTALK_MSG_FILE=f:8601"}, nil},
		{[]string{"TEAMTALK_ROLES=msg,file"}, []string{"file.route", "file.dbproxy"}},
		{[]string{"TEAMTALK_ROLES=file", "TEAMTALK_FILE_CHECK_ONLINE=off",
			"TEAMTALK_FILE_COMPARE=0"}, nil},
		{[]string{"TEAMTALK_ROLES=file", "TEAMTALK_REGISTRY_ENABLED=true",
			"TEAMTALK_REGISTRY_ADVERTISE=f1"}, nil},
		{[]string{"TEAMTALK_ROLES=login,dbproxy"}, []string{"login.msfs_prior", "dbproxy.msfs"}},
		{[]string{"TEAMTALK_ROLES=login,dbproxy", "TEAMTALK_REGISTRY_ENABLED=true",
			"TEAMTALK_REGISTRY_ADVERTISE=lg1"}, nil},
		{[]string{"TEAMTALK_ROLES=login,msfs"}, []string{"msfs.url"}},
		{[]string{"TEAMTALK_ROLES=msg,file,route,dbproxy,msfs"}, []string{"msfs.url"}},
		{[]string{"TEAMTALK_ROLES=msg,file,route,dbproxy,msfs",
			"TEAMTALK_MSG_ADVERTISE_IP1=chat.example.com"}, nil},
		{[]string{"TEAMTALK_ROLES=msfs", "TEAMTALK_MSFS_URL=http://files.example.com"}, nil},
	} {
		c, err := Load(Sources{Env: append(x.env, link)})
		if err != nil {
			t.Errorf("%v: %v", x.env, err)
			continue
		}
		var keys []string
		for _, w := range c.Warnings() {
			key, _, _ := strings.Cut(w, ":")
			keys = append(keys, key)
		}
		if !slices.Equal(keys, x.want) {
			t.Errorf("%v: warnings about %v, want %v: %q", x.env, keys, x.want, c.Warnings())
		}
	}
}
