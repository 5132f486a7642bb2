package flow

// Translator is what every type of this module that carries packets can do: snat.NAT,
// lb.LoadBalancer, lb.Gateway, lb.Egress and overlay.Cluster. Programs that drive
// packets through any of them take this. All methods are safe for concurrent use.
//
// Time is the driver's: now must not lie before that of an earlier call about the same
// flows, give or take what goroutines differ by.
type Translator interface {
	// Outbound takes a packet of the inside, which begins at its IP header, and
	// rewrites it in place.
	Outbound(now Time, pkt []byte) Verdict
	// Inbound takes a packet of the outside likewise.
	Inbound(now Time, pkt []byte) Verdict

	// OutboundBatch is Outbound for each packet, in order, and faster: verdicts[i]
	// becomes that of pkts[i]. It panics if there are fewer verdicts than packets.
	OutboundBatch(now Time, pkts [][]byte, verdicts []Verdict)
	// InboundBatch is Inbound likewise.
	InboundBatch(now Time, pkts [][]byte, verdicts []Verdict)

	// Advance does what is due at now: sessions expire, and what the translator
	// makes itself or has kept waiting goes to emit, which may be nil.
	Advance(now Time, emit Sink)
	// AdvanceStep does a bounded piece of that, and reports whether all is done.
	AdvanceStep(now Time, emit Sink) (done bool)
	// NextDeadline returns when Advance may have work to do next, and whether there
	// is any.
	NextDeadline() (at Time, ok bool)
	// DeadlineMoved reports whether NextDeadline may answer an earlier time than it
	// last did, because of packets since. It costs next to nothing, NextDeadline the
	// locks of all shards. So an event-driven program asks NextDeadline in the
	// beginning, after each Advance and each change of configuration, and after a
	// packet or a batch only if this is true. No packet of an established flow makes
	// it true unless it changes what the flow waits for, as a RST does.
	DeadlineMoved() bool
}
