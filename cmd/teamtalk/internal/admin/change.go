package admin

import (
	"context"
	"fmt"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// UserChange is a change of a user by an administrator. Fields that are nil do not change, and
// an empty text clears a field.
type UserChange struct {
	Nick, Domain, Phone, Email, Avatar, Sign *string

	Gender     *string // see ParseGender
	Department *string // see Departs.FindParent
	// Reserved allows a nick that others take for official.
	Reserved bool
}

// Empty reports whether nothing would change.
func (c *UserChange) Empty() bool {
	none := UserChange{Reserved: c.Reserved}
	return *c == none
}

// Check returns the reason why no user can be changed so, with kind Invalid.
func (c *UserChange) Check() error {
	for _, f := range []struct {
		name  string
		text  *string
		limit int
	}{
		{"nick", c.Nick, im.MaxName}, {"domain", c.Domain, im.MaxName},
		{"phone", c.Phone, im.MaxPhone}, {"email", c.Email, im.MaxEmail},
		{"avatar", c.Avatar, im.MaxAvatar}, {"sign info", c.Sign, im.MaxSignInfo},
	} {
		if f.text == nil {
			continue
		}
		if err := CheckText(f.name, *f.text, f.limit); err != nil {
			return err
		}
	}
	switch {
	case c.Empty():
		return im.Errorf(im.Invalid, "the change is empty")
	case c.Nick != nil && *c.Nick == "":
		return im.Errorf(im.Invalid, "a user needs a nick")
	case c.Nick != nil && !c.Reserved && im.ReservedName(*c.Nick):
		return im.Errorf(im.Invalid, "others take the nick %q for official: to set it "+
			"nevertheless, use --reserved", *c.Nick)
	}
	if c.Gender != nil {
		if _, err := ParseGender(*c.Gender); err != nil {
			return im.WithKind(im.Invalid, "change user", err)
		}
	}
	return nil
}

// ChangeUser changes a user, all fields or none. It returns the user as it is then, and the path
// of its new department; empty: no department, or none is set.
func ChangeUser(ctx context.Context, s im.Store, name string, c UserChange) (u im.User,
	place string, err error) {
	if err := c.Check(); err != nil {
		return u, "", err
	}
	a, err := FindUser(ctx, s, name)
	if err != nil {
		return u, "", err
	}
	e := im.UserEdit{Nick: c.Nick, Domain: c.Domain, Phone: c.Phone, Email: c.Email,
		Avatar: c.Avatar, SignInfo: c.Sign}
	if c.Gender != nil {
		g, _ := ParseGender(*c.Gender) // Check has parsed it
		e.Gender = &g
	}
	if c.Department != nil {
		b, err := ReadDeparts(ctx, s)
		if err != nil {
			return u, "", err
		}
		id, err := b.FindParent(*c.Department)
		if err != nil {
			return u, "", err
		}
		if id != 0 {
			place = b.Path(b.ByID[id])
		}
		e.DepartID = &id
	}
	if err := s.EditUser(ctx, a.ID, e); err != nil {
		return u, "", err
	}
	users, err := s.Users(ctx, []uint32{a.ID})
	if err == nil && len(users) == 0 {
		err = im.Errorf(im.NotFound, "%s was deleted meanwhile", a.Name)
	}
	if err != nil {
		return u, "", err
	}
	return users[0], place, nil
}

// Deleted is the outcome of DeleteUser.
type Deleted struct {
	User    im.User  // as it was
	NewName string   // the name that the row has now
	Left    []uint32 // the groups that the user was a member of
	Owned   []uint32 // those of them that only the user could change in a client
}

// deletedHash is a stored password that no password matches.
const deletedHash = "-"

// DeleteUser ends a user for good. The row remains, departed, because messages refer to it, and
// so does the nick, which histories show. The name becomes free. The password, the contact data,
// the push token and the memberships are removed. The messages remain. After an error in the
// middle, the user cannot log in, and a second call with the id does the rest.
func DeleteUser(ctx context.Context, s im.Store, name string) (d Deleted, err error) {
	a, err := FindUser(ctx, s, name)
	if err != nil {
		return d, err
	}
	d.User, d.NewName = a.User, fmt.Sprintf("deleted-%d", a.ID)
	empty, none, departed := "", uint32(0), im.StatusDeparted
	err = s.EditUser(ctx, a.ID, im.UserEdit{Name: &d.NewName, Domain: &d.NewName, Phone: &empty,
		Email: &empty, Avatar: &empty, SignInfo: &empty, Gender: &none, DepartID: &none,
		Status: &departed, Password: &im.StoredPassword{Hash: deletedHash}})
	if err != nil {
		return d, err
	}
	if err := leaveAll(ctx, s, &d); err != nil {
		return d, fmt.Errorf("%s cannot log in any more, but is not deleted completely: repeat "+
			"it with id:%d: %w", a.Name, a.ID, err)
	}
	return d, nil
}

// leaveAll removes the push token and the memberships of a deleted user.
func leaveAll(ctx context.Context, s im.Store, d *Deleted) error {
	id := d.User.ID
	if err := s.SetDeviceToken(ctx, im.DeviceToken{User: id,
		Client: pb.ClientType_CLIENT_TYPE_ANDROID}); err != nil {
		return err
	}
	in, err := s.GroupsOf(ctx, id, 0, 0)
	if err != nil {
		return err
	}
	for _, g := range in {
		groups, err := s.Groups(ctx, []uint32{g.ID})
		if err != nil {
			return err
		}
		_, err = s.ChangeMembers(ctx, im.MemberEdit{Group: g.ID, Users: []uint32{id},
			Type: pb.GroupModifyType_GROUP_MODIFY_TYPE_DEL})
		if err != nil && im.KindOf(err) != im.NotFound {
			return err
		}
		d.Left = append(d.Left, g.ID)
		if len(groups) > 0 && groups[0].Creator == id &&
			groups[0].Type == pb.GroupType_GROUP_TYPE_NORMAL {
			d.Owned = append(d.Owned, g.ID)
		}
	}
	return nil
}

// DissolveGroup removes all members of a group. Its row and its messages remain, and nobody can
// read them or send more, until an administrator adds members again.
func DissolveGroup(ctx context.Context, s im.GroupStore, g im.Group) error {
	for range 3 { // users may join meanwhile
		if len(g.Members) == 0 {
			return nil
		}
		change, err := s.ChangeMembers(ctx, im.MemberEdit{Group: g.ID, Users: g.Members,
			Type: pb.GroupModifyType_GROUP_MODIFY_TYPE_DEL})
		if err != nil {
			return err
		}
		g.Members = change.Current
	}
	if len(g.Members) > 0 {
		return im.Errorf(im.Busy, "users join group %d all the time: try again", g.ID)
	}
	return nil
}
