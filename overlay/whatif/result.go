// Results: what has become of a workload.

package whatif

import (
	"net/netip"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat"
	"github.com/seed-a61be3fe/natplane/snat/forecast"
)

// Result is what a simulation has done so far. Times are since its beginning. Two simulations of
// the same configuration have equal results.
type Result struct {
	Until time.Duration `json:"untilNanoseconds"` // the end of the last step in which there was something to do

	Traffic []Counts `json:"traffic"` // by Traffic, in their order; last those of a Trace, named "trace"
	Total   Counts   `json:"total"`   // of all; without name

	// Refusals are first packets that the world dropped, by reason, the most frequent first.
	Refusals []Refusal `json:"refusals"`

	Nodes     []Fill `json:"nodes"`     // ports of each instance, family and protocol; none where ports are shared
	Frontends []Fill `json:"frontends"` // ports of each frontend and protocol

	// Peak is who held the ports when there were most in use, within 25 per cent, and within 5 of
	// what lasted for ten samples; PeakAt is when that was.
	Peak   Uses          `json:"peak"`
	PeakAt time.Duration `json:"peakAtNanoseconds"` // see Peak

	// Hosts, Groups and Destinations are who held the ports, was refused them and is to blame for that,
	// those that held most at PeakAt first; none unless the world counts it
	// ([snat.Dataplane].CountHolders). Pods that share an address with their node count as that.
	Hosts        []Holding `json:"hosts"`
	Groups       []Holding `json:"groups"`       // see Hosts
	Destinations []Holding `json:"destinations"` // see Hosts

	// Outlooks are what is foretold now, of each instance and destination, the worst first, and
	// Foretold of those for which exhaustion was foretold, or has come, what became of that. Samples are
	// SampleInterval apart, and so exact are both. None unless the world counts who holds ports.
	Outlooks []forecast.Outlook `json:"outlooks"`
	Foretold []Foretold         `json:"foretold"` // see Outlooks

	// Stranded are the instances that have refused flows while others have free ports on the same
	// frontends, with the ports that are free now.
	Stranded []snat.StrandedPorts `json:"stranded"`

	Resets uint64 `json:"resets"` // RSTs that the world has sent to hosts, of idle connections or in answer

	// Packets that hosts have sent and that were sent to them, and how many of these the world has
	// dropped.
	Outbound        uint64 `json:"outbound"`
	Inbound         uint64 `json:"inbound"`         // see Outbound
	OutboundDropped uint64 `json:"outboundDropped"` // see Outbound
	InboundDropped  uint64 `json:"inboundDropped"`  // see Outbound
}

// Counts is what has become of the conversations of a Traffic. Those that are under way are in
// none of Completed, Abandoned, Failed, Cut and Broken.
type Counts struct {
	Name string `json:"name"` // of the Traffic

	Arrivals uint64 `json:"arrivals"` // requests, lookups, or media
	Cached   uint64 `json:"cached"`   // lookups that the cache has answered
	Waited   uint64 `json:"waited"`   // requests that have waited for a connection of their pool

	Conversations uint64 `json:"conversations"` // begun, Retries included
	Retries       uint64 `json:"retries"`       // conversations after one that has gone wrong
	Established   uint64 `json:"established"`   // that were answered; of media, that were forwarded
	Exchanges     uint64 `json:"exchanges"`     // requests, or lookups, that were answered
	Completed     uint64 `json:"completed"`     // that came to their end
	Abandoned     uint64 `json:"abandoned"`     // left as they were; see [Abandoned]

	RefusedPackets uint64        `json:"refusedPackets"`          // first packets that the world dropped, sent again or not
	Refused        uint64        `json:"refused"`                 // conversations that were refused at least once
	FirstRefused   time.Duration `json:"firstRefusedNanoseconds"` // when that was first; 0 if never

	Failed uint64 `json:"failed"` // that gave up connecting, or had no port, or of lookups were not answered
	Cut    uint64 `json:"cut"`    // that were reset by the world
	Broken uint64 `json:"broken"` // of which a later packet was dropped
	NoPort uint64 `json:"noPort"` // that failed for want of an ephemeral port of their host
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
	Reason  flow.Reason   `json:"reason"`           // of the verdicts
	Packets uint64        `json:"packets"`          // every one counts that is sent again
	First   time.Duration `json:"firstNanoseconds"` // when that was first
}

// Fill is how full the ports of an instance or a frontend were. Peak is exact, over all of the
// world's life; P99 is of the samples: 99 of 100 were not above it.
type Fill struct {
	Name      string        `json:"name"`      // of an instance; "" of a frontend
	Frontend  netip.Addr    `json:"frontend"`  // the zero Addr of an instance
	Is6       bool          `json:"is6"`       // the address family
	Protocol  snat.Protocol `json:"protocol"`  // TCP, UDP or Query
	Allocated int           `json:"allocated"` // ports, as of the last sample
	Peak      int           `json:"peak"`      // ports that at least one new flow could not get, at most
	P99       int           `json:"p99"`       // likewise, in 99 of 100 samples
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
	Ports int `json:"ports"` // in use, of all frontends and protocols

	Busy       int `json:"busy"`       // flows of connections under way, just closing, or given up unanswered
	Idle       int `json:"idle"`       // flows of connections that rest
	UDP        int `json:"udp"`        // flows of UDP sockets that are open
	UDPWaiting int `json:"udpWaiting"` // flows of UDP sockets that are closed, and that no timeout has ended yet
	Abandoned  int `json:"abandoned"`  // flows of open connections that no host knows any more

	HeldFIN int `json:"heldFIN"` // ports that are kept from destinations, as [snat.PortUses] has them
	HeldRST int `json:"heldRST"` // see HeldFIN
	HeldUDP int `json:"heldUDP"` // see HeldFIN
}
