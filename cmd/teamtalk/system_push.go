package main

import (
	"context"
	"fmt"

	"teamtalk/core/engine"
	"teamtalk/core/notify"
	"teamtalk/core/session"
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

// connectPush links the message server to the push servers: to the one in this process, if it is here and has a service, and to those at the addresses. Without
// any it asks nobody about pushes.
func (s *system) connectPush(m *msg.Server) error {
	var here session.Handler
	if s.push != nil && (s.cfg.Push.APNsTopic != "" || s.cfg.Push.FCMCredentials != "") {
		here = s.push
	}
	if here == nil && len(s.cfg.Msg.Push) == 0 {
		return nil
	}
	g, err := s.group("push", here, s.cfg.Msg.Push, 1, m.PushLink())
	if err != nil {
		return err
	}
	m.ConnectPush(g)
	return nil
}
