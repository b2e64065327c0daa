// Package link joins one server to another: behind TCP (Remote), or in the same process (Pipe, made by Local). Both are a Peer, and whoever asks a
// peer cannot tell which it is.
//
// # Calls
//
// A request travels with twelve bytes of attach_data, in the layout of the first implementation: u32 type = 1 (handle), u32 handle =
// the call's number, u32 service_type = a number drawn for the connection; all big-endian. The peer echoes them, whatever
// server it is, and that is how an answer finds its call; seq is the caller's, passed on and echoed, and may repeat. The bytes are taken
// out of the answer before the caller sees it. An answer whose call is over (it timed out) is counted and dropped. What comes
// with other attach_data, or none, is no answer and goes to the handler.
//
// Every call ends exactly once: with the answer, or with an error of kind im.Unavailable (no connection, connection lost, no answer in
// time), im.Busy (too many open calls, or a queue is full) or im.Closed. A request that ended with an error may have been carried out. The
// continuation runs on the loop it was given, so that it may touch the loop's sessions without a lock.
//
// Who only passes an answer on asks with CallEncoded: from 16 KiB on it is then taken as it came, as a pb.Encoded, with its attach_data cut out. A peer in the
// same process, too, may answer with a pb.Encoded; for a plain Call it is decoded.
//
// # Connections
//
// A Remote keeps a number of connections up, each with one goroutine that reads and one that writes. What is sent is encoded at once into the
// connection's buffer, bounded in frames and bytes, and the writer takes all of it with one write; a peer that does not read makes the
// buffer full, senders get im.Busy, and after Options.IdleLimit without progress the connection is given up. Nothing waits.
//
// When a connection comes up the handler's Open introduces this server. What it sends on its session leaves before anything that others
// send meanwhile, and those are not refused but held back: a snapshot sent by Open and changes sent by others together miss nothing.
//
// Messages of one key take the same connection and so arrive in order. When connections come or go, only the keys of those move. Calls of a Group stay
// with the member that has open calls of their key as long as it is up, so a connection that comes up disturbs no order. When the
// member takes no more requests, calls of the key wait for the open ones, at most 256 of them, and then go to another member; when one of the open ones fails,
// those that wait are refused with ErrNotSent. Messages that are not calls may overtake each other around that moment.
//
// A peer that said IMStopReceivePacket gets nothing new, and its connection stays for the answers that are due.
//
// # In process
//
// A Pipe hands the same typed messages over through bounded queues, one goroutine per direction and lane, so that the handlers' rule
// (one call after another per session) holds and no server's handler runs inside another's. Nothing is encoded. Answers go straight
// to the caller's loop.
//
// Time comes from package time alone, so that links made inside a testing/synctest bubble run on its clock, over a dialer that returns
// net.Pipe ends.
package link
