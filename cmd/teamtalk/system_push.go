package main

import (
	"context"
	"fmt"

	"teamtalk/core/engine"
	"teamtalk/core/notify"
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
