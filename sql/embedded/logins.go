package embedded

import (
	"context"
	"encoding/json"
	"time"

	"teamtalk/core/im"
	"teamtalk/sql/embedded/arrivals"
)

// logins is the part that keeps wrong passwords and the networks of logins.
type logins struct{ *database }

// loginQueries are the reads of logins, and of the forms of passwords.
func (st *statements) loginQueries() []query {
	return []query{{&st.loginMarks, `select j.key, m.value, m.at
		from json_each(?) j cross join LoginMark m
		on m.kind = json_extract(j.value, '$[0]') and m.key = json_extract(j.value, '$[1]')
		order by j.key, m.at, m.value`},
		{&st.failureNetworks, "select distinct key from LoginMark where kind = ?"},
		{&st.passwords, "select count(*), coalesce(sum(password glob '$argon2id$*'), 0) " +
			"from IMUser"}}
}

// NameKeys returns keys of names; see im.LoginStore.
func (s *logins) NameKeys(_ context.Context, names []string) ([]string, error) {
	keys := make([]string, len(names))
	for i, name := range names {
		keys[i] = NameKey(name)
	}
	return keys, nil
}

// LoginMarks returns the marks of keys; see im.LoginStore.
func (s *logins) LoginMarks(ctx context.Context,
	keys []im.LoginMarkKey) ([][]im.LoginMark, error) {
	asked := make([][2]any, len(keys))
	for i, k := range keys {
		asked[i] = [2]any{k.Kind, k.Key}
	}
	text, err := json.Marshal(asked)
	if err != nil {
		return nil, im.WithKind(im.Invalid, "keys of login marks", err)
	}
	lists := make([][]im.LoginMark, len(keys))
	err = s.rows(ctx, "login marks", arrivals.None, s.read.loginMarks, func(row scanner) error {
		var i int
		var m im.LoginMark
		err := row.Scan(&i, &m.Value, &m.At)
		lists[i] = append(lists[i], m)
		return err
	}, string(text))
	if err != nil {
		return nil, err
	}
	return lists, nil
}

// FailureNetworks returns the keys of networks; see im.LoginStore.
func (s *logins) FailureNetworks(ctx context.Context) (networks []string, err error) {
	err = s.rows(ctx, "networks with login marks", arrivals.None, s.read.failureNetworks,
		func(row scanner) error {
			var key string
			err := row.Scan(&key)
			networks = append(networks, key)
			return err
		}, im.FailuresOfNetwork)
	return networks, err
}

// maxFailures is the number of wrong passwords that are kept, on average one for each key
// and more where passwords are guessed. failureSlack is how many more there may be for a
// time: counting them reads the index.
const (
	maxFailures  = 4 * im.MaxFailureKeys
	failureSlack = 1024
)

// ChangeLoginMarks changes marks; see im.LoginStore.
func (s *logins) ChangeLoginMarks(ctx context.Context, drops []im.LoginMarkDrop,
	puts []im.NewLoginMark) error {
	for i := range puts {
		if err := im.CheckLoginMark(&puts[i]); err != nil {
			return err
		}
	}
	return s.call("change login marks", func() error {
		return s.run(ctx, transaction{}, func(w *writer) error {
			for _, d := range drops {
				if err := w.dropLoginMarks(d); err != nil {
					return err
				}
			}
			for i := range puts {
				if err := w.putLoginMark(&puts[i]); err != nil {
					return err
				}
			}
			return w.boundLoginMarks(puts)
		})
	})
}

func (w *writer) dropLoginMarks(d im.LoginMarkDrop) error {
	if d.Values == nil {
		return w.exec("delete from LoginMark where kind = ? and key = ?", d.Kind, d.Key)
	}
	for _, v := range d.Values {
		if err := w.exec("delete from LoginMark where kind = ? and key = ? and value = ?",
			d.Kind, d.Key, []byte(v)); err != nil {
			return err
		}
	}
	return nil
}

// Marks of a key that have expired, and those beyond its bound. Both run for each wrong
// password. With the index LoginMark_age neither of them sorts the marks of a key.
const (
	expireMarks = "delete from LoginMark where kind = ?1 and key = ?2 and at <= ?3"
	boundMarks  = "delete from LoginMark where kind = ?1 and key = ?2 and value in (select value " +
		"from LoginMark where kind = ?1 and key = ?2 order by at desc, value limit -1 offset ?3)"
)

func (w *writer) putLoginMark(p *im.NewLoginMark) error {
	keep := int64(p.Keep / time.Second)
	if err := w.exec(expireMarks, p.Kind, p.Key, int64(p.At)-keep); err != nil {
		return err
	}
	insert := "insert into LoginMark (kind, key, value, at, until) values (?, ?, ?, ?, ?) " +
		"on conflict do nothing"
	if p.Kind.Renews() {
		insert = "insert or replace into LoginMark (kind, key, value, at, until) " +
			"values (?, ?, ?, ?, ?)"
	}
	return w.exec(insert, p.Kind, p.Key, []byte(p.Value), p.At, int64(p.At)+keep)
}

// boundLoginMarks removes marks beyond the bounds of their keys, those that have expired, and
// failures beyond the bound of all.
func (w *writer) boundLoginMarks(puts []im.NewLoginMark) error {
	if len(puts) == 0 {
		return nil
	}
	bounded := map[im.LoginMarkKey]bool{}
	for _, p := range puts {
		if bounded[p.LoginMarkKey] {
			continue
		}
		bounded[p.LoginMarkKey] = true
		if err := w.exec(boundMarks, p.Kind, p.Key, p.Kind.Most()); err != nil {
			return err
		}
	}
	if err := w.exec("delete from LoginMark where until <= ?", puts[0].At); err != nil {
		return err
	}
	if w.loginMarks -= len(puts); w.loginMarks > 0 {
		return nil
	}
	w.loginMarks = failureSlack
	return w.dropFailuresBeyond(maxFailures)
}

// dropFailuresBeyond removes all but most failures: those that expire first.
func (w *writer) dropFailuresBeyond(most int) error {
	return w.exec("delete from LoginMark where (kind, key, value) in (select kind, key, value "+
		"from LoginMark where kind <> ?1 order by until desc limit -1 offset ?2)",
		im.NetworksOfUser, most)
}
