package embedded

import (
	"context"
	"encoding/json"

	"teamtalk/core/im"
	"teamtalk/sql/embedded/arrivals"
	"teamtalk/sql/embedded/marks"
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
				if err := marks.Drop(w.exec, d); err != nil {
					return err
				}
			}
			for i := range puts {
				if err := marks.Put(w.exec, &puts[i]); err != nil {
					return err
				}
			}
			if len(puts) == 0 {
				return nil
			}
			return w.boundLoginMarks(puts)
		})
	})
}

// boundLoginMarks removes marks beyond their bounds, and those that have expired.
func (w *writer) boundLoginMarks(puts []im.NewLoginMark) error {
	if err := marks.Bound(w.exec, puts); err != nil {
		return err
	}
	if w.loginMarks -= len(puts); w.loginMarks > 0 {
		return nil
	}
	w.loginMarks = failureSlack
	return marks.KeepFailures(w.exec, maxFailures)
}
