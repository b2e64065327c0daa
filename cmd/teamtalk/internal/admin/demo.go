package admin

import (
	"context"
	"fmt"

	"teamtalk/core/im"
)

// DemoPassword is the password of the demo users. It is public.
const DemoPassword = "demo"

// DemoUsers holds the names of the demo users.
var DemoUsers = []string{"alice", "bob"}

// MakeDemoUsers adds the demo users that the store does not have yet.
func MakeDemoUsers(ctx context.Context, store im.Store, policy im.PasswordPolicy) error {
	for _, name := range DemoUsers {
		if _, err := store.AccountByName(ctx, name); err == nil {
			continue
		} else if im.KindOf(err) != im.NotFound {
			return fmt.Errorf("look for demo user %s: %w", name, err)
		}
		users := []NewUser{{User: im.User{Name: name, Nick: name}, Password: DemoPassword}}
		if _, err := AddUsers(ctx, store, policy, users); err != nil {
			return fmt.Errorf("make demo user %s: %w", name, err)
		}
	}
	return nil
}

// OpenDemoUsers returns the demo users that can log in with the password of the demo.
func OpenDemoUsers(ctx context.Context, store im.Store) ([]string, error) {
	var open []string
	for _, name := range DemoUsers {
		a, err := store.AccountByName(ctx, name)
		if im.KindOf(err) == im.NotFound {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("look for demo user %s: %w", name, err)
		}
		if a.Status == im.StatusOK && a.Check(im.ClientPassword(DemoPassword)) {
			open = append(open, name)
		}
	}
	return open, nil
}
