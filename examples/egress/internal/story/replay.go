// The event loop: copies of a recording start one after the other, every packet
// meets the cluster at its virtual time, and replies are addressed to whatever
// the Internet saw.
//
// Memory holds one cursor and one leg per conversation for every copy under way,
// however many copies there are altogether.

package story

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/seed-a61be3fe/natplane/examples/internal/command"
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// pace is how often a pod begins a conversation on average. So the number of
// pods sets the load, and the number of copies how long it lasts.
const pace = 10 * time.Second

// maxYears bounds virtual time, which is counted in nanoseconds.
const maxYears = 100

// The ephemeral ports that Linux gives to clients by default.
const firstEphemeral, numEphemeral = 32768, 28232

// portRest is the shortest time after which a port of a quiet conversation may
// belong to somebody else, so that late replies no longer reach their pod: that
// of a connection that was reset (Azure, "Outbound connections", 2019).
const portRest = 15 * time.Second

// replay is one run of a recording through a cluster. The fields of the first
// group are set by the caller, who reads the tally afterwards.
type replay struct {
	recording *recording
	cluster   flow.Translator
	pods      []pod
	places    []int        // pods of the hosts of the recording; nil draws them anew for each copy
	frontends []netip.Addr // outbound IPs, IPv4 first
	nodeIPs   []netip.Addr // public addresses of nodes
	copies    int
	seed      uint64
	random    *rand.Rand
	output    *output
	sample    func(now flow.Time) // looks at the cluster, once every sampleEvery
	busy      func() bool         // reports whether flows or ports remain; nil where nothing else is ever pending
	progress  func(done float64)  // told the share of packets done, now and then

	tally

	// Copies.
	interval time.Duration // between the starts of two copies
	started  int
	arrival  flow.Time // of the next copy
	agenda   agenda
	spare    []*performance
	live     map[socket]*leg // conversations under way
	podOf    map[netip.Addr]int
	public   map[netip.Addr]bool

	// Virtual time.
	now         flow.Time
	deadline    flow.Time // what the cluster has to do next ..
	pending     bool      // .. if anything
	sampleEvery time.Duration
	nextSample  flow.Time
	nextRefusal flow.Time // of which a sample is taken

	lastReset netip.AddrPort
	buffer    []byte
}

// tally is what the event loop counts.
type tally struct {
	outbound, inbound            int // packets offered to the cluster
	forwarded, bypassed, dropped int // what became of them
	queued                       int // fragments that wait for the first of their datagram
	drops                        [flow.NumReasons]int
	resets                       [2]int    // packets made by the cluster, by flow.Side
	resetPods                    int       // connections of pods that they were about
	astray                       int       // replies that did not reach their pod's socket; must be 0
	conversations                int       // begun
	refused                      int       // conversations that could not begin, or begin anew after their flow expired
	cut                          int       // conversations reset although their recording went on
	local                        int       // conversations that never left the virtual network
	destinations                 []traffic // by index in recording.destinations
	packetsDone                  int       // packets of all copies, sent or not
	trafficEnd                   flow.Time // of the last packet of a recording
}

// traffic is what one pod or destination takes part in.
type traffic struct{ conversations, refused, packets int }

// pod is a pod as the event loop sees it.
type pod struct {
	name, node string
	v4, v6     netip.Addr
	ephemeral  int // the source port to try next, less firstEphemeral
	traffic
}

// socket is a pod's end of a conversation.
type socket struct {
	pod  int
	port uint16
}

// performance is one copy of the recording under way.
type performance struct {
	start flow.Time
	next  int   // index of the packet to send next
	pods  []int // by host of the recording
	legs  []leg // by conversation
}

// leg is one conversation of a performance.
type leg struct {
	pod     int
	remote  netip.AddrPort // the other end
	inside  netip.AddrPort // the pod's end
	outside netip.AddrPort // what the Internet sees of it
	last    flow.Time      // of its last packet
	state   legState
	public  bool // outside is an outbound IP
	variation
}

// legState says how far a conversation has come.
type legState uint8

