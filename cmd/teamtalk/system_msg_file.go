package main

import (
	"teamtalk/core/session"
	"teamtalk/handlers/msg"
)

// connectFiles links the message server to the file servers: to the one in this process, if it is here, and to those at the addresses. Each has a link of
// its own, since only the server that made a transfer has it.
func (s *system) connectFiles(m *msg.Server) error {
	if s.file != nil {
		if err := s.connectFile(m, s.file.Servers(), nil); err != nil {
			return err
		}
	}
	for _, addr := range s.cfg.Msg.File {
		if err := s.connectFile(m, nil, []string{addr}); err != nil {
			return err
		}
	}
	return nil
}

func (s *system) connectFile(m *msg.Server, here session.Handler, addrs []string) error {
	l := m.FileLink()
	g, err := s.group("file", here, addrs, 1, l)
	if err != nil {
		return err
	}
	m.ConnectFile(l, g)
	return nil
}
