package flow

import "sync/atomic"

// Notice says whether the next deadline of a translator may have become earlier since
// somebody asked for it. Whatever has deadlines raises it when one comes before those
// that were there; packets of established sessions never do. It may be raised although
// nothing has changed, never the reverse.
//
// The zero value is ready and not raised. A nil Notice is nobody's: raising it does
// nothing. It is safe for concurrent use.
type Notice struct{ raised atomic.Bool }

// Raise says that a deadline may have become earlier. Cost: a read, if it has been
// raised before.
func (n *Notice) Raise() {
	if n != nil && !n.raised.Load() {
		n.raised.Store(true)
	}
}

// Raised reports whether a deadline may have become earlier since Clear. Cost: a read.
func (n *Notice) Raised() bool { return n.raised.Load() }

// Clear comes before somebody looks for the next deadline, so that what is raised
// meanwhile is not lost.
func (n *Notice) Clear() { n.raised.Store(false) }
