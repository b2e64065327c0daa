package admin

import (
	"strings"
	"testing"
)

// FuzzReadUsers reads arbitrary files of users. The users that it accepts must be fit for
// a store.
func FuzzReadUsers(f *testing.F) {
	for _, s := range []string{"name\na\n", "name,password,nick\na,b,c\n\"d\",\"e\ne\",f\n",
		"\xef\xbb\xbfname,department\nx,1\n", "name;x", "\"name\n", "name,name\n,\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		users, err := ReadUsers(strings.NewReader(text))
		if err != nil {
			if err.Error() == "" {
				t.Error("an error without a text")
			}
			return
		}
		names := map[string]bool{}
		for _, u := range users {
			u.Password += "x"
			if err := u.Complete(); err != nil || names[FoldName(u.Name)] || u.Line < 2 {
				t.Errorf("%+v: %v", u, err)
			}
			names[FoldName(u.Name)] = true
		}
	})
}
