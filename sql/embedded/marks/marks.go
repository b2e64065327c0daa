// Package marks has the statements that change the table LoginMark: wrong passwords, and the
// networks of users' logins; see im.LoginStore.
package marks

import (
	"time"

	"teamtalk/core/im"
)

// Exec runs a statement in the transaction of the caller.
type Exec func(text string, args ...any) error

// Drop removes the marks of a key, or some of them.
func Drop(exec Exec, d im.LoginMarkDrop) error {
	if d.Values == nil {
		return exec("delete from LoginMark where kind = ? and key = ?", d.Kind, d.Key)
	}
	for _, v := range d.Values {
		if err := exec("delete from LoginMark where kind = ? and key = ? and value = ?", d.Kind,
			d.Key, []byte(v)); err != nil {
			return err
		}
	}
	return nil
}

// ExpireKey and BoundKey run for each wrong password: they remove the marks of a key that
// have expired, and those beyond its bound. With the index LoginMark_age neither of them sorts
// the marks of a key.
const (
	ExpireKey = "delete from LoginMark where kind = ?1 and key = ?2 and at <= ?3"
	BoundKey  = "delete from LoginMark where kind = ?1 and key = ?2 and value in (select value " +
		"from LoginMark where kind = ?1 and key = ?2 order by at desc, value limit -1 offset ?3)"
)

// Put puts a mark. The caller has to call Bound.
func Put(exec Exec, p *im.NewLoginMark) error {
	keep := int64(p.Keep / time.Second)
	if err := exec(ExpireKey, p.Kind, p.Key, int64(p.At)-keep); err != nil {
		return err
	}
	insert := "insert into LoginMark (kind, key, value, at, until) values (?, ?, ?, ?, ?) " +
		"on conflict do nothing"
	if p.Kind.Renews() {
		insert = "insert or replace into LoginMark (kind, key, value, at, until) " +
			"values (?, ?, ?, ?, ?)"
	}
	return exec(insert, p.Kind, p.Key, []byte(p.Value), p.At, int64(p.At)+keep)
}

// Bound removes the oldest marks beyond the bound of each key of puts, and all marks that have
// expired. puts is not empty.
func Bound(exec Exec, puts []im.NewLoginMark) error {
	bounded := map[im.LoginMarkKey]bool{}
	for _, p := range puts {
		if bounded[p.LoginMarkKey] {
			continue
		}
		bounded[p.LoginMarkKey] = true
		if err := exec(BoundKey, p.Kind, p.Key, p.Kind.Most()); err != nil {
			return err
		}
	}
	return exec("delete from LoginMark where until <= ?", puts[0].At)
}

// KeepFailures removes all but most failures: those that expire first.
func KeepFailures(exec Exec, most int) error {
	return exec("delete from LoginMark where (kind, key, value) in (select kind, key, value "+
		"from LoginMark where kind <> ?1 order by until desc limit -1 offset ?2)",
		im.NetworksOfUser, most)
}
