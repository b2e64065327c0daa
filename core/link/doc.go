// Package link connects one server to another: over TCP (Remote), or within the process
// (Pipe, made by Local). Both are a Peer, and the caller of a peer cannot tell them
// apart.
//
// # Calls
//
// A request carries twelve bytes of attach_data, in the layout of the first
// implementation: u32 type = 1 (handle), u32 handle = the call's number, u32 service_type
// = a random number of the connection; all big-endian. Every server echoes attach_data in
// the answer, and so the link finds the call of an answer. The caller chooses seq, which
// is passed on and echoed, and may repeat. The link removes attach_data from the answer
// before it passes the answer to the caller. An answer whose call has ended by timeout is
// counted and dropped, unless the call's continuation asked for it, see Overdue. A
// message with other attach_data, or without, is not an answer and goes to the handler.
//
// Every call ends exactly once: with the answer, or with an error of kind im.Unavailable
// (no connection, connection lost, no answer in time), im.Busy (too many open calls, or a
// queue is full) or im.Closed. The peer may have carried out a request that ended with an
// error. The continuation runs on the loop that was passed with the call, so that it may
// use the loop's sessions without a lock.
//
// A caller that only passes an answer on uses CallEncoded. Answers of 16 KiB and more are
// then passed on as they were received, as a pb.Encoded without its attach_data. A peer
// in the same process may also answer with a pb.Encoded. A plain Call decodes it.
//
// # Connections
//
// A Remote keeps a connection up, with one goroutine that reads and one that writes. Send
// encodes the message at once into the connection's buffer, which is bounded in frames
// and bytes, and the writer takes the whole buffer with one write. When the peer does not
// read, the buffer fills and senders get im.Busy. After Options.IdleLimit without
// progress the connection is closed. No sender waits.
//
// When a connection is up, the handler's Open introduces this server. The messages that
// it sends on its session leave before all messages that others send meanwhile. Those are
// not refused but held back: so a snapshot sent by Open, and the changes sent by others,
// together miss nothing.
//
// Messages of one key use the same connection and so arrive in order. A Group selects the
// server of a key by the names of the servers (rendezvous hashing), so all callers that
// know a server under the same name select it for the same keys, whatever the order of
// their lists. When a server joins, becomes reachable or fails, only its keys move. While
// a key has open calls, its further calls go to the same member as long as it is up, so a
// member that becomes reachable does not disturb the order. When the member takes no more
// requests, the calls of the key, at most 256, wait for the open ones to end, and then go
// to another member. When one of the open ones fails, the waiting ones are refused with
// ErrNotSent. Messages that are not calls may overtake each other around that moment.
//
// The servers of a Group may change while it is used (SetServers, Linger). A server that leaves
// is one that takes no more requests: its connections are drained and closed.
//
// A peer may refuse a request with IMRequestRefused, if Options.Features announced that
// this server understands it. When the peer did not carry the request out and another
// server may, a Group gives it to its other members, in the order of the key's requests.
// It does not when a request of the key is in doubt: the sender may repeat that one, which
// the others must not overtake. pb.MsgData.Round tells the first peer that this happened.
//
// A peer may send a long answer in parts (IMAnswerPart), if Options.Features announced that
// this server puts answers together. Options.Answers bounds their memory. An answer beyond the
// bound, and a frame longer than Options.MaxFrame, cost only their call, which ends with
// ErrTooLong.
//
// After IMStopReceivePacket from the peer the link sends no further requests, and the
// connection stays open for the answers that are due. With Features it is closed after the
// last one, so that the peer can end without a request in flight. A peer that may return
// has only withdrawn: it gets the requests that no other member of its Group can take.
//
// # In process
//
// A Pipe passes the same typed messages through bounded queues with one goroutine per
// direction. So the handlers' rule holds, one call after another per session, and the
// handler of one server never runs inside the handler of another. Nothing is encoded.
// Answers go straight to the caller's loop.
//
// The only clock is package time, so links made inside a testing/synctest bubble, with a
// dialer that returns net.Pipe ends, run on the bubble's clock.
package link
