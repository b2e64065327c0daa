// Package folderlock admits one server, or one command that replaces the data, to the folder of an
// embedded store.
package folderlock
