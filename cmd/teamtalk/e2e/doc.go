// Package e2e is the end-to-end suite of teamtalk. It has tests only: they build the binary, start
// its servers as an operator does, and speak to them as clients do, over TCP and HTTP.
//
// Most tests run in two shapes: "all-in-one" is one process on the embedded store, and "separate"
// is one process for each role, with two message servers, on MariaDB and Redis. Servers listen on
// ports of 127.0.0.1 that the test reserves, write to folders of the test, and end with it. A test
// fails if a log of a server has a data race or a panic.
//
// One test:
//
//	go test ./cmd/teamtalk/e2e -run TestDelivery -v
//	go test ./cmd/teamtalk/e2e -run TestDelivery/all-in-one    # without MariaDB and Redis
//
// The first test that needs the binary builds it once, from the sources beside it, into a
// temporary folder that the run removes at its end. With -race there is a second binary, with the
// race detector, for servers in the tests that stop them or load them. TEAMTALK_TEST_RACE=1 selects
// it for every process, which more than doubles the processor time of the suite. With -short every
// test is skipped.
// TEAMTALK_TEST_FULL=1 selects groups and files of full size, which take minutes.
//
// The suite runs on Linux only: it ties processes to the life of the test, reserves ports and
// reads the memory of processes in the way of Linux.
package e2e
