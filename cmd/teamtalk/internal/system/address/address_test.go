package address

import (
	"net"
	"testing"

	"teamtalk/core/config"
)

// TestPublicHost: on ports that listen on all addresses, clients are told the host at which they
// reach the message server, if the process runs one. Other hosts remain.
func TestPublicHost(t *testing.T) {
	own := Own()
	for _, x := range []struct {
		env    []string
		listen string
		want   string
	}{
		{nil, "0.0.0.0:0", own},
		{[]string{"TEAMTALK_MSG_ADVERTISE_IP1=chat.example.com"}, "0.0.0.0:0", "chat.example.com"},
		{[]string{"TEAMTALK_MSG_ADVERTISE_IP1=chat.example.com"}, "[::]:0", "chat.example.com"},
		{[]string{"TEAMTALK_MSG_ADVERTISE_IP1=chat.example.com"}, "127.0.0.1:0", "127.0.0.1"},
		{[]string{"TEAMTALK_MSG_ADVERTISE_IP1=chat.example.com", "TEAMTALK_ROLES=login,file,msfs"},
			"0.0.0.0:0", own},
	} {
		cfg, err := config.Load(config.Sources{Env: x.env})
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", x.listen)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		at := l.Addr().(*net.TCPAddr)
		if got := File(cfg, at); got.IP != x.want || got.Port != uint32(at.Port) {
			t.Errorf("%v at %s: the address for files is %+v, want %s", x.env, x.listen, got,
				x.want)
		}
		_, port, _ := net.SplitHostPort(at.String())
		want := "http://" + net.JoinHostPort(x.want, port)
		if got := Web(cfg, "", l.(*net.TCPListener)); got != want {
			t.Errorf("%v at %s: the URL is %s, want %s", x.env, x.listen, got, want)
		}
	}
}
