package im

import (
	"crypto/md5"
	"crypto/subtle"
	"encoding/hex"
)

// ClientPassword returns the form in which a client sends a clear password: lowercase hex
// md5. The protocol prescribes it: use TLS where the network is not trusted.
func ClientPassword(clear string) string { return hexMD5(clear) }

// HashPassword returns the form that the store keeps: hex md5( sent + salt ), where sent
// is the result of ClientPassword.
func HashPassword(sent, salt string) string { return hexMD5(sent + salt) }

// Check reports whether sent, the hex md5 from a client, is the account's password. It
// takes the same time for every wrong password.
func (a *Account) Check(sent string) bool {
	return subtle.ConstantTimeCompare([]byte(HashPassword(sent, a.Salt)), []byte(a.Password)) == 1
}

func hexMD5(s string) string {
	sum := md5.Sum([]byte(s))
	return hex.EncodeToString(sum[:])
}
