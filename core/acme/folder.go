package acme

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"teamtalk/core/access"
	"teamtalk/core/filelock"
)

// The files of a folder. Those of challenges begin with a prefix.
const (
	accountFile     = "account.pem"
	certificateFile = "certificate.pem" // the key as well
	lockFile        = "lock"
	httpPrefix      = "http-"
	alpnPrefix      = "alpn-"
	newPrefix       = "new-" // a file that is not whole
)

// folder is where a Manager keeps its state: one folder for each CA.
type folder string

// openFolder makes the folder of a CA below dir. It refuses a folder that other users of the
// machine may read, because it holds private keys.
func openFolder(dir, directory string) (folder, error) {
	u, err := url.Parse(directory)
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, strings.ReplaceAll(u.Host, ":", "_"))
	if err := os.MkdirAll(path, 0o700); err != nil {
		return "", err
	}
	for _, p := range []string{dir, path} {
		info, err := os.Stat(p)
		if err != nil {
			return "", err
		}
		if access.Others(info) {
			return "", fmt.Errorf("other users may enter %s, which holds private keys (mode "+
				"%04o): chmod 700 it", p, info.Mode().Perm())
		}
	}
	return folder(path), nil
}

// named reports whether a part of a file's name from outside cannot lead to another folder.
func named(part string) bool {
	return part != "" && len(part) < 256 && strings.IndexFunc(part, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' ||
			r == '-' || r == '_' || r == '.')
	}) < 0
}

// path returns the path of a file.
func (f folder) path(name string) string { return filepath.Join(string(f), name) }

// state returns a text that changes with the contents of a file; "" for none. Time and size would
// not do: two files that are written within a few milliseconds may have the same.
func (f folder) state(name string) (string, error) {
	data, err := os.ReadFile(f.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", sha256.Sum256(data)), nil
}

// write replaces a file. A reader sees the old contents or the new ones.
func (f folder) write(name string, data []byte) error {
	next, err := os.CreateTemp(string(f), newPrefix)
	if err != nil {
		return err
	}
	_, err = next.Write(data)
	if err = errors.Join(err, next.Sync(), next.Close()); err == nil {
		err = os.Rename(next.Name(), f.path(name))
	}
	if err != nil {
		_ = os.Remove(next.Name()) // the first error is the cause
	}
	return err
}

// remove removes the files whose names begin with one of the prefixes.
func (f folder) remove(prefixes ...string) {
	entries, _ := os.ReadDir(string(f)) // what remains has no effect on later orders
	for _, e := range entries {
		if slices.ContainsFunc(prefixes, func(p string) bool {
			return strings.HasPrefix(e.Name(), p)
		}) {
			_ = os.Remove(f.path(e.Name()))
		}
	}
}

// pair reads a certificate and its key from one file.
func (f folder) pair(name string) (*tls.Certificate, error) {
	data, err := os.ReadFile(f.path(name))
	if err != nil {
		return nil, err
	}
	c, err := tls.X509KeyPair(data, data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.path(name), err)
	}
	return &c, nil
}

// writePair writes a certificate and its key.
func (f folder) writePair(name string, key crypto.PrivateKey, chain [][]byte) error {
	text, err := keyText(key)
	if err != nil {
		return err
	}
	for _, der := range chain {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return f.write(name, text)
}

// keyText returns a private key in PEM form.
func keyText(key crypto.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), err
}

// account returns the key of the account. It makes one when there is none.
func (f folder) account() (crypto.Signer, error) {
	data, err := os.ReadFile(f.path(accountFile))
	if errors.Is(err, fs.ErrNotExist) {
		key, err := newKey()
		if err != nil {
			return nil, err
		}
		text, err := keyText(key)
		if err != nil {
			return nil, err
		}
		return key, f.write(accountFile, text)
	}
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("%s holds no key in PEM form: remove it to get a new account",
			f.path(accountFile))
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.path(accountFile), err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s holds a key that cannot sign", f.path(accountFile))
	}
	return signer, nil
}

// newKey makes a private key.
func newKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

// lock waits until no other process orders. The lock ends with the process in any case.
func (f folder) lock(ctx context.Context) (unlock func(), err error) {
	file, err := os.OpenFile(f.path(lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := filelock.Wait(ctx, file, time.Second); err != nil {
		_ = file.Close()
		return nil, err
	}
	return func() { _ = file.Close() }, nil // which ends the lock
}
