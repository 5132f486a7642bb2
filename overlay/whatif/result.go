// Results: what has become of a workload.

package whatif

import (
	"net/netip"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Result is what a simulation has done so far. Times are since its beginning. Two simulations of
// the same configuration have equal results.
type Result struct {
	Until time.Duration // the end of the last step in which there was something to do

	Traffic []Counts // by Traffic, in their order; last those of a Trace, named "trace"
	Total   Counts   // of all; without name

	// Refusals are first packets that the world dropped, by reason, the most frequent first.
	Refusals []Refusal

	Nodes     []Fill // ports of each instance, family and protocol; none where ports are shared
	Frontends []Fill // ports of each frontend and protocol

	// Peak is who held the ports when there were most in use, within 25 per cent, and within 5 of
	// what lasted for ten samples; PeakAt is when that was.
	Peak   Uses
	PeakAt time.Duration // see Peak

	// Stranded are the instances that have refused flows while others have free ports on the same
	// frontends, with the ports that are free now.
	Stranded []snat.StrandedPorts

	Resets uint64 // RSTs that the world has sent to hosts, of idle connections or in answer

	// Packets that hosts have sent and that were sent to them, and how many of these the world has
	// dropped.
	Outbound, Inbound, OutboundDropped, InboundDropped uint64
}

// Counts is what has become of the conversations of a Traffic. Those that are under way are in
// none of Completed, Abandoned, Failed, Cut and Broken.
type Counts struct {
	Name string // of the Traffic

	Arrivals uint64 // requests, lookups, or media
	Cached   uint64 // lookups that the cache has answered
	Waited   uint64 // requests that have waited for a connection of their pool

	Conversations uint64 // begun, Retries included
	Retries       uint64 // conversations after one that has gone wrong
	Established   uint64 // that were answered; of media, that were forwarded
	Exchanges     uint64 // requests, or lookups, that were answered
	Completed     uint64 // that came to their end
	Abandoned     uint64 // left as they were; see [Abandoned]

	RefusedPackets uint64        // first packets that the world dropped, sent again or not
	Refused        uint64        // conversations that were refused at least once
	FirstRefused   time.Duration // when that was first; 0 if never

	Failed uint64 // that gave up connecting, or had no port, or of lookups were not answered
	Cut    uint64 // that were reset by the world
	Broken uint64 // of which a later packet was dropped
	NoPort uint64 // that failed for want of an ephemeral port of their host
}

// RefusedShare returns the share of conversations that were refused, 0..1.
func (c Counts) RefusedShare() float64 {
	if c.Conversations == 0 {
		return 0
	}
	return float64(c.Refused) / float64(c.Conversations)
}

// refuse counts a refused packet.
func (c *Counts) refuse(at time.Duration) {
	if c.RefusedPackets == 0 {
		c.FirstRefused = at
	}
	c.RefusedPackets++
}

// add adds those of another Traffic.
func (c *Counts) add(o *Counts) {
	if o.RefusedPackets > 0 && (c.RefusedPackets == 0 || o.FirstRefused < c.FirstRefused) {
		c.FirstRefused = o.FirstRefused
	}
	for _, x := range []struct {
		sum *uint64
		n   uint64
	}{
		{&c.Arrivals, o.Arrivals}, {&c.Cached, o.Cached}, {&c.Waited, o.Waited}, {&c.Conversations, o.Conversations},
		{&c.Retries, o.Retries}, {&c.Established, o.Established}, {&c.Exchanges, o.Exchanges}, {&c.Completed, o.Completed},
		{&c.Abandoned, o.Abandoned}, {&c.RefusedPackets, o.RefusedPackets}, {&c.Refused, o.Refused}, {&c.Failed, o.Failed},
		{&c.Cut, o.Cut}, {&c.Broken, o.Broken}, {&c.NoPort, o.NoPort},
	} {
		*x.sum += x.n
	}
}

// Refusal is first packets that were dropped for one reason.
type Refusal struct {
	Reason  flow.Reason   // of the verdicts
	Packets uint64        // every one counts that is sent again
	First   time.Duration // when that was first
}

// Fill is how full the ports of an instance or a frontend were. Peak is exact, over all of the
// world's life; P99 is of the samples: 99 of 100 were not above it.
type Fill struct {
	Name      string        // of an instance; "" of a frontend
	Frontend  netip.Addr    // the zero Addr of an instance
	Is6       bool          // the address family
	Protocol  snat.Protocol // TCP, UDP or Query
	Allocated int           // ports, as of the last sample
	Peak, P99 int           // ports that at least one new flow could not get
}

// Share returns the share of Allocated that Peak is, 0..1.
func (f Fill) Share() float64 {
	if f.Allocated == 0 {
		return 0
	}
	return float64(f.Peak) / float64(f.Allocated)
}

// Uses is what outside ports are in use for. Flows to different destinations may share a port, so
// the first five, which are flows, may be more than the ports.
type Uses struct {
	Ports int // in use, of all frontends and protocols

	Busy       int // flows of connections under way, or just closing
	Idle       int // flows of connections that rest
	UDP        int // flows of UDP sockets that are open
	UDPWaiting int // flows of UDP sockets that are closed, and that no timeout has ended yet
	Abandoned  int // flows of TCP that no host knows any more

	HeldFIN, HeldRST, HeldUDP int // ports that are kept from destinations, as [snat.PortUses] has them
}
