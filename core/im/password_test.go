package im

import (
	"testing"

	"teamtalk/core/kdf"
)

// cheap are policies whose costs a test can afford, in the order of their costs.
var cheap = []PasswordPolicy{{}, {KDF: kdf.Params{Memory: 64, Passes: 1, Lanes: 1}},
	{KDF: kdf.Params{Memory: 128, Passes: 1, Lanes: 1}}}

// TestStoredPassword stores a password with each policy, checks it, and requires that
// Improve raises its costs and never lowers them.
func TestStoredPassword(t *testing.T) {
	sent := ClientPassword("secret")
	for i, policy := range cheap {
		p := policy.Store(sent)
		if err := CheckPassword(p.Hash, p.Salt); err != nil {
			t.Error(err)
		}
		if !p.Check(sent) || p.Check(ClientPassword("Secret")) || p.Check("") {
			t.Errorf("%+v does not match its password alone", p)
		}
		if p.IsKDF() != (i > 0) || policy.UsesKDF() != (i > 0) {
			t.Errorf("policy %d stores %+v", i, p)
		}
		if again := policy.Store(sent); again == p {
			t.Errorf("policy %d stored a password twice with one salt", i)
		}
		for j, other := range cheap {
			better, changed := other.Improve(p, sent)
			if changed != (j > i) || changed == (better == p) || !better.Check(sent) {
				t.Errorf("from policy %d to %d: %+v, %v", i, j, better, changed)
			}
		}
	}
}

// TestImproveKeepsTheHigherCost raises one cost of a form whose other cost is higher.
func TestImproveKeepsTheHigherCost(t *testing.T) {
	sent := ClientPassword("secret")
	old := StoredPassword{Hash: kdf.New(kdf.Params{Memory: 128, Passes: 1}, sent)}
	policy := PasswordPolicy{KDF: kdf.Params{Memory: 64, Passes: 2, Lanes: 1}}
	p, ok := policy.Improve(old, sent)
	form, err := kdf.Parse(p.Hash)
	if !ok || err != nil || form.Memory != 128 || form.Passes != 2 {
		t.Errorf("%+v, %v, %v", form.Params, ok, err)
	}
}

// TestBrokenForm requires that a damaged form matches nothing.
func TestBrokenForm(t *testing.T) {
	p := StoredPassword{Hash: "$argon2id$v=19$m=64,t=1,p=1$", Salt: ""}
	if p.Check("") || !p.IsKDF() {
		t.Error("a damaged form is not one that matches nothing")
	}
	if better, changed := cheap[2].Improve(p, ""); changed {
		t.Errorf("a damaged form became %+v", better)
	}
}
