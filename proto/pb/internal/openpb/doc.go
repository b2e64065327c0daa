// Package openpb holds the chat message in the open API of Go's protobuf. The benchmarks of
// package pb compare it with the opaque API and with the type that is written by hand. No
// other package uses it.
package openpb

//go:generate go run ../../../gen -in . -out . -api API_OPEN
