// Package openpb holds the chat message in the open API of Go's protobuf, so that the benchmarks of package pb can compare it with the opaque
// API and with the type written by hand. Nothing else uses it.
package openpb

//go:generate go run ../../../gen -in . -out . -api API_OPEN
