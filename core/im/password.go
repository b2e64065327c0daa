package im

import (
	"crypto/md5"
	"crypto/subtle"
	"encoding/hex"
)

// ClientPassword is what a client sends for a clear password: lowercase hex md5. The protocol gives no choice; put TLS in front where the
// network is not trusted.
func ClientPassword(clear string) string { return hexMD5(clear) }

// HashPassword is what the store keeps: hex md5( sent + salt ), where sent is what ClientPassword returned.
func HashPassword(sent, salt string) string { return hexMD5(sent + salt) }

// Check reports whether sent, the hex md5 a client sent, is this account's password. It takes the same time for any wrong one.
func (a *Account) Check(sent string) bool {
	return subtle.ConstantTimeCompare([]byte(HashPassword(sent, a.Salt)), []byte(a.Password)) == 1
}

func hexMD5(s string) string {
	sum := md5.Sum([]byte(s))
	return hex.EncodeToString(sum[:])
}
