package remote

import (
	"context"
	"slices"
	"strings"

	"teamtalk/cmd/teamtalk/internal/admin"
	"teamtalk/core/im"
	"teamtalk/handlers/adminapi"
	"teamtalk/proto/pb"
)

// ListDepartments returns all departments from the top down.
func (d *Directory) ListDepartments(ctx context.Context, _ adminapi.None) (a adminapi.Departments,
	err error) {
	b, err := admin.ReadDeparts(ctx, d.Store)
	if err != nil {
		return a, err
	}
	users, err := admin.UsersByDepart(ctx, d.Store)
	if err != nil {
		return a, err
	}
	a.Departments = []adminapi.Department{}
	list, _ := b.InOrder()
	for _, x := range list {
		a.Departments = append(a.Departments, departOf(b, x, users[x.ID]))
	}
	return a, nil
}

// departOf returns the form of a department for the API.
func departOf(b *admin.Departs, x im.Depart, users int) adminapi.Department {
	return adminapi.Department{ID: x.ID, Name: x.Name, Path: b.Path(x), Parent: x.Parent,
		Priority: x.Priority, Users: users}
}

// AddDepartment adds a department.
func (d *Directory) AddDepartment(ctx context.Context, q adminapi.AddDepartment) (
	a adminapi.Department, err error) {
	if err := admin.CheckName("department", q.Name, im.MaxDepartName); err != nil {
		return a, invalid(err)
	}
	defer d.Changed()
	x := im.Depart{Name: q.Name, Parent: q.Parent, Priority: q.Priority}
	if x.ID, err = d.Store.CreateDepart(ctx, x); err != nil {
		return a, err
	}
	b, err := admin.ReadDeparts(ctx, d.Store)
	if err != nil {
		return a, err
	}
	return departOf(b, x, 0), nil
}

// ChangeDepartment renames or moves a department.
func (d *Directory) ChangeDepartment(ctx context.Context, q adminapi.ChangeDepartment) (
	a adminapi.Department, err error) {
	if q.Name != nil {
		if err := admin.CheckName("department", *q.Name, im.MaxDepartName); err != nil {
			return a, invalid(err)
		}
	}
	x, err := d.updateDepart(ctx, q.ID, func(x *im.Depart) {
		if q.Name != nil {
			x.Name = *q.Name
		}
		if q.Parent != nil {
			x.Parent = *q.Parent
		}
		if q.Priority != nil {
			x.Priority = *q.Priority
		}
	})
	if err != nil {
		return a, err
	}
	all, err := d.ListDepartments(ctx, adminapi.None{})
	if err != nil {
		return a, err
	}
	i := slices.IndexFunc(all.Departments, func(o adminapi.Department) bool { return o.ID == x.ID })
	if i < 0 {
		return a, im.Errorf(im.NotFound, "department %d was deleted meanwhile", x.ID)
	}
	return all.Departments[i], nil
}

// updateDepart changes a department.
func (d *Directory) updateDepart(ctx context.Context, id uint32, change func(*im.Depart)) (
	im.Depart, error) {
	b, err := admin.ReadDeparts(ctx, d.Store)
	if err != nil {
		return im.Depart{}, err
	}
	x, ok := b.ByID[id]
	if !ok {
		return x, im.Errorf(im.NotFound, "no department has the id %d", id)
	}
	change(&x)
	defer d.Changed()
	return x, d.Store.UpdateDepart(ctx, x)
}

// DeleteDepartment deletes an empty department.
func (d *Directory) DeleteDepartment(ctx context.Context, q adminapi.DepartmentID) (
	none adminapi.None, err error) {
	_, err = d.updateDepart(ctx, q.ID, func(x *im.Depart) {
		x.Status = pb.DepartmentStatusType_DEPT_STATUS_DELETE
	})
	return none, err
}

// groupOf returns the form of a group for the API.
func groupOf(g im.Group) adminapi.Group {
	return adminapi.Group{ID: g.ID, Name: g.Name, Avatar: g.Avatar,
		Type: admin.GroupTypeName(g.Type), Creator: g.Creator, Version: g.Version,
		Created: g.Created, Updated: g.Updated, LastChat: g.LastChat, Count: len(g.Members),
		Members: g.Members}
}

// ListGroups returns a page of groups.
func (d *Directory) ListGroups(ctx context.Context, q adminapi.ListGroups) (p adminapi.GroupPage,
	err error) {
	limit, err := pageSize(q.Limit)
	if err != nil {
		return p, err
	}
	search := strings.ToLower(q.Search)
	groups, next, err := pages(q.After, limit, func(after uint32, n int) ([]im.Group, error) {
		return d.Store.ListGroups(ctx, after, min(n, groupBatch))
	}, func(g im.Group) uint32 { return g.ID }, func(g im.Group) bool {
		return strings.Contains(strings.ToLower(g.Name), search)
	})
	p.Groups, p.Next = make([]adminapi.Group, len(groups)), next
	for i, g := range groups {
		p.Groups[i] = groupOf(g)
		p.Groups[i].Members = nil
	}
	return p, err
}

// groupBatch is how many groups, each with its members, one request to the store reads.
const groupBatch = 200

// group returns a group.
func (d *Directory) group(ctx context.Context, id uint32) (im.Group, error) {
	groups, err := d.Store.Groups(ctx, []uint32{id})
	if err == nil && len(groups) == 0 {
		err = im.Errorf(im.NotFound, "no group has the id %d", id)
	}
	if err != nil {
		return im.Group{}, err
	}
	return groups[0], nil
}

