// Package sim simulates a deployment in one process, under virtual time. It holds tests
// only.
//
// A seed gives a plan: when clients write, when the members of groups change, and when
// something breaks. A run carries it out, mends everything, has every client write to
// everybody, and holds what happened against what the servers promise. The six thousand
// events of a run take 35 ms of a core.
//
// # Real
//
// The message servers, db_proxies, route server and login server, with their handlers,
// options of the default settings, routers, session loops, links and worker pools. A
// deployment has two message servers, two db_proxies, and one of the others. Each db_proxy
// has about half of the users and of the conversations. In a quarter of the seeds there are
// three message servers with a mesh each, package handlers/mesh, and no route server.
//
// # Modelled
//
//   - The network. It moves whole frames, each after a random time, in order on one
//     connection. It cuts connections, makes them half-open, and delays them. Sockets
//     never fill up. Connections of servers end as package engine ends them.
//   - MySQL and Redis, as one database behind im.Store. A write is committed at one time
//     and answered at a later one. It may fail, take seconds, or lose its caller in
//     between.
//     A replica for reads may be behind, as package replica lets it.
//   - The leases of message servers without a route server, and the whereabouts of users, in
//     the Redis that they share. A message server may be cut off from Redis, and its lease
//     end. Calls fail, take seconds, or lose their answers, and all whereabouts may be lost.
//   - The clients: those of package client in outline, Windows clients, and phones that
//     repeat and ack nothing. Some Windows clients repeat on a new connection.
//   - Processes. A crash ends a process between two events: at any point at which one of
//     its goroutines waits. A process that crashes may leave half-open connections. A
//     process that is told to stop drains first. It starts again after some seconds.
//   - A server of the first implementation, in a third of the seeds: the extensions of the
//     protocol do not pass its links, see weaker for the promises that do not hold then.
//   - The lists of db_proxies. In a third of the seeds a message server does not know one of
//     them for a while, as while a registry has lost it.
//   - Clocks. The wall clocks of processes differ by seconds, and are stepped by up to an
//     hour. The monotonic clocks agree.
//
// # Checked
//
//   - A text that is acked is stored under the id in the ack, at that moment.
//   - No text is stored twice.
//   - The texts of a client to a user or group are stored in the order in which they were
//     written.
//   - A client receives the texts of each conversation in the order of their ids, with the
//     content and under the id of the database.
//   - A text that is acked was delivered to each device of its users that was connected
//     all the time, also when the route server, a db_proxy or a link to one was lost, unless
//     a message server crashed, a link was half-open, or the lease of a message server without
//     a route server ended meanwhile. In a group these are the
//     members, and no others receive it. A text that was held up may be passed by a newer
//     one: checkDelivered says when. It is then in the history only.
//   - A PC client that was told of a user knows in the end that the user is online.
//   - A member that is online knows the members of its groups.
//   - A text of a client that repeats nothing gets its ack if its connection lives on and
//     nothing fails meanwhile, whatever process drains. Processes drain in time.
//   - A query of a client that stays connected is answered soon after its message server
//     has a db_proxy, unless it has waited for msg.hold before.
//   - When all faults are mended, every client logs in, and each text that is repeated
//     gets its ack. When clients report that they have read everything, nothing is
//     unread. Nothing waits in the database. When all processes have ended, no goroutine
//     is left.
//
// The comments at checkDelivered and checkMembers say what is not required while something
// is broken.
//
// # Not found
//
// Faults of package engine, of the stores and their SQL, of frames that are cut in the
// middle, of full sockets and mailboxes, and races: one goroutine runs at a time. The
// data race detector finds those between events all the same.
//
// # Replay
//
// All loops, the network and the clients run on one goroutine, the scheduler's. The
// goroutines of links and workers run between two events until all of them wait
// (testing/synctest), and what they want from the world is carried out after that, sorted
// by its source. The timers of message servers end as events, too: of two timers of
// package time that end at the same instant, either may be the first.
//
// The goroutines of a mesh, and those of its link to the message server, share what they
// change. Those that look at the times of links do so at the same instant. All of these
// wait for their turn when they wake (mono.Turn), and run one after the other, sorted by
// name.
//
// So two runs of a seed have the same events at the same times. TestReplay checks it, with
// goroutines that give up the processor at random, see sched.shake. What differs between
// two processes is the seed of maphash, which spreads logins over the queues of a
// db_proxy. The model answers these at once, so that their order does not matter. A plan
// for another version of the servers is another run: a test of TestFound may no longer
// meet its fault after a change, and then checks no less than any seed.
//
// # Thousands of seeds
//
// CI runs .ci/seeds: seeds 1 to 400 on all cores, without the race detector. For a night:
//
//	go test ./cmd/teamtalk/internal/sim -run TestSeeds -first 1000000 -for 8h -timeout 9h
//
// To see that the checks find faults, .ci/mutations puts faults into the servers.
//
// With -mesh, no seed has a route server.
//
// A seed that fails is shrunk: steps are left out as long as it fails in the same way.
// The steps that are left are printed as a test for TestFound. With -trace, their events
// are printed as well.
package sim
