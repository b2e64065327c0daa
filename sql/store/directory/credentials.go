package directory

import (
	"context"
	"errors"
	"fmt"

	"teamtalk/core/im"
	"teamtalk/sql/store/database"
	"teamtalk/sql/store/use"
)

// CredentialsChangedSince returns credentials by time of change; see im.UserStore. It
// reads from the master, because a change must end a user's sessions soon. Message servers call
// it every 2 s while clients are connected, so it does not count as a use of the databases.
func (s *Directory) CredentialsChangedSince(ctx context.Context, since, after uint32,
	limit int) ([]im.Credential, uint32, error) {
	list, newest, err := credentialsSince(use.Periodic(ctx), s.db.Master, since, after, limit)
	return list, newest, s.db.SQLError("read changed credentials", err)
}

func credentialsSince(ctx context.Context, db database.Querier, since, after uint32,
	limit int) (list []im.Credential, newest uint32, err error) {
	rows, err := db.QueryContext(ctx, "SELECT COALESCE(MAX(updated), 0) FROM IMUser")
	if err != nil {
		return nil, 0, err
	}
	for rows.Next() {
		err = rows.Scan(&newest)
	}
	if err = errors.Join(err, rows.Err(), rows.Close()); err != nil || limit <= 0 {
		return nil, newest, err
	}
	rows, err = db.QueryContext(ctx, fmt.Sprintf("SELECT id, updated, COALESCE(status, 0), "+
		"password, salt FROM IMUser WHERE updated>=%d AND (updated>%d OR id>%d) "+
		"ORDER BY updated, id LIMIT %d", since, since, after, limit))
	if err != nil {
		return nil, 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var c im.Credential
		var password, salt string
		if err := rows.Scan(&c.User, &c.Updated, &c.Status, &password, &salt); err != nil {
			return nil, 0, err
		}
		c.SetStored(im.StoredPassword{Hash: password, Salt: salt})
		list = append(list, c)
	}
	return list, newest, rows.Err()
}
