package engine

import (
	"net"
	"testing"

	"teamtalk/core/pdu"
	"teamtalk/core/session"
)

// mirror echoes and records nothing.
type mirror struct{}

func (mirror) Open(*session.Client) error { return nil }
func (mirror) Frame(s *session.Client, h pdu.Header, body []byte) {
	s.SendFrame(frameOf(h.Command, h.Seq, body))
}
func (mirror) Close(*session.Client, error) {}

// BenchmarkConnect measures a connection from its dial to its end, with one echo.
func BenchmarkConnect(b *testing.B) {
	s := start(b, Options{Clients: mirror{}})
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			c, err := net.DialTimeout("tcp", s.Addr().String(), patience)
			if err != nil {
				b.Error(err)
				return
			}
			(&client{c, b}).echo(hello)
			_ = c.(*net.TCPConn).SetLinger(0) // the kernel keeps no port
			_ = c.Close()
		}
	})
}
