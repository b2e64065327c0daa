package im

import (
	"crypto/md5"
	"crypto/sha256"
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

// credentialDigest is the length of a CredentialDigest.
const credentialDigest = 8

// CredentialDigest returns a short digest of a stored password and its salt. Servers
// compare digests to learn that a password changed. It is too short to find the password.
func CredentialDigest(password, salt string) string {
	sum := sha256.Sum256([]byte(password + "\x00" + salt))
	return string(sum[:credentialDigest])
}

func hexMD5(s string) string {
	sum := md5.Sum([]byte(s))
	return hex.EncodeToString(sum[:])
}
