package snat

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// The pass of one packet through the lock of its shard. There is no other way: whole
// packets of any realm, both legs of a hairpin and first fragments come here, and a
// batch (batch.go) is the same pass with many packets abreast.
//
//	routes      the configuration in force, one atomic read, by the caller
//	parse       instance and shard, by addresses and ports (packet.go); what needs no
//	            shard has its verdict here, and fragments and hairpins go aside
//	locate      another shard, where an inventory gives them remotes; another key, if a
//	            router may not forward the packet
//	lock        of that shard, and no other
//	in force?   else unlock, take the new routes, and parse again
//	approach    if the packet's time is far from the shard's, end what is due
//	process     session, tracker, rewrite, verdict (packet.go)
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
	for ; ; r = n.renew(now).realm(r.id) {
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
		if n.routed || n.ports.ByRemote() {
			n.locate(from, l)
		}
		sh := &n.shards[l.shard]
		sh.Lock()
		if n.steady.Load() != r.whole && !n.inForce(r, now) {
			sh.Unlock()
			l.answer, l.floating = noAnswer, false
			continue
		}
		at := now
		if !sh.Near(now) {
			at = sh.approach(now)
		}
		m := moment{r, at, flow.TickOf(at)}
		if from == flow.Inside {
			sh.processOutbound(&m, l, v)
		} else {
			sh.processInbound(&m, l, v)
		}
		if r.countTraffic {
			l.count(from, r, v)
		}
		sh.Unlock()
		if v.Action != undecided {
			return r
		}
		if l.answer != noAnswer {
			l.answer, l.asked = noAnswer, true
		} else {
			n.catchUp(now)
			l.caughtUp = true
		}
	}
}

// parse is the part of a pass that needs no lock, of a packet other than a first
// fragment. If it returns false the verdict is final, or undecided.
func (n *NAT) parse(from flow.Side, r *routes, l *lane, problem wire.Problem, v *flow.Verdict) bool {
	if from == flow.Inside {
		return n.parseOutbound(r, l, problem, v)
	}
	return n.parseInbound(r, l, problem, v)
}

// locate finds the shard of a packet where there is an inventory, and gives one that
// may not be forwarded a key without a session.
func (n *NAT) locate(from flow.Side, l *lane) {
	if n.ports.ByRemote() {
		n.locateRemote(from, l)
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
	case r.hairpin:
		*v = n.hairpin(r, now, &l.p)
	default: // from inside to a forward
		*v = n.leg(flow.Outside, r.whole, now, &l.p)
	}
}

// approach comes before a packet whose time is not near to that of its shard, whose
// lock is held; see [flow.Shard.Near]. If it is later, all that is due ends first. If
// it is earlier, the packet is judged by the earliest time that is near.
func (sh *shard) approach(now flow.Time) flow.Time {
	sh.expireAll(now)
	return max(now, sh.Reached().Add(-flow.MaxLag))
}

// renew returns the routes in force at now.
func (n *NAT) renew(now flow.Time) *routes {
	r := n.routes.Load()
	if r.over(now) {
		n.control.Lock()
		defer n.control.Unlock()
		n.endGrace(now)
		r = n.routes.Load()
	}
	return r
}

// inForce reports whether r are the routes in force at now. It needs the lock of
// a shard, under which the answer remains true.
func (n *NAT) inForce(r *routes, now flow.Time) bool {
	return n.routes.Load() == r.whole && !r.over(now)
}
