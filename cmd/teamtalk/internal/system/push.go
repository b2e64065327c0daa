package system

import (
	"context"
	"fmt"

	"teamtalk/cmd/teamtalk/internal/open"
	"teamtalk/cmd/teamtalk/internal/system/peering"
	"teamtalk/cmd/teamtalk/internal/system/ports"
	"teamtalk/cmd/teamtalk/internal/system/stops"
	"teamtalk/core/config"
	"teamtalk/core/engine"
	"teamtalk/core/im"
	"teamtalk/core/link"
	"teamtalk/core/pusher"
	"teamtalk/core/session"
	"teamtalk/handlers/httpapi"
	"teamtalk/handlers/msg"
	"teamtalk/handlers/push"
)

// startPush starts the push server, with the push services that the settings describe.
func (s *system) startPush(context.Context) error {
	cfg := &s.cfg.Push
	opt := push.Options{
		Queue: cfg.Queue, Workers: cfg.Workers, Attempts: cfg.Attempts,
		LinkTimeout: s.cfg.Link.Timeout, LinkHeartbeat: s.cfg.Link.Heartbeat, Log: s.log,
		Registerer: s.reg,
	}
	if cfg.APNsTopic != "" {
		apns, err := open.APNs(cfg)
		if err != nil {
			return fmt.Errorf("%w (settings push.apns_…)", err)
		}
		opt.IOS = apns
	}
	if cfg.FCMCredentials != "" {
		fcm, err := open.FCM(cfg)
		if err != nil {
			return fmt.Errorf("%w (setting push.fcm_credentials)", err)
		}
		opt.Android = fcm
	}
	s.push = push.New(opt)
	s.stops.Push(stops.FinishPushes, "push", s.push.Drain)
	return s.ports.Open(&ports.Port{Name: "push"}, "push.listen", cfg.Addr(s.cfg.AllInOne()),
		engine.Options{Links: s.push})
}

// connectPush links the message server to the push servers. Without any, the message
// server sends no pushes.
func (s *system) connectPush(m *msg.Server) error {
	g, err := s.pushGroup(s.cfg.Msg.Push, m.PushLink())
	if g != nil {
		m.ConnectPush(g)
	}
	return err
}

// pushGroup opens the links to the push servers: to the one in this process, if it has a
// push service, and to those at the addresses, or those that are registered. It returns nil when
// there are none, and never will be.
func (s *system) pushGroup(addrs []string, handler session.LinkHandler) (*link.Group, error) {
	var here session.LinkHandler
	if s.push != nil && pushes(&s.cfg.Push) {
		here = s.push
	}
	if here == nil && len(addrs) == 0 && s.registry == nil {
		return nil, nil
	}
	return s.group(peering.Peers{Role: config.RolePush, Here: here, Addrs: addrs, Handler: handler})
}

// pushes reports whether a push server has a push service.
func pushes(cfg *config.Push) bool { return cfg.APNsTopic != "" || cfg.FCMCredentials != "" }

// apiPushes returns the sender of pushes for messages of the HTTP API; nil without push
// servers.
func (s *system) apiPushes(text *im.TextCipher, db, route *link.Group) (httpapi.Pushes, error) {
	p := pusher.New(pusher.Options{
		Role: config.RoleHTTP, Text: s.cfg.Msg.PushText, Cipher: text, Log: s.log,
		Registerer: s.reg,
	})
	g, err := s.pushGroup(s.cfg.HTTP.Push, p.Link())
	if g == nil {
		return nil, err
	}
	p.Connect(pusher.Peers{Push: g, DB: db, Tokens: db, Route: route})
	return p, nil
}
