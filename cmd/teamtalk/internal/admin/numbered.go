package admin

import (
	"context"
	"fmt"
	"regexp"

	"teamtalk/core/im"
)

// addBatch is how many users one transaction of AddInBatches adds. Large transactions are
// fast, but a transaction must not delay other writers for long.
const addBatch = 2000

// AddInBatches adds many users with one password, a batch a transaction. After an error the
// users of earlier batches remain, and the error counts them. All rows get the same salt,
// because with argon2id each one of its own would cost milliseconds.
func AddInBatches(ctx context.Context, s im.UserStore, policy im.PasswordPolicy,
	users []NewUser) error {
	passwords := make([]im.StoredPassword, min(addBatch, len(users)))
	for i := range passwords {
		if passwords[i] = passwords[0]; i == 0 {
			passwords[0] = policy.Store(im.ClientPassword(users[0].Password))
		}
	}
	for done := 0; done < len(users); done += addBatch {
		batch := users[done:min(done+addBatch, len(users))]
		if _, err := addUsers(ctx, s, batch, passwords); err != nil {
			return fmt.Errorf("%d of %d users were added: %w", done, len(users), err)
		}
	}
	return nil
}

// oneNumber matches a format with one %d, and with nothing else that package fmt would
// act on.
var oneNumber = regexp.MustCompile(`^[^%]*%(0?[1-9][0-9]?)?d[^%]*$`)

// CheckFormat checks the format of numbered names.
func CheckFormat(format string) error {
	if !oneNumber.MatchString(format) {
		return fmt.Errorf("%q must hold one %%d, such as u%%05d", format)
	}
	return nil
}