const (
	unopened   legState = iota // no packet yet
	opened                     // nothing has been forwarded yet
	translated                 // outside is known
	local                      // bypasses the translator; replies do too
	abandoned                  // refused, dropped or reset: nothing more is sent
)

// play sends all copies. Virtual time ends at the last packet.
func (r *replay) play(ctx context.Context) error {
	r.live, r.podOf, r.public = make(map[socket]*leg), make(map[netip.Addr]int), make(map[netip.Addr]bool)
	for i := range r.pods {
		p := &r.pods[i]
		r.podOf[p.v4] = i
		if p.v6.IsValid() {
			r.podOf[p.v6] = i
		}
		p.ephemeral = r.random.IntN(numEphemeral)
	}
	for _, a := range slices.Concat(r.frontends, r.nodeIPs) {
		r.public[a] = true
	}
	r.destinations = make([]traffic, len(r.recording.destinations))
	r.interval = max(1, time.Duration(len(r.recording.conversations))*pace/time.Duration(len(r.pods)))
	if years := (float64(r.copies)*r.interval.Hours() + r.recording.length().Hours()) / (365 * 24); years > maxYears {
		return fmt.Errorf("-copies %d: would take %.0f years of virtual time, more than %d", r.copies, years, maxYears)
	}
	r.arrival = flow.At(r.jitter())
	r.sampleEvery = r.sampleInterval()
	defer func() {
		r.trafficEnd = r.now
		r.sample(r.now)
	}()
	for n := 0; r.started < r.copies || len(r.agenda) > 0; n++ {
		const look = 4096 // packets between two looks at what is not virtual
		if n%look == 0 {
			if err := r.interrupted(ctx); err != nil {
				return err
			}
			r.progress(r.done())
		}
		if r.started < r.copies && (len(r.agenda) == 0 || r.arrival <= r.agenda[0].at) {
			r.startCopy()
		} else {
			r.step()
		}
	}
	return r.interrupted(ctx)
}

// done returns the share of the packets that have been sent, or need not be.
func (r *replay) done() float64 {
	return float64(r.packetsDone) / (float64(r.copies) * float64(len(r.recording.packets)))
}

// drain lets virtual time pass until nothing is pending: until the last flow has
// expired and the last port is free again.
func (r *replay) drain(ctx context.Context) error {
	for r.refresh(); r.pending && (r.busy == nil || r.busy()); {
		if err := r.interrupted(ctx); err != nil {
			return err
		}
		r.until(r.deadline)
	}
	r.sample(r.now)
	r.dropped += r.queued // their first has not come
	r.drops[flow.ReasonFragTimeout] += r.queued
	r.queued = 0
	return r.interrupted(ctx)
}

// interrupted returns why the run cannot go on, or nil.
func (r *replay) interrupted(ctx context.Context) error {
	if ctx.Err() != nil {
		return command.ErrInterrupted
	}
	return command.Failed(ctx, r.output.err())
}

// jitter returns a random part of the interval between two copies.
func (r *replay) jitter() time.Duration { return time.Duration(r.random.Int64N(int64(r.interval))) }

// length returns how long the traffic takes, to within a copy.
func (r *replay) length() time.Duration {
	return time.Duration(r.copies)*r.interval + r.recording.length()
}

// sampleInterval returns a minute, as Azure's metrics have it, or more when the
// samples would be too many to keep.
func (r *replay) sampleInterval() time.Duration {
	const most = 2000
	return (r.length()/most + time.Minute).Truncate(time.Minute)
}

// startCopy begins another copy of the recording: its hosts are where they were
// placed, or pods drawn at random.
func (r *replay) startCopy() {
	var p *performance
	if n := len(r.spare); n > 0 {
		p, r.spare = r.spare[n-1], r.spare[:n-1]
		clear(p.legs)
	} else {
		p = &performance{pods: make([]int, len(r.recording.hosts)), legs: make([]leg, len(r.recording.conversations))}
	}
	p.start, p.next = r.arrival, 0
	for i := range p.pods {
		if r.places != nil {
			p.pods[i] = r.places[i]
		} else {
			p.pods[i] = r.random.IntN(len(r.pods))
		}
	}
	r.agenda.push(event{at: p.start.Add(r.recording.packets[0].at), order: r.started, what: p})
	r.started++
	r.arrival = flow.At(time.Duration(r.started)*r.interval + r.jitter())
}

