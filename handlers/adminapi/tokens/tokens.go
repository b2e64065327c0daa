// Package tokens keeps the bearer tokens of the admin API in a file, one a line: name, role and
// the SHA-256 of the token. A token has 256 random bits, so that its hash tells nothing about it.
package tokens

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"teamtalk/core/filelock"
)

// Role says what a token allows.
type Role string

// The roles of tokens.
const (
	ReadOnly Role = "read-only" // calls that change nothing
	Admin    Role = "admin"     // all calls
)

// Token is a line of the file.
type Token struct {
	Name string // for the audit log; unique
	Role Role
	Hash [sha256.Size]byte
}

// prefix begins each token, so that programs that look for leaked secrets recognise one.
const prefix = "ttadm_"

// Make makes a token. The caller shows the secret once; it cannot be derived from the Token.
func Make(name string, role Role) (t Token, secret string, err error) {
	if err := check(name, role); err != nil {
		return t, "", err
	}
	b := make([]byte, 32)
	rand.Read(b) // never fails
	secret = prefix + base64.RawURLEncoding.EncodeToString(b)
	return Token{name, role, sha256.Sum256([]byte(secret))}, secret, nil
}

// validName matches names of tokens.
var validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$`)

// check rejects a name or a role.
func check(name string, role Role) error {
	if !validName.MatchString(name) {
		return fmt.Errorf("name %q: want 1 to 32 letters, digits, dots, dashes and underscores",
			name)
	}
	if role != ReadOnly && role != Admin {
		return fmt.Errorf("role %q is neither admin nor read-only", role)
	}
	return nil
}

const (
	maxFile   = 1 << 20 // bytes
	maxTokens = 1000
)

// Parse parses the content of a file. An error names the line.
func Parse(text []byte) ([]Token, error) {
	if len(text) > maxFile {
		return nil, fmt.Errorf("more than %d bytes", maxFile)
	}
	var list []Token
	names, n := map[string]bool{}, 0
	for line := range bytes.Lines(text) {
		n++
		f := strings.Fields(string(line))
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		if len(f) != 3 {
			return nil, fmt.Errorf("line %d: want a name, a role and a hash", n)
		}
		t := Token{Name: f[0], Role: Role(f[1])}
		if err := check(t.Name, t.Role); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		digits, ok := strings.CutPrefix(f[2], "sha256:")
		hash, err := hex.DecodeString(digits)
		if !ok || err != nil || len(hash) != sha256.Size {
			return nil, fmt.Errorf("line %d: the third field is no hash such as sha256:9f86…", n)
		}
		copy(t.Hash[:], hash)
		if names[t.Name] {
			return nil, fmt.Errorf("line %d: the name %s occurs twice", n, t.Name)
		}
		names[t.Name] = true
		if list = append(list, t); len(list) > maxTokens {
			return nil, fmt.Errorf("more than %d tokens", maxTokens)
		}
	}
	return list, nil
}

// Format returns the content of a file with these tokens.
func Format(list []Token) []byte {
	var b bytes.Buffer
	b.WriteString("# Tokens of the admin API: name, role, hash. teamtalk token changes the file.\n")
	for _, t := range list {
		fmt.Fprintf(&b, "%s %s sha256:%x\n", t.Name, t.Role, t.Hash)
	}
	return b.Bytes()
}

// Read reads a file.
func Read(path string) ([]Token, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read tokens: %w", err)
	}
	list, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return list, nil
}

const (
	// lockWait is the longest wait for another process, which holds the lock for milliseconds.
	lockWait = 10 * time.Second
	// lockPause is the pause between two attempts.
	lockPause = 5 * time.Millisecond
)

// Change reads a file, which may be missing, and writes what do returns, all or nothing. Of two
// processes that change it at the same time the second one waits for the first. The file
// keeps its owner, its group and its permissions: the server may have another account than the
// administrator that changes it. Only the owner may read a new file.
func Change(path string, do func([]Token) ([]Token, error)) error {
	// The lock is that of the folder, because each change replaces the file.
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("change tokens: %w", err)
	}
	defer dir.Close()
	ctx, cancel := context.WithTimeout(context.Background(), lockWait)
	defer cancel()
	if err := filelock.Wait(ctx, dir, lockPause); err != nil {
		return fmt.Errorf("change tokens: %w", err)
	}
	list, err := Read(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if list, err = do(list); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".tokens-*") // readable for its owner alone
	if err != nil {
		return fmt.Errorf("write tokens: %w", err)
	}
	if err = keepOwner(f, path); err == nil {
		_, err = f.Write(Format(list))
	}
	if err == nil {
		err = f.Sync()
	}
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("write tokens: %w", err)
	}
	return nil
}

// Has reports whether a token of the list has a name.
func Has(list []Token, name string) bool {
	return slices.ContainsFunc(list, func(t Token) bool { return t.Name == name })
}

// Store has the tokens of a file, and reads it again when it has changed. Any goroutine.
type Store struct {
	path string

	mu   sync.Mutex
	info os.FileInfo // of the file that was read
	list []Token
}

// Open reads the file.
func Open(path string) (*Store, error) {
	s := &Store{path: path}
	_, _, err := s.Find("")
	return s, err
}

// Find returns the token with a secret. Its duration says nothing about the tokens. After an
// error no token counts: a file that cannot be read must not keep a token that was removed.
func (s *Store) Find(secret string) (found Token, ok bool, err error) {
	return s.FindHash(sha256.Sum256([]byte(secret)))
}

// FindHash returns the token whose secret has a hash, as Find.
func (s *Store) FindHash(hash [sha256.Size]byte) (found Token, ok bool, err error) {
	list, err := s.current()
	if err != nil {
		return found, false, err
	}
	for _, t := range list {
		if subtle.ConstantTimeCompare(hash[:], t.Hash[:]) == 1 {
			found, ok = t, true
		}
	}
	return found, ok, nil
}

// current returns the tokens in the file.
func (s *Store) current() ([]Token, error) {
	info, err := os.Stat(s.path)
	if err != nil {
		return nil, fmt.Errorf("read tokens: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.info != nil && os.SameFile(s.info, info) && s.info.Size() == info.Size() &&
		s.info.ModTime().Equal(info.ModTime()) {
		return s.list, nil
	}
	list, err := Read(s.path)
	if err != nil {
		s.info = nil
		return nil, err
	}
	s.info, s.list = info, list
	return list, nil
}