// AddGroup creates a group.
func (d *Directory) AddGroup(ctx context.Context, q adminapi.AddGroup) (a adminapi.Group,
	err error) {
	if q.Type == "" {
		q.Type = "normal"
	}
	t, ok := admin.GroupTypes[q.Type]
	if !ok {
		return a, im.Errorf(im.Invalid, "type %q is none of normal and temporary", q.Type)
	}
	if err := admin.CheckName("group", q.Name, im.MaxGroupName); err != nil {
		return a, invalid(err)
	}
	names := q.Members
	if q.Creator != "" {
		names = append([]string{q.Creator}, names...)
	}
	users, err := admin.FindMembers(ctx, d.Store, names, true)
	if err != nil {
		return a, err
	}
	g := im.Group{Name: q.Name, Avatar: q.Avatar, Type: t, Members: admin.UserIDs(users)}
	if q.Creator != "" {
		g.Creator = users[0].ID
	}
	if g, err = d.Store.CreateGroup(ctx, g, 0); err != nil {
		return a, err
	}
	return groupOf(g), nil
}

// GetGroup returns a group with its members.
func (d *Directory) GetGroup(ctx context.Context, q adminapi.GroupID) (adminapi.Group, error) {
	g, err := d.group(ctx, q.ID)
	return groupOf(g), err
}

// RenameGroup gives a group another name.
func (d *Directory) RenameGroup(ctx context.Context, q adminapi.RenameGroup) (a adminapi.Group,
	err error) {
	if err := admin.CheckName("group", q.Name, im.MaxGroupName); err != nil {
		return a, invalid(err)
	}
	if err := d.Store.SetGroupName(ctx, q.ID, q.Name); err != nil {
		return a, err
	}
	return d.GetGroup(ctx, adminapi.GroupID{ID: q.ID})
}

// ChangeMembers adds and removes members. It looks up all users before the first change.
func (d *Directory) ChangeMembers(ctx context.Context, q adminapi.ChangeMembers) (
	a adminapi.MembersChanged, err error) {
	g, err := d.group(ctx, q.ID)
	if err != nil {
		return a, err
	}
	add, err := admin.FindMembers(ctx, d.Store, q.Add, true)
	if err != nil {
		return a, err
	}
	remove, err := admin.FindMembers(ctx, d.Store, q.Remove, false)
	if err != nil {
		return a, err
	}
	a = adminapi.MembersChanged{Added: []uint32{}, Removed: []uint32{}, Version: g.Version,
		Count: len(g.Members), Told: true}
	for _, x := range []struct {
		users []im.User
		t     pb.GroupModifyType
		done  *[]uint32
	}{
		{add, pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD, &a.Added},
		{remove, pb.GroupModifyType_GROUP_MODIFY_TYPE_DEL, &a.Removed},
	} {
		if len(x.users) == 0 {
			continue
		}
		change, err := d.Store.ChangeMembers(ctx, im.MemberEdit{Group: q.ID, Type: x.t,
			Users: admin.UserIDs(x.users)})
		if err != nil {
			return a, err
		}
		*x.done = append(*x.done, change.Changed...)
		if len(change.Changed) > 0 {
			a.Told = d.Tell(q.ID, x.t, change) && a.Told
		}
		a.Version, a.Count = change.Version, len(change.Current)
	}
	return a, nil
}

// DissolveGroup removes all members of a group.
func (d *Directory) DissolveGroup(ctx context.Context, q adminapi.GroupID) (
	a adminapi.Dissolved, err error) {
	g, err := d.group(ctx, q.ID)
	if err != nil {
		return a, err
	}
	a = adminapi.Dissolved{Removed: append([]uint32{}, g.Members...), Told: true}
	if err := admin.DissolveGroup(ctx, d.Store, g); err != nil || len(g.Members) == 0 {
		return a, err
	}
	versions, err := d.Store.GroupVersions(ctx, []uint32{q.ID})
	if err != nil || len(versions) == 0 {
		return a, err
	}
	a.Told = d.Tell(q.ID, pb.GroupModifyType_GROUP_MODIFY_TYPE_DEL,
		im.MemberChange{Version: versions[0].Version, Changed: a.Removed})
	return a, nil
}

// GetMessages returns messages with their texts in clear.
func (d *Directory) GetMessages(ctx context.Context, q adminapi.GetMessages) (a adminapi.Messages,
	err error) {
	var list []im.Message
	if q.Group != 0 {
		list, err = d.Store.GroupMessagesByID(ctx, q.User, q.Group, q.IDs)
	} else {
		list, err = d.Store.MessagesByID(ctx, q.User, q.Peer, q.IDs)
	}
	if err != nil {
		return a, err
	}
	a.Messages = []adminapi.Message{}
	for _, m := range list {
		x := adminapi.Message{ID: m.ID, From: m.From, To: m.To, Created: m.Created, Type: "text"}
		if m.Audio != nil || m.Type == pb.MsgType_MSG_TYPE_SINGLE_AUDIO ||
			m.Type == pb.MsgType_MSG_TYPE_GROUP_AUDIO {
			x.Type = "audio"
			if m.Audio != nil {
				x.Sound = m.Audio.Path
			}
		} else if x.Text, err = d.Text.Decrypt(m.Data); err != nil {
			x.Text = string(m.Data) // of a client that does not encrypt
		}
		a.Messages = append(a.Messages, x)
	}
	return a, nil
}
