package dataplane

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// The pass of one packet through the lock of its shard. There is no other way: whole
// packets of any realm, both legs of a hairpin and first fragments come here, and a
// batch (batch.go) is the same pass with many packets abreast.
//
//	routes      the configuration in force, one atomic read, by the caller
//	parse       instance and shard, by addresses and ports (parse.go); what needs no
//	            shard has its verdict here, and fragments and hairpins go aside
//	locate      another shard, where shared ports give them remotes; another key, if a
//	            router may not forward the packet
//	lock        of that shard, and no other
//	in force?   else unlock, take the new routes, and parse again
//	approach    if the packet's time is far from the shard's, end what is due
//	process     session, tracker, rewrite, verdict (process.go)
//	count       traffic of the frontend, if that is configured
//	unlock
//	undecided?  a new flow that needs other shards to end what is due first: let them,
//	            and parse again; or a packet of a target that is no answer (forwarding.go):
//	            parse again as if it was not a target's
//
// What follows needs no lock: a router counts down hops and splits what is too long
// (hop.go).

// pass takes a packet that has come from a side through its shard. r are the routes of
// its realm; l.p is the packet as the parser has read it, and problem what the parser
// says of it. It returns the routes by which the packet was decided. No shard's lock
// may be held.
func (n *NAT) pass(from flow.Side, r *routes, now flow.Time, l *lane, problem wire.Problem, v *flow.Verdict) *routes {
	l.now = now
	for ; ; r = n.renew(now).Realm(r.ID) {
		goesOn := false
		switch { // not a function: a call would cost as much as what it decides
		case l.first:
			goesOn = n.parseFirst(from, r, l, v)
		case from == flow.Inside:
			goesOn = n.parseOutbound(r, l, problem, v)
		default:
			goesOn = n.parseInbound(r, l, problem, v)
		}
		if !goesOn {
			if v.Action == undecided {
				n.aside(from, r, now, l, v)
			}
			return r
		}
		if r.Locates {
			n.locate(from, r, l)
		}
		sh := n.shards[l.shard]
		sh.Lock()
		if n.steady.Load() != r.Whole && !n.inForce(r, now) {
			sh.Unlock()
			l.answer, l.floating = noAnswer, false
			continue
		}
		at := now
		if !sh.Near(now) {
			at = sh.approach(now)
		}
		m := moment{routes: r, now: at, tick: flow.TickOf(at)}
		switch {
		case from == flow.Outside:
			sh.processInbound(&m, l, v)
		case l.answer == maybeAnswer:
			sh.processAnswer(&m, l, v)
		default:
			sh.processOutbound(&m, l, v)
		}
		if r.CountTraffic {
			l.count(from, r, v)
		}
		sh.Unlock()
		if v.Action != undecided {
			return r
		}
		if l.answer != noAnswer {
			l.answer, l.asked, l.id, l.s = noAnswer, true, 0, nil // what was found is another shard's
		} else {
			n.catchUp(now)
			l.caughtUp = true
		}
	}
}

// locate finds the shard of a packet where ports are shared, and gives one that
// may not be forwarded a key without a session.
func (n *NAT) locate(from flow.Side, r *routes, l *lane) {
	switch {
	case n.ports.ByRemote():
		n.locateRemote(from, l)
	case from == flow.Inside && r.Forwards.Len() > 0 && !l.asked && n.messages.CarriesError(&l.p):
		n.locateQuoted(r, l)
	}
	if n.routed {
		n.screen(l)
	}
}

// aside decides on a fragment, or on a packet that is to be hairpinned.
func (n *NAT) aside(from flow.Side, r *routes, now flow.Time, l *lane, v *flow.Verdict) {
	switch {
	case l.first:
		*v = n.dropFragments(from, flow.ReasonHairpin, 1)
	case l.p.Flags&wire.Fragmented != 0:
		n.fragment(from, r, now, &l.p, v)
	case r.Hairpin:
		*v = n.hairpin(r, now, &l.p)
	default: // from inside to a forward
		*v = n.leg(flow.Outside, r.Whole, now, &l.p)
	}
}

// fragment decides on the fragment p. No lock may be held.
func (n *NAT) fragment(from flow.Side, r *routes, now flow.Time, p *wire.Packet, v *flow.Verdict) {
	sender, reason := r.SenderOf(from, p)
	if n.fragments.forwardedOnly && !r.MayBeForwarded(from, p) {
		reason = flow.ReasonFragment
	} else if reason == flow.ReasonNone && p.Flags&wire.NonFirst != 0 {
		if c := n.router.Unfit(p); c != nil {
			reason = c.Reason // nobody is told (RFC 1812 section 4.3.2.7)
		}
	}
	if reason != flow.ReasonNone {
		*v = n.dropFragments(from, reason, 1)
		return
	}
	n.fragments.table.Decide(now, from, sender, p, v, func() { n.translateFirst(from, r, now, p, v) })
}

// translateFirst sends a first fragment the way of a whole packet.
func (n *NAT) translateFirst(from flow.Side, r *routes, now flow.Time, p *wire.Packet, v *flow.Verdict) {
	if n.shared.CarriesError(p) || // never half translated
		n.fragments.udpOnly && p.Proto != wire.ProtoUDP {
		*v = n.dropFragments(from, flow.ReasonFragment, 1)
		return
	}
	*v = flow.Verdict{}
	n.pass(from, r, now, &lane{p: *p, first: true}, wire.OK, v)
}

// hairpin translates a packet from the inside twice. No lock may be held.
func (n *NAT) hairpin(r *routes, now flow.Time, p *wire.Packet) flow.Verdict {
	out := n.leg(flow.Inside, r, now, p)
	if out.Action != flow.Forward {
		return out
	}
	in := n.leg(flow.Outside, r.Whole, now, p)
	in.New = in.Action == flow.Forward && (in.New || out.New)
	return in
}

// leg translates a hairpinned packet in one direction.
func (n *NAT) leg(from flow.Side, r *routes, now flow.Time, p *wire.Packet) (v flow.Verdict) {
	n.pass(from, r, now, &lane{p: *p, hairpin: true}, wire.OK, &v)
	return v
}

// approach comes before a packet whose time is not near to that of its shard, whose
// lock is held; see [flow.Shard.Near]. If it is later, all that is due ends first. If
// it is earlier, the packet is judged by the earliest time that is near.
func (sh *shard) approach(now flow.Time) flow.Time {
	sh.expireAll(now)
	return max(now, sh.Reached().Add(-flow.MaxLag))
}

// dropEarly counts a packet that is dropped before its shard is known.
func (n *NAT) dropEarly(from flow.Side, r flow.Reason, v *flow.Verdict) bool {
	if n.closed.Load() {
		r = flow.ReasonClosed
	}
	n.early.Drop(from, r, 1)
	*v = flow.Verdict{Action: flow.Drop, Reason: r}
	return false
}
