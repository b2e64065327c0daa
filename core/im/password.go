package im

import (
	"crypto/md5"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"

	"teamtalk/core/kdf"
)

// A stored password is a StoredPassword in one of two forms. The first implementation knows
// only md5: a graphics card tries 10^10 of these a second. The other form is argon2id, see
// package kdf. Both are made from what clients send, the md5 of the clear password: a
// server does not receive more.

// ClientPassword returns the form in which a client sends a clear password: lowercase hex
// md5. The protocol prescribes it: use TLS where the network is not trusted.
func ClientPassword(clear string) string { return hexMD5(clear) }

// HashPassword returns the md5 form of a password: hex md5( sent + salt ), where sent is
// the result of ClientPassword.
func HashPassword(sent, salt string) string { return hexMD5(sent + salt) }

// StoredPassword is a password as the store holds it.
type StoredPassword struct {
	Hash string // a result of HashPassword, or a form of package kdf
	// Salt is that of HashPassword. A form of package kdf has its own salt: then Salt is
	// empty, or SaltMoved.
	Salt string
}

// SaltMoved is the salt of a row that was moved from md5 to a form of package kdf when its
// user logged in. The password is the same as before. A password that was set in that form
// has an empty salt.
const SaltMoved = "md5"

// Stored returns the account's password as the store holds it.
func (a *Account) Stored() StoredPassword { return StoredPassword{a.Password, a.Salt} }

// IsKDF reports whether the password has a form of package kdf rather than md5.
func (p StoredPassword) IsKDF() bool { return kdf.Is(p.Hash) }

// Check reports whether sent, the hex md5 from a client, is the account's password. It
// takes the same time for every wrong password of the same form: microseconds for md5,
// milliseconds for a form of package kdf.
func (a *Account) Check(sent string) bool { return a.Stored().Check(sent) }

// Check reports whether sent, the hex md5 from a client, is the password; see
// Account.Check.
func (p StoredPassword) Check(sent string) bool {
	if p.IsKDF() {
		form, err := kdf.Parse(p.Hash)
		return err == nil && form.Matches(sent)
	}
	return subtle.ConstantTimeCompare([]byte(HashPassword(sent, p.Salt)), []byte(p.Hash)) == 1
}

// PasswordPolicy says in which form new passwords are stored.
type PasswordPolicy struct {
	// KDF are the costs of argon2id. The zero value: md5, which C++ servers can check.
	KDF kdf.Params
}

// UsesKDF reports whether new passwords get a form of package kdf.
func (p PasswordPolicy) UsesKDF() bool { return p.KDF != kdf.Params{} }

// Store returns the form in which a new password is stored. sent is the result of
// ClientPassword.
func (p PasswordPolicy) Store(sent string) StoredPassword {
	if p.UsesKDF() {
		return StoredPassword{Hash: kdf.New(p.KDF, sent)}
	}
	salt := rand.Text()[:MaxSalt]
	return StoredPassword{HashPassword(sent, salt), salt}
}

// Improves reports whether Improve would return a costlier form.
func (p PasswordPolicy) Improves(old StoredPassword) bool {
	if !p.UsesKDF() || !old.IsKDF() {
		return p.UsesKDF()
	}
	form, err := kdf.Parse(old.Hash)
	return err == nil && form.Below(p.KDF)
}

// Improve returns a costlier form of the same password, for a row that the policy would
// store with higher costs; false: the row stays. sent is the password, which was checked.
// The result has the same CredentialDigest, unless it was moved from md5.
func (p PasswordPolicy) Improve(old StoredPassword, sent string) (StoredPassword, bool) {
	if !p.Improves(old) {
		return old, false
	}
	if !old.IsKDF() {
		return StoredPassword{kdf.New(p.KDF, sent), SaltMoved}, true
	}
	form, err := kdf.Parse(old.Hash)
	if err != nil {
		return old, false
	}
	higher := p.KDF
	higher.Memory = max(higher.Memory, form.Memory)
	higher.Passes = max(higher.Passes, form.Passes)
	return StoredPassword{kdf.With(higher, sent, form.Salt), old.Salt}, true
}

// The lengths of a CredentialDigest, in bytes: of md5 and of a form of package kdf.
const (
	MD5Credential = 8
	KDFCredential = 16
)

// CredentialDigest returns a short digest of a stored password and its salt. Servers
// compare digests to learn that a password changed. That of an md5 form is too short to
// find the password. That of a form of package kdf depends on its salt alone, so that it
// tells nothing of the password, and remains when the costs are raised.
func CredentialDigest(password, salt string) string {
	if form, err := kdf.Parse(password); err == nil {
		sum := sha256.Sum256(append([]byte("credential\x00"), form.Salt...))
		return string(sum[:KDFCredential])
	}
	sum := sha256.Sum256([]byte(password + "\x00" + salt))
	return string(sum[:MD5Credential])
}

// SetStored sets what the credential says of the password.
func (c *Credential) SetStored(p StoredPassword) {
	c.Digest = CredentialDigest(p.Hash, p.Salt)
	c.Moved = p.IsKDF() && p.Salt == SaltMoved
}

func hexMD5(s string) string {
	sum := md5.Sum([]byte(s))
	return hex.EncodeToString(sum[:])
}
