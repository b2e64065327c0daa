package im

import "strings"

// UserEdit is a change of a user's entry; see UserStore.EditUser. Fields that are nil do not
// change.
type UserEdit struct {
	Name, Domain, Nick, Phone, Email, Avatar, SignInfo *string

	Gender   *uint32
	DepartID *uint32 // 0: none
	Status   *UserStatus
	Password *StoredPassword
}

// Check returns the reason why no user can have these values, with kind Invalid: those of
// CheckAccount; and when nothing changes. The store itself checks that the department exists and
// that the name is free.
func (e *UserEdit) Check() error {
	if *e == (UserEdit{}) {
		return Errorf(Invalid, "the edit changes nothing")
	}
	a := Account{User: User{Name: "x"}}
	for _, f := range []struct{ from, to *string }{
		{e.Name, &a.Name}, {e.Domain, &a.Domain}, {e.Nick, &a.Nick}, {e.Phone, &a.Phone},
		{e.Email, &a.Email}, {e.Avatar, &a.Avatar}, {e.SignInfo, &a.SignInfo},
	} {
		if f.from != nil {
			*f.to = *f.from
		}
	}
	if e.Gender != nil {
		a.Gender = *e.Gender
	}
	if e.Status != nil {
		a.Status = *e.Status
	}
	if e.Password != nil {
		a.Password, a.Salt = e.Password.Hash, e.Password.Salt
	}
	return CheckAccount(&a)
}

// Assignments returns the columns of IMUser that the edit changes, as the text of an UPDATE
// ("nick=?, phone=?"), and their values. Without a change the text is empty.
func (e *UserEdit) Assignments() (set string, values []any) {
	var columns []string
	add := func(column string, value any) {
		columns, values = append(columns, column+"=?"), append(values, value)
	}
	for _, f := range []struct {
		column string
		value  *string
	}{
		{"name", e.Name}, {"domain", e.Domain}, {"nick", e.Nick}, {"phone", e.Phone},
		{"email", e.Email}, {"avatar", e.Avatar}, {"sign_info", e.SignInfo},
	} {
		if f.value != nil {
			add(f.column, *f.value)
		}
	}
	if e.Gender != nil {
		add("sex", *e.Gender)
	}
	if e.DepartID != nil {
		add("departId", *e.DepartID)
	}
	if e.Status != nil {
		add("status", uint32(*e.Status))
	}
	if e.Password != nil {
		add("password", e.Password.Hash)
		add("salt", e.Password.Salt)
	}
	return strings.Join(columns, ", "), values
}
