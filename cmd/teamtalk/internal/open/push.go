package open

import (
	"teamtalk/core/config"
	"teamtalk/core/notify"
)

// APNs reads the credentials for the service of Apple.
func APNs(cfg *config.Push) (*notify.APNs, error) {
	return notify.NewAPNs(notify.APNsOptions{
		Topic: cfg.APNsTopic, KeyFile: cfg.APNsKeyFile, KeyID: cfg.APNsKeyID,
		TeamID:   cfg.APNsTeamID,
		CertFile: cfg.APNsCertFile, CertPassword: string(cfg.APNsPassword),
		Sandbox: cfg.APNsSandbox, Host: cfg.APNsURL,
	})
}

// FCM reads the credentials for the service of Google.
func FCM(cfg *config.Push) (*notify.FCM, error) {
	return notify.NewFCM(notify.FCMOptions{CredentialsFile: cfg.FCMCredentials,
		Host: cfg.FCMURL})
}
