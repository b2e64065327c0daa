package msg

import (
	"net/netip"
	"testing"

	"teamtalk/core/origin"
	"teamtalk/proto/pb"
)

// TestLoginTellsTheClientsAddress: db_proxy is told the address of a client, and not that of
// a proxy.
func TestLoginTellsTheClientsAddress(t *testing.T) {
	proxies, err := origin.ParseNetworks("test", []string{"10.9.0.0/16"})
	if err != nil {
		t.Fatal(err)
	}
	inWorld(t, Options{Proxies: proxies}, func(w *world) {
		for i, c := range [][2]string{
			{"192.0.2.7", "192.0.2.7"}, {"::ffff:192.0.2.7", "192.0.2.7"},
			{"2001:db8::7", "2001:db8::7"}, {"10.9.3.3", ""}, {"::ffff:10.9.3.3", ""},
		} {
			from, want := c[0], c[1]
			var got netip.Addr
			w.db.also = func(m pb.Message) (pb.Message, error) {
				if v, ok := m.(*pb.IMValidateReq); ok {
					got, _ = netip.AddrFromSlice(v.GetClientAddress())
				}
				return nil, nil
			}
			d := w.connectFrom(0, netip.AddrPortFrom(netip.MustParseAddr(from), 1))
			d.send(1, loginReq(uint32(i+1), win))
			d.want(pb.CmdLoginRes)
			if want == "" && got.IsValid() || want != "" && got != netip.MustParseAddr(want) {
				t.Errorf("from %s db_proxy was told %v, want %q", from, got, want)
			}
		}
	})
}