// step sends the earliest packet.
func (r *replay) step() {
	e := &r.agenda[0]
	p := e.what
	r.until(e.at)
	packet := &r.recording.packets[p.next]
	conv := &r.recording.conversations[packet.conversation]
	leg := &p.legs[packet.conversation]
	if leg.state == unopened {
		r.open(leg, conv, p.pods[conv.host])
		leg.variation = vary(r.seed, e.order, packet.conversation)
	}
	r.send(packet, conv, leg)
	if p.next == conv.last {
		delete(r.live, socket{leg.pod, leg.inside.Port()})
	}
	r.packetsDone++
	if p.next++; p.next == len(r.recording.packets) {
		r.agenda.pop()
		r.spare = append(r.spare, p)
		return
	}
	e.at = p.start.Add(r.recording.packets[p.next].at)
	r.agenda.settle()
}

// open gives a conversation its end on a pod. Ports go round, so that one comes
// back as late as possible, and two conversations never share a socket.
func (r *replay) open(leg *leg, conv *conversation, at int) {
	p := &r.pods[at]
	r.conversations++
	p.conversations++
	r.destinations[conv.destination].conversations++
	addr := p.v4
	if conv.client.Addr().Is6() {
		addr = p.v6
	}
	leg.pod, leg.remote, leg.state = at, conv.server, opened
	leg.inside = netip.AddrPortFrom(addr, 0)
	if conv.client.Port() == 0 {
		return
	}
	for range numEphemeral {
		port := uint16(firstEphemeral + p.ephemeral)
		p.ephemeral = (p.ephemeral + 1) % numEphemeral
		if s := (socket{at, port}); r.live[s] == nil {
			r.live[s] = leg
			leg.inside = netip.AddrPortFrom(addr, port)
			return
		}
	}
	r.refuse(leg, conv)
}

// refuse ends a conversation that could not even begin.
func (r *replay) refuse(leg *leg, conv *conversation) {
	leg.state = abandoned
	r.refused++
	r.pods[leg.pod].refused++
	r.destinations[conv.destination].refused++
}

// send offers one packet to the cluster, as the pod or the Internet would.
func (r *replay) send(p *packet, conv *conversation, leg *leg) {
	if leg.state == abandoned || leg.state == local && p.reply {
		return
	}
	r.pods[leg.pod].packets++
	r.destinations[conv.destination].packets++
	r.buffer = append(append(r.buffer[:0], p.data...), make([]byte, p.cut)...)
	r.output.cutting(p.cut)
	leg.apply(p, conv, r.buffer)
	if p.reply {
		r.reply(p, leg, r.buffer)
	} else {
		r.request(p, conv, leg, r.buffer)
	}
	r.output.cutting(0)
	leg.last = r.now
}

// request sends b from the pod to the Internet.
func (r *replay) request(p *packet, conv *conversation, leg *leg, b []byte) {
	p.setSource(b, leg.inside)
	r.output.write(flow.Inside, r.now, b)
	r.outbound++
	v := r.cluster.Outbound(r.now, b)
	r.count(v)
	first := leg.state == opened
	switch v.Action {
	case flow.Forward:
		if p.transport != 0 || !p.piece { // of other fragments it is not known
			leg.outside, _ = p.endpoints(b) // another one than before if the flow had expired
		}
		leg.state, leg.public = translated, r.public[leg.outside.Addr()]
		if leg.public {
			r.output.write(flow.Outside, r.now, b)
		} else if first {
			r.local++
		}
	case flow.Bypass:
		if first {
			leg.state = local
			r.local++
		}
	case flow.Drop: // nobody will answer, so this is the end
		leg.state = abandoned
		if v.Reason == flow.ReasonPorts && r.now >= r.nextRefusal {
			r.sample(r.now) // what has used the ports
			r.nextRefusal = r.now.Add(r.sampleEvery)
		}
		if first || v.Reason == flow.ReasonPorts {
			r.refuse(leg, conv)
		}
	}
}

