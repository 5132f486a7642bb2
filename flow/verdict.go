package flow

// Action is what a door decided to do with a packet.
type Action uint8

// The actions. The zero value drops, so a forgotten verdict cannot forward.
const (
	Drop    Action = iota // discarded, the packet bytes are unspecified; see Verdict.Reason
	Forward               // rewritten in place; send it to Verdict.To
	Bypass                // none of our business; send it unmodified
	Queued                // a copy is kept, the packet itself is done with; see Sink
	numVerdictActions
)

var actionNames = [...]string{"drop", "forward", "bypass", "queued"}

var _ = [1]struct{}{}[len(actionNames)-int(numVerdictActions)] // one name per action

// String returns "drop", "forward", "bypass" or "queued".
func (a Action) String() string {
	if a < numVerdictActions {
		return actionNames[a]
	}
	return "action(?)"
}

// Side names the two sides of a translator.
type Side uint8

// The sides.
const (
	Inside  Side = iota // instances, nodes, pods
	Outside             // frontends and the Internet
	numSides
)

var sideNames = [...]string{"inside", "outside"}

var _ = [1]struct{}{}[len(sideNames)-int(numSides)] // one name per side

// String returns "inside" or "outside".
func (s Side) String() string {
	if s < numSides {
		return sideNames[s]
	}
	return "side(?)"
}

// Verdict is the answer of a door to one packet. Whether the packet has made the next
// deadline earlier is asked apart: see [Translator].DeadlineMoved.
type Verdict struct {
	Action   Action // what to do with the packet
	Reason   Reason // why, when Action is Drop; ReasonNone otherwise
	To       Side   // where a forwarded packet goes
	New      bool   // the packet created its session
	Instance uint32 // index of the instance the session belongs to, when there is one
}

// Sink receives what a door or Advance produces on its own: resets, ICMP errors,
// fragments that had to wait for the first of their datagram, and the fragments of
// packets that exceed an MTU. pkt starts at
// the IP header and is valid only until the sink returns. No lock is held while a
// sink runs, so it may call back.
type Sink func(Emission)

// Emission is one packet that leaves by itself, not in answer to a door: made by
// the translator, or kept by it.
type Emission struct {
	At       Time   // when it is sent; not later than the now of the call
	To       Side   // which side it goes to
	Instance uint32 // the instance whose flow it concerns
	Packet   []byte // starts at the IP header; valid until the sink returns
}
