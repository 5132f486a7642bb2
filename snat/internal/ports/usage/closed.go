package usage

import "github.com/seed-a61be3fe/natplane/flow"

// Closed connections, which keep their ports for a while, until another one begins on their
// sockets.

// Held reports whether sessions of a class are over and only keep their port
// from their destination.
func Held(c flow.Class) bool {
	switch c {
	case flow.ClassTCPClosing, flow.ClassTCPTimeWait, flow.ClassTCPReset, flow.ClassUDPHeld:
		return true
	}
	return false
}

// Reopens reports whether a segment from a side, with flags, would begin another connection
// on the sockets of a closed one. A SYN that answers such a segment would not.
func Reopens(t *flow.Track, from flow.Side, flags uint8) bool {
	return Held(t.Class) && flags&(flow.SYN|flow.ACK) == flow.SYN && (t.Phase() != flow.TCPSynAgain || from == t.Initiator())
}

// Reopened reports whether a closed connection has given way to another one on its
// sockets.
func Reopened(before, after *flow.Track) bool {
	return Held(before.Class) && !Held(after.Class) && (before.Phase() == flow.TCPSynAgain || after.Phase() == flow.TCPSynSent)
}
