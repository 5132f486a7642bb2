package snat_test

// The log under arbitrary scripts: whose a port was can be told from it.

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat"
	"github.com/seed-a61be3fe/natplane/snat/deterministic"
	"github.com/seed-a61be3fe/natplane/snat/ipfix"
)

// ledger is what a log says is so.
type ledger struct {
	t        testing.TB
	fixed    *deterministic.Mapping
	blocks   map[string]netip.Addr // subscribers by frontend and ports
	sessions map[string]netip.AddrPort
	paired   map[string]netip.Addr
}

// enter books an event.
func (l *ledger) enter(e snat.Event) {
	size := 0
	for _, f := range ipfix.AppendTemplate(nil, &e) {
		size += int(f.Length)
	}
	require.Len(l.t, ipfix.AppendRecord(nil, &e), size, "%+v", e)
	block, session := fmt.Sprint(e.Outside.Addr(), e.Ports), fmt.Sprint(e.Proto, e.Outside, e.Remote)
	switch e.Kind {
	case snat.EventBlockCreate:
		require.NotContains(l.t, l.blocks, block)
		l.blocks[block] = e.Inside.Addr()
	case snat.EventBlockDelete:
		require.Equal(l.t, e.Inside.Addr(), l.blocks[block])
		delete(l.blocks, block)
	case snat.EventAddressBindingCreate:
		require.NotContains(l.t, l.paired, e.Inside.Addr().String())
		l.paired[e.Inside.Addr().String()] = e.Outside.Addr()
	case snat.EventAddressBindingDelete:
		require.Equal(l.t, e.Outside.Addr(), l.paired[e.Inside.Addr().String()])
		delete(l.paired, e.Inside.Addr().String())
	case snat.EventSessionCreate:
		require.NotContains(l.t, l.sessions, session)
		l.sessions[session] = e.Inside
		owner := l.owner(e.Outside)
		require.Equal(l.t, e.Inside.Addr(), owner, "%v is a port of %v", e.Outside, owner)
	case snat.EventSessionDelete:
		require.Equal(l.t, e.Inside, l.sessions[session])
		delete(l.sessions, session)
	}
}

// owner returns the subscriber whose port is one, by the parameters or the log.
func (l *ledger) owner(port netip.AddrPort) netip.Addr {
	if l.fixed != nil {
		if who, kind := l.fixed.Inside(port); kind == deterministic.Fixed {
			return who
		}
	}
	first := port.Port() / 16 * 16
	return l.blocks[fmt.Sprint(port.Addr(), flow.PortSpan{First: first, Last: first + 15})]
}

// FuzzLog opens flows by a script where subscribers have blocks, with or without
// fixed ports, and takes ports away and gives them back.
func FuzzLog(f *testing.F) {
	fuzzScripts(f, 150, func(t *testing.T, s *script) {
		r, j := realms[0], journal{}
		l := &ledger{t: t, blocks: map[string]netip.Addr{}, sessions: map[string]netip.AddrPort{}, paired: map[string]netip.Addr{}}
		tweak := func(c *snat.Config) {
			c.Log = snat.Log{Sessions: true, Destinations: true}
			c.Timeouts.UDP, c.Timeouts.TCPOpening = 40*time.Second, 20*time.Second
			ownedPorts(c).Allocation.Choice = pick(s, snat.RandomPort, snat.PreservePort, snat.LowestPort)
			ownedPorts(c).Allocation.Pooling = pick(s, snat.Paired, snat.PairedSoft)
			ownedPorts(c).Blocks.PerSubscriber = s.next(4)
			ownedPorts(c).UDP.Share = pick(s, snat.DefaultShare, snat.ShareNever)
			if s.next(2) > 0 {
				ownedPorts(c).Allocation.Quarantine = snat.Quarantine{Hold: 30 * time.Second, MaxPorts: s.next(20)}
			}
		}
		var c snat.Config
		if s.next(2) > 0 {
			c, l.fixed = j.fixedPorts(r, tweak)
		} else {
			c = j.inBlocks(tweak, func(c *snat.Config) {
				c.Instances[0].Ports = append(c.Instances[0].Ports, snat.PortRange{Frontend: addr(frontend).Next(), First: 2048, Count: 32})
			})
		}
		c.Hooks.Event = l.enter
		bed := newBed(t, c)
		now := time.Duration(0)
		for !s.done() {
			src, dst := socket(fmt.Sprint("10.0.0.", 1+s.next(6)), 1000+s.next(20)), socket(pick(s, r.s, r.q), 440+s.next(2))
			switch s.next(12) {
			case 0:
				now += time.Duration(s.next(30)) * time.Second
				bed.at(now)
			case 1:
				now += time.Duration(s.next(30)) * time.Second
				bed.lazily(now)
			case 2:
				if l.fixed != nil || s.next(4) > 0 {
					continue
				}
				less := c
				less.ReclaimGrace = time.Duration(s.next(2)) * 10 * time.Second
				less.Instances = append([]snat.Instance(nil), c.Instances...)
				less.Instances[0].Ports = c.Instances[0].Ports[:s.next(3)]
				for _, next := range []snat.Config{less, c} {
					_, err := bed.Reconfigure(bed.now, next)
					require.NoError(t, err)
					bed.Check()
				}
			case 3, 4, 5, 6:
				bed.opens("tcp", src, dst)
			default:
				bed.opens("udp", src, dst)
			}
			require.Len(t, bed.Blocks(), len(l.blocks))
			for _, row := range bed.Blocks() {
				require.Equal(t, row.Addr, l.blocks[fmt.Sprint(row.Frontend, row.Ports)])
			}
		}
		bed.at(now + 2*time.Hour)
		require.Empty(t, l.blocks)
		require.Empty(t, l.sessions)
		require.Empty(t, l.paired)
	})
}
