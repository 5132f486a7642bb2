package snat

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/holders"
)

// CountHolders says how it is counted who holds outside ports. What is counted is always up to date,
// so that [NAT.Holders] walks over no flows. It costs each flow 0.1 µs when it begins, closes and ends, and up
// to 0.5 µs where every flow has a destination of its own (measured on a busy AMD EPYC, 2026-11; it is off
// unless set); packets of flows that there are cost nothing. Memory is 64 to 128 bytes for each
// inside address, for each destination of an instance, and for each pair of both that holds ports.
type CountHolders struct {
	// On has it counted.
	On bool

	// Window is the time by which new flows are counted, for their rate: that since the
	// beginning of the window before the one at hand, so of 1 to 2 windows. 1 s to 24 h; 0 means
	// a minute, which is our choice, as is Azure Monitor's grain.
	Window time.Duration

	// IdleAfter is for how long nothing has passed on a flow that counts as idle; see
	// [Holder].Idle. 1 s to 24 h; 0 means a minute, our choice.
	IdleAfter time.Duration

	// Limit bounds what is remembered, of each kind: inside addresses and destinations that
	// hold no port now, and pairs of both that do. It is shared out evenly to the shards. Beyond it
	// the parties that have been idle longest are forgotten, and ports of further pairs are
	// counted for their inside address only ([Holders].Uncounted). 64 to 2^30; 0 means 1 Mi,
	// our choice.
	Limit int
}

// Defaults of CountHolders, and its bounds; our choice.
const (
	defaultHoldersWindow = time.Minute
	defaultHoldersLimit  = 1 << 20
	minHoldersLimit      = flow.MaxShards
	maxHoldersLimit      = 1 << 30
)

// rules compiles c for a number of shards.
func (c CountHolders) rules(shards int) holders.Rules {
	if !c.On {
		return holders.Rules{}
	}
	return holders.Rules{Window: cmp.Or(c.Window, defaultHoldersWindow), IdleAfter: cmp.Or(c.IdleAfter, defaultHoldersWindow), Limit: (cmp.Or(c.Limit, defaultHoldersLimit) + shards - 1) / shards}
}

// countHolders checks Dataplane.CountHolders.
func (v *validation) countHolders(c *CountHolders) {
	if c.Window != 0 {
		problems.Between(&v.List, "CountHolders.Window", c.Window, time.Second, 24*time.Hour)
	}
	if c.IdleAfter != 0 {
		problems.Between(&v.List, "CountHolders.IdleAfter", c.IdleAfter, time.Second, 24*time.Hour)
	}
	if c.Limit != 0 {
		problems.Between(&v.List, "CountHolders.Limit", c.Limit, minHoldersLimit, maxHoldersLimit)
	}
}

// HoldersBy says what a row of Holders is about.
type HoldersBy uint8

// The groupings.
const (
	HoldersByInstance            HoldersBy = iota // an instance
	HoldersByInside                               // an inside address of an instance: the pod
	HoldersByDestination                          // a remote address and port of a protocol
	HoldersByInstanceDestination                  // an instance towards a destination; with Shared ports, all instances together
	HoldersByInsideDestination                    // an inside address towards a destination
	numHoldersBy
)

// Holder is who holds outside ports. The same flow counts in one row of each grouping.
type Holder struct {
	Instance string         // its name; "" by destination
	Inside   netip.Addr     // by inside address, as the instance sees it; else the zero Addr
	Remote   netip.AddrPort // by destination, port 0 of queries; else the zero AddrPort
	Protocol Protocol       // of a destination; All if the row is about none

	// Ports are the pairs of outside port and remote that are held, as [NAT.TopPorts] counts
	// them, and PortUses what for; Resting and Excluded are 0, for those are nobody's.
	Ports int
	PortUses

	// Created counts the flows that got a port. A connection that begins again on the sockets of
	// a closed one keeps its port, and does not count. It is 0 in rows of an inside address
	// towards a destination, and so is PerSecond.
	Created uint64

	// PerSecond is the rate of new flows since the beginning of the window before the one at
	// hand; see [CountHolders].Window.
	PerSecond float64

	// Suffered counts the packets that were refused for want of a port or because of a limit.
	// Those of a flow that tries again all count.
	Suffered uint64

	// Looked is how many active flows have been looked at just now, at random, 64 of each shard at
	// most, and Idle how many of these have been idle for longer than [CountHolders].IdleAfter, as
	// of the time that Advance has reached. Idle/Looked is an estimate of a share that is exact
	// nowhere, for packets of flows that there are count nothing: its standard error is
	// sqrt(share·(1-share)/Looked). Looks at other times are at other flows.
	Looked, Idle int

	// Blamed counts the refusals that an inside address, or the inside addresses of an
	// instance, have made: each counts for the one that holds most ports towards the
	// refused destination at that moment, on the ports that the refused flow could have
	// had. It may be the refused one itself. If nobody holds any towards that destination,
	// because ports are taken whatever their destination ([ShareNever]), it counts for the one
	// that holds most of the instance's ports of that family and protocol. What a limit of
	// [Limits] refuses counts for who has reached it; what is refused because the instance has
	// no ports of that kind ([flow.ReasonNoOutbound]), as many subscribers as it may have, or
	// no memory, for nobody. Of equals, the lowest address is blamed. It is 0 in rows with a
	// destination.
	Blamed uint64
}

