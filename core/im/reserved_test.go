package im

import "testing"

func TestReservedNames(t *testing.T) {
	for _, name := range []string{"admin", "Admin", "ADMIN", " admin ", "ad-min", "a.d.m.i.n",
		"_root_", "ｒｏｏｔ", "Ａｄｍｉｎ", "аdmin", "admіn", "αdmin", "ádmin", "adm\u200bin", "adm\u00adin",
		"\u202eadmin", "admin\u0301",
		"𝐚𝐝𝐦𝐢𝐧", "ⓐⓓⓜⓘⓝ", "adm1n", "r00t", "5ystem", "sy$tem", "admin1",
		"root 2", "adrnin", "admln", "AdmIn", "Administrator", "ѕуѕтем", "管理员", "系统 管理员", "管理员1",
		"Team Talk", "ROOT!"} {
		if !ReservedName(name) {
			t.Errorf("%q is not reserved", name)
		}
	}
	for _, name := range []string{"", "alice", "adam", "roots", "mina", "admiral", "Zoë", "张三",
		"王管", "Анна", "Σίσυφος", "u00001", "12345", "systemd", "\xff", "root\xff\xffx", "r"} {
		if ReservedName(name) {
			t.Errorf("%q is reserved", name)
		}
	}
}

// FuzzReservedName takes arbitrary names, and requires the same answer with characters that
// cannot be seen.
func FuzzReservedName(f *testing.F) {
	for _, s := range []string{"admin", "ｒｏｏｔ", "\xff", "管理员"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if ReservedName(name) != ReservedName("\u200b"+name+"\u2060") {
			t.Errorf("%q: other answer with invisible characters", name)
		}
	})
}
