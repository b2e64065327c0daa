package system

import (
	"context"
	"fmt"

	"teamtalk/core/config"
	"teamtalk/core/engine"
	"teamtalk/core/im"
	"teamtalk/core/link"
	"teamtalk/core/notify"
	"teamtalk/core/pusher"
	"teamtalk/core/session"
	"teamtalk/handlers/httpapi"
	"teamtalk/handlers/msg"
	"teamtalk/handlers/push"
)

// startPush starts the push server, with the services that are set up.
func (s *system) startPush(context.Context) error {
	cfg := &s.cfg.Push
	opt := push.Options{Queue: cfg.Queue, Workers: cfg.Workers, Attempts: cfg.Attempts,
		LinkTimeout: s.cfg.Link.Timeout, LinkHeartbeat: s.cfg.Link.Heartbeat, Log: s.log, Registerer: s.reg}
	if cfg.APNsTopic != "" {
		apns, err := notify.NewAPNs(notify.APNsOptions{Topic: cfg.APNsTopic, KeyFile: cfg.APNsKeyFile, KeyID: cfg.APNsKeyID, TeamID: cfg.APNsTeamID,
			CertFile: cfg.APNsCertFile, CertPassword: string(cfg.APNsPassword), Sandbox: cfg.APNsSandbox, Host: cfg.APNsURL})
		if err != nil {
			return fmt.Errorf("%w (settings push.apns_…)", err)
		}
		opt.IOS = apns
	}
	if cfg.FCMCredentials != "" {
		fcm, err := notify.NewFCM(notify.FCMOptions{CredentialsFile: cfg.FCMCredentials, Host: cfg.FCMURL})
		if err != nil {
			return fmt.Errorf("%w (setting push.fcm_credentials)", err)
		}
		opt.Android = fcm
	}
	s.push = push.New(opt)
	return s.listen(&port{name: "push"}, "push.listen", cfg.Addr(s.cfg.AllInOne()), engine.Options{Handler: s.push})
}

// connectPush links the message server to the push servers. Without any it asks nobody about pushes.
func (s *system) connectPush(m *msg.Server) error {
	g, err := s.pushGroup(s.cfg.Msg.Push, m.PushLink())
	if g != nil {
		m.ConnectPush(g)
	}
	return err
}

// pushGroup makes the links to the push servers: to the one in this process, if it is here and has a service, and to those at the addresses. nil: there
// are none.
func (s *system) pushGroup(addrs []string, handler session.Handler) (*link.Group, error) {
	var here session.Handler
	if s.push != nil && (s.cfg.Push.APNsTopic != "" || s.cfg.Push.FCMCredentials != "") {
		here = s.push
	}
	if here == nil && len(addrs) == 0 {
		return nil, nil
	}
	return s.group("push", here, addrs, 1, handler)
}

// apiPushes is what has phones pushed to about messages of the HTTP API; nil: nothing.
func (s *system) apiPushes(text *im.TextCipher, db, route *link.Group) (httpapi.Pushes, error) {
	p := pusher.New(pusher.Options{Role: roleHTTP, Text: pushText(s.cfg), Cipher: text, Log: s.log, Registerer: s.reg})
	g, err := s.pushGroup(s.cfg.HTTP.Push, p.Link())
	if g == nil {
		return nil, err
	}
	p.Connect(pusher.Peers{Push: g, DB: db, Tokens: db, Route: route})
	return p, nil
}

// pushText is how many characters of a message a push shows, as options have it: they take 0 for their default.
func pushText(cfg *config.Config) int {
	if cfg.Msg.PushText == 0 {
		return -1
	}
	return cfg.Msg.PushText
}