// Holders is who holds the ports of a NAT at a moment.
type Holders struct {
	Rows []Holder // most ports first, then most refusals suffered, then by name

	// Uncounted are the ports that rows with a destination leave out, because there are
	// too many pairs; see [CountHolders].Limit. A destination without a row has at most
	// MostUncounted of them in each shard.
	Uncounted, MostUncounted int
}

// Holders returns who holds outside ports, grouped as by says, without a walk over the flows; nothing
// unless [Dataplane].CountHolders is set. now is what rates are as of, and must not lie before the time of the
// latest packet. Flows of which the time is up count until they end, as in Sessions: call
// Advance first to be exact. Inside addresses and destinations of the past have rows, too, while
// there are not too many. Rows of inside addresses and of instances are exact, except that those
// of the past which are forgotten are left out of the first. Cost: O(rows) and 64 flows for each shard, under the lock of one shard at a
// time. It panics unless by is one of the constants.
func (n *NAT) Holders(now flow.Time, by HoldersBy) Holders {
	if by >= numHoldersBy {
		panic("snat: unknown HoldersBy")
	}
	rows, h, span := map[holderKey]*holderRow{}, Holders{}, 0.0
	n.plane.Shards(func(of *ports.State) {
		t := of.Holders()
		if !t.On() {
			return
		}
		row := func(k holderKey) *holderRow {
			r := rows[k]
			if r == nil {
				r = &holderRow{name: of.NameOf(k.instance)}
				rows[k] = r
			}
			return r
		}
		span = now.Sub(t.Since(now)).Seconds()
		h.Uncounted += t.Spilled()
		h.MostUncounted = max(h.MostUncounted, int(t.MostSpilled()))
		defer func() {
			for f, idle := range of.Look(now) {
				if r := rows[keyOf(by, &f)]; r != nil {
					r.looked++
					if idle {
						r.idle++
					}
				}
			}
		}()
		if by == HoldersByInsideDestination {
			for pair, held := range t.Pairs() {
				row(keyOf(by, &pair)).hold(&held)
			}
			return
		}
		destinations := by == HoldersByDestination || by == HoldersByInstanceDestination
		for p := range t.Parties() {
			if p.IsDestination() != destinations {
				continue
			}
			f := holders.Flow{Instance: p.Of, Space: p.Of, Inside: p.Addr, Remote: p.Addr, Port: p.Port, Proto: p.Proto, Family: p.Family & 1}
			r := row(keyOf(by, &f))
			r.hold(&p.Held)
			r.Add(&p.Counts)
			r.recent += uint64(t.Recent(p, now))
		}
		if by == HoldersByInstance {
			for i, c := range t.Forgotten() {
				row(holderKey{instance: i}).Add(&c)
			}
		}
	})
	for k, r := range rows {
		h.Rows = append(h.Rows, r.holder(&k, span))
	}
	slices.SortFunc(h.Rows, Holder.compare)
	return h
}

// holderKey tells rows apart.
type holderKey struct {
	instance       uint32 // or holders.AllInstances
	inside, remote holders.Name
}

// keyOf returns the key of the row that counts a flow.
func keyOf(by HoldersBy, f *holders.Flow) (k holderKey) {
	switch by {
	case HoldersByInstance:
		k.instance = f.Instance
	case HoldersByInside: // of all protocols
		k.instance, k.inside = f.Instance, holders.Name{Addr: f.Inside, Family: f.Family | holders.Inside}
	case HoldersByDestination:
		k.instance, k.remote = holders.AllInstances, f.DestinationName()
		k.remote.Of = holders.AllInstances
	case HoldersByInstanceDestination:
		k.instance, k.remote = f.Space, f.DestinationName()
	case HoldersByInsideDestination:
		k = holderKey{f.Instance, f.InsideName(), f.DestinationName()}
	}
	return k
}

// holderRow sums up what shards have of a row.
type holderRow struct {
	name string
	held [holders.NumUses]int
	holders.Counts
	recent uint64

	looked, idle int
}

func (r *holderRow) hold(h *holders.Held) {
	for use, k := range h {
		r.held[use] += int(k)
	}
}

// holder returns the row of a key, with the rate over a span in seconds.
func (r *holderRow) holder(k *holderKey, span float64) Holder {
	h := Holder{
		Instance: r.name, PortUses: PortUses{
			Active: r.held[holders.Active], HeldFIN: r.held[holders.HeldFIN], HeldRST: r.held[holders.HeldRST], HeldUDP: r.held[holders.HeldUDP],
		},
		Created: r.Created, Suffered: r.Refused, Blamed: r.Blamed, Looked: r.looked, Idle: r.idle,
	}
	h.Ports = h.PortUses.Total()
	if k.inside != (holders.Name{}) {
		h.Inside = ports.Unpacked(k.inside.Family&1, k.inside.Addr)
	}
	if d := &k.remote; d.Proto != 0 {
		h.Remote, h.Protocol = netip.AddrPortFrom(ports.Unpacked(d.Family, d.Addr), d.Port), Protocol(ports.PoolIndex(d.Proto))+TCP
	}
	if span > 0 {
		h.PerSecond = float64(r.recent) / span
	}
	return h
}

// compare orders rows.
func (h Holder) compare(o Holder) int {
	return cmp.Or(cmp.Compare(o.Ports, h.Ports), cmp.Compare(o.Suffered, h.Suffered), strings.Compare(h.Instance, o.Instance),
		h.Inside.Compare(o.Inside), h.Remote.Compare(o.Remote), cmp.Compare(h.Protocol, o.Protocol))
}
