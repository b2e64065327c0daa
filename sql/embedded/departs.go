package embedded

import (
	"context"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
	"teamtalk/sql/embedded/arrivals"
)

const departColumns = "id, departName, parentId, priority, status, updated"

// scanDepart reads departColumns.
func scanDepart(row scanner) (d im.Depart, err error) {
	err = row.Scan(&d.ID, &d.Name, &d.Parent, &d.Priority, &d.Status, &d.Updated)
	return d, err
}

// DepartsChangedSince returns departments by time of change; see im.DepartStore.
func (s *directory) DepartsChangedSince(ctx context.Context,
	since uint32) ([]im.Depart, uint32, error) {
	var departs []im.Depart
	newest := since
	err := s.rows(ctx, "departments changed", arrivals.None, s.read.departsSince,
		func(row scanner) error {
			d, err := scanDepart(row)
			departs = append(departs, d)
			newest = max(newest, d.Updated)
			return err
		}, since)
	if err != nil {
		return nil, 0, err
	}
	return departs, newest, nil
}

// departs reads all departments, deleted ones too, in the writer's transaction.
func (w *writer) departs() ([]im.Depart, error) {
	rows, err := w.conn.QueryContext(context.Background(), "select "+departColumns+" from IMDepart")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var departs []im.Depart
	for rows.Next() {
		d, err := scanDepart(rows)
		if err != nil {
			return nil, err
		}
		departs = append(departs, d)
	}
	return departs, rows.Err()
}

// CreateDepart adds a department; see im.DepartStore.
func (s *directory) CreateDepart(ctx context.Context, d im.Depart) (id uint32, err error) {
	d.ID = 0
	err = s.changeDirectory(ctx, "create department", "IMDepart", func(w *writer, now int64) error {
		departs, err := w.departs()
		if err != nil {
			return err
		}
		if err := im.CheckDepart(d, departs); err != nil {
			return err
		}
		return w.one("insert into IMDepart "+
			"(departName, parentId, priority, status, created, updated) "+
			"values (?1, ?2, ?3, ?4, ?5, ?5) returning id",
			&id, d.Name, d.Parent, d.Priority, d.Status, now)
	})
	if err != nil {
		return 0, err
	}
	return id, nil
}

// UpdateDepart changes a department; see im.DepartStore.
func (s *directory) UpdateDepart(ctx context.Context, d im.Depart) error {
	change := func(w *writer, now int64) error {
		if err := w.checkUpdate(d); err != nil {
			return err
		}
		return w.exec("update IMDepart "+
			"set departName = ?, parentId = ?, priority = ?, status = ?, updated = ? where id = ?",
			d.Name, d.Parent, d.Priority, d.Status, now, d.ID)
	}
	return s.changeDirectory(ctx, "update department", "IMDepart", change)
}

// checkUpdate returns the reason why a department must not be changed to d.
func (w *writer) checkUpdate(d im.Depart) error {
	departs, err := w.departs()
	if err != nil {
		return err
	}
	there := false
	for _, other := range departs {
		there = there || other.ID == d.ID
	}
	if !there {
		return im.Errorf(im.NotFound, "department %d does not exist", d.ID)
	}
	if err := im.CheckDepart(d, departs); err != nil ||
		d.Status != pb.DepartmentStatusType_DEPT_STATUS_DELETE {
		return err
	}
	users := 0
	err = w.one("select count(*) from IMUser where departId = ? and status <> ?", &users, d.ID,
		im.StatusDeparted)
	if err == nil && users > 0 {
		return im.Errorf(im.Invalid, "department %d has users in it: %d", d.ID, users)
	}
	return err
}

// wantDepart returns an error when a department does not exist or is deleted. Id 0, no
// department, is accepted.
func (w *writer) wantDepart(id uint32) error {
	if id == 0 {
		return nil
	}
	there := false
	err := w.one("select exists (select 1 from IMDepart where id = ? and status <> 1)", &there, id)
	if err == nil && !there {
		return im.Errorf(im.Invalid, "department %d does not exist", id)
	}
	return err
}