// reply sends b from the Internet to what it saw of the pod, or to an outbound IP
// if it has seen nothing.
func (r *replay) reply(p *packet, leg *leg, b []byte) {
	to := leg.outside
	if leg.state == opened {
		leg.public = true
		to = r.unsolicited(leg.inside)
	}
	p.setDestination(b, to)
	if leg.public {
		r.output.write(flow.Outside, r.now, b)
	}
	r.inbound++
	v := r.cluster.Inbound(r.now, b)
	r.count(v)
	if v.Action != flow.Forward {
		return
	}
	_, dst := p.endpoints(b)
	if p.piece && p.transport == 0 {
		dst = netip.AddrPortFrom(dst.Addr(), leg.inside.Port())
	}
	if (dst != leg.inside || v.To != flow.Inside) && r.now.Sub(leg.last) < portRest {
		r.astray++
	}
	r.output.write(flow.Inside, r.now, b)
}

// unsolicited returns the outbound IP that stands in for a pod's end.
func (r *replay) unsolicited(inside netip.AddrPort) netip.AddrPort {
	for _, a := range r.frontends {
		if a.BitLen() == inside.Addr().BitLen() {
			return netip.AddrPortFrom(a, inside.Port())
		}
	}
	return inside
}

// count adds a verdict to the tally.
func (r *replay) count(v flow.Verdict) {
	switch v.Action {
	case flow.Forward:
		r.forwarded++
	case flow.Bypass:
		r.bypassed++
	case flow.Queued:
		r.queued++
	default:
		r.dropped++
		r.drops[v.Reason]++
	}
}

// until moves virtual time to now, not without whatever is due on the way.
func (r *replay) until(now flow.Time) {
	if r.cluster.DeadlineMoved() {
		r.refresh()
	}
	for {
		switch {
		case r.pending && r.deadline <= now && r.deadline <= r.nextSample:
			r.now = max(r.now, r.deadline)
			r.cluster.Advance(r.now, r.emitted)
			r.refresh()
		case r.nextSample <= now:
			r.sample(r.nextSample)
			r.nextSample = r.nextSample.Add(r.sampleEvery)
		default:
			r.now = now
			return
		}
	}
}

// refresh asks the cluster when it has something to do next.
func (r *replay) refresh() { r.deadline, r.pending = r.cluster.NextDeadline() }

// emitted takes what the cluster sends on its own: resets of idle connections, and
// fragments that have waited. A reset that reaches a pod ends the conversation it is about.
func (r *replay) emitted(e flow.Emission) {
	var parsed wire.Packet
	problem := wire.Parse(e.Packet, &parsed)
	if parsed.Flags&wire.Fragmented != 0 {
		r.queued--
		r.forwarded++
		if src, _ := shapeOf(e.Packet, &parsed, false).endpoints(e.Packet); e.To == flow.Inside || r.public[src.Addr()] {
			r.output.write(e.To, e.At, e.Packet)
		}
		return
	}
	r.resets[e.To]++
	src, dst := shapeOf(e.Packet, &parsed, problem == wire.OK).endpoints(e.Packet)
	if e.To == flow.Outside {
		if r.public[src.Addr()] {
			r.output.write(flow.Outside, e.At, e.Packet)
		}
		return
	}
	r.output.write(flow.Inside, e.At, e.Packet)
	if dst != r.lastReset { // a connection may take two, one after the other
		r.lastReset = dst
		r.resetPods++
	}
	if at, ok := r.podOf[dst.Addr()]; ok {
		if leg := r.live[socket{at, dst.Port()}]; leg != nil && leg.remote == src {
			leg.state = abandoned
			r.cut++
		}
	}
}
