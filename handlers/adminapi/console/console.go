// Package console holds the page of the administrators, which the port of the admin API serves.
// Its sources are in handlers/web/page/admin, beside those of the chat page with which it shares
// parts; make page builds both.
package console

import (
	"embed"
	"io/fs"

	"teamtalk/core/web/assets"
)

// embedded holds the files of the page, which its build has written.
//
//go:embed all:dist
var embedded embed.FS

// Page returns the page.
func Page() *assets.Site {
	dist, _ := fs.Sub(embedded, "dist") // the path is valid
	return assets.New(dist)
}
