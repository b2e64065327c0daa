package directory

import (
	"context"
	"database/sql"
	"fmt"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
	"teamtalk/sql/store/database"
)

// departsWhere returns the departments that a condition selects.
func departsWhere(ctx context.Context, db database.Querier, where string) ([]im.Depart, error) {
	rows, err := db.QueryContext(ctx, "SELECT id, departName, parentId, priority, status, "+
		"updated FROM IMDepart WHERE "+where)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []im.Depart
	for rows.Next() {
		var d im.Depart
		if err := rows.Scan(&d.ID, &d.Name, &d.Parent, &d.Priority, &d.Status,
			&d.Updated); err != nil {
			return nil, err
		}
		list = append(list, d)
	}
	return list, rows.Err()
}

// DepartsChangedSince returns departments for a client's synchronisation; see
// im.DepartStore.
func (s *Directory) DepartsChangedSince(ctx context.Context,
	since uint32) ([]im.Depart, uint32, error) {
	where := fmt.Sprintf("updated>=%d", since)
	if since == 0 {
		where = fmt.Sprintf("status<>%d", pb.DepartmentStatusType_DEPT_STATUS_DELETE)
	}
	var list []im.Depart
	if err := s.db.Read(ctx, func(db database.Querier) (err error) {
		list, err = departsWhere(ctx, db, where)
		return err
	}); err != nil {
		return nil, 0, s.db.SQLError("read changed departments", err)
	}
	for _, d := range list {
		since = max(since, d.Updated)
	}
	return list, since, nil
}

// CreateDepart adds a department; see im.DepartStore.
func (s *Directory) CreateDepart(ctx context.Context, d im.Depart) (uint32, error) {
	d.ID = 0
	var id int64
	err := s.changeDirectory(ctx, "IMDepart", true, func(tx *sql.Tx, now int64) error {
		all, err := departsWhere(ctx, tx, "true")
		if err != nil {
			return err
		}
		if err := im.CheckDepart(d, all); err != nil {
			return err
		}
		res, err := tx.ExecContext(ctx, "INSERT INTO IMDepart "+
			"(departName,priority,parentId,status,created,updated) VALUES (?,?,?,?,?,?)",
			d.Name, d.Priority, d.Parent, uint32(d.Status), now, now)
		if err != nil {
			return err
		}
		id, err = res.LastInsertId()
		return err
	})
	if err != nil {
		return 0, s.db.SQLError("create department", err)
	}
	return uint32(id), nil
}

// UpdateDepart changes a department; see im.DepartStore.
func (s *Directory) UpdateDepart(ctx context.Context, d im.Depart) error {
	err := s.changeDirectory(ctx, "IMDepart", false, func(tx *sql.Tx, now int64) error {
		if err := s.checkUpdate(ctx, tx, d); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "UPDATE IMDepart SET departName=?, priority=?, parentId=?, "+
			"status=?, updated=? WHERE id=?",
			d.Name, d.Priority, d.Parent, uint32(d.Status), now, d.ID)
		return err
	})
	if err != nil {
		return s.db.SQLError("update department", err)
	}
	return nil
}

// checkUpdate returns the reason why a department must not be changed to d. The
// directory's lock keeps its answer true until the commit.
func (s *Directory) checkUpdate(ctx context.Context, tx *sql.Tx, d im.Depart) error {
	all, err := departsWhere(ctx, tx, "true")
	if err != nil {
		return err
	}
	there := false
	for _, other := range all {
		there = there || other.ID == d.ID
	}
	if !there {
		return im.Errorf(im.NotFound, "no department has id %d", d.ID)
	}
	if err := im.CheckDepart(d, all); err != nil ||
		d.Status != pb.DepartmentStatusType_DEPT_STATUS_DELETE {
		return err
	}
	var users int
	err = tx.QueryRowContext(ctx, fmt.Sprintf("SELECT COUNT(*) FROM IMUser WHERE departId=%d "+
		"AND COALESCE(status, 0)<>%d", d.ID, im.StatusDeparted)).Scan(&users)
	if err == nil && users > 0 {
		return im.Errorf(im.Invalid, "department %d has users in it: %d", d.ID, users)
	}
	return err
}

// wantDepart returns an error when a department does not exist or is deleted. Id 0, no
// department, is accepted.
func (s *Directory) wantDepart(ctx context.Context, tx *sql.Tx, id uint32) error {
	if id == 0 {
		return nil
	}
	there, err := departsWhere(ctx, tx, fmt.Sprintf("id=%d AND status<>%d", id,
		pb.DepartmentStatusType_DEPT_STATUS_DELETE))
	if err == nil && len(there) == 0 {
		return im.Errorf(im.Invalid, "no department has id %d", id)
	}
	return err
}
