package web

import (
	"embed"
	"io/fs"
)

// embedded holds the files of the page, which its build has written.
//
//go:embed all:page/dist
var embedded embed.FS

// dist holds the files of the page by their paths in URLs.
var dist, _ = fs.Sub(embedded, "page/dist") // the path is valid
