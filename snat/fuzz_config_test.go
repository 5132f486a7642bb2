package snat_test

// Arbitrary configurations: whatever is in their fields, a configuration is either
// refused with an error or is that of a NAT that works.

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/arbitrary"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
	"github.com/seed-a61be3fe/natplane/snat/deterministic"
	"github.com/seed-a61be3fe/natplane/snat/ipfix"
	"github.com/seed-a61be3fe/natplane/snat/preset"
)

// everything is a translator with all that goes together switched on: fixed ports
// and blocks, limits, quarantine, hairpinning, held SYNs, fragments, ICMP, routes
// of all actions, resets, a log and counts of traffic.
func everything() snat.Config {
	c := hopOfAll()
	c.Instances[0].Ports = []snat.PortRange{
		{Frontend: addr(frontend), First: 1024, Count: 192}, {Frontend: addr(frontend).Next(), First: 2048, Count: 32},
		{Frontend: addr(frontend6), First: 1024, Count: 64},
	}
	c.Instances[0].Inside = prefixes("10.0.0.0/28", "fd00::/64")
	c.Instances[0].Deterministic = &deterministic.Parameters{
		Inside: prefixes("10.0.0.0/28"), Outside: prefixes(frontend + "/32"), DynamicFactor: 10, MaxPorts: 8 + 3*16,
		Reserved: []flow.PortSpan{{First: 1024 + 14*8 + 10*8, Last: 65535}},
	}
	c.Instances = append(c.Instances, snat.Instance{
		Name: "node", Addrs: []netip.Addr{addr("10.0.1.4"), addr("fd01::4")}, PublicAddrs: []netip.Addr{addr("20.50.1.4")},
		Inside: prefixes("10.244.0.0/24", "fd01:244::/64"), Ports: []snat.PortRange{{Frontend: addr(frontend6), First: 2048, Count: 32}},
	}, snat.Instance{
		Name: "overlay", Realm: 7, Inside: prefixes("10.0.0.0/24"), Ports: []snat.PortRange{{Frontend: addr(frontend), First: 4096, Count: 32}},
		Policy: &snat.Policy{IdleTimeout: time.Minute, PickUp: true, EndRefused: true, UDPRefresh: snat.RefreshPerDirection},
	})
	c.Routes = []snat.Route{
		{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Action: snat.NodeAddress},
		{Prefix: netip.MustParsePrefix("198.51.100.128/25"), Action: snat.PassThrough, BothWays: true},
		{Prefix: netip.MustParsePrefix("198.51.100.64/26"), Action: snat.Blackhole, Protocol: snat.TCP, FirstPort: 25, LastPort: 99},
	}
	c.EnableTCPReset, c.ResetUnknown, c.ResetSYN, c.ResetRate = true, snat.ResetSender, snat.ResetInside, 100
	c.UDPPorts = snat.PortTimeouts{{Port: 53, Timeout: time.Second}}
	ownedPorts(&c).TCP = snat.Behavior{Mapping: snat.EndpointIndependent, Filtering: snat.EndpointIndependentFiltering, Share: snat.ShareNever}
	ownedPorts(&c).UDP = ownedOf(c).TCP
	c.HoldSYN.Max = 8
	ownedPorts(&c).Hairpin = true
	c.TCPRules, c.Lenient = flow.ConntrackRules, snat.Leniency{TCPFlags: true, UDPPortZero: true, UDP6Zero: true}
	ownedPorts(&c).Allocation = snat.Allocation{
		Choice: snat.PreservePort, Parity: true, Class: snat.PreferClass, Pooling: snat.PairedSoft,
		Quarantine: snat.Quarantine{Hold: 30 * time.Second, MaxPorts: 20}, Exclude: []snat.Exclusion{{Frontend: addr(frontend), First: 1030, Last: 1037}},
	}
	ownedPorts(&c).Blocks = snat.PortBlocks{Size: 16, PerSubscriber: 4}
	ownedPorts(&c).Limits = snat.Limits{Ports: 60, TCPPorts: 40, UDPPorts: 40, QueryIDs: 20, Sessions: 90, SessionsPerMapping: 30, HalfOpen: 4, SessionRate: 1000, Subscribers: 12}
	c.Log = snat.Log{Sessions: true, Bindings: true, Destinations: true}
	c.Hooks = snat.Hooks{Event: func(e snat.Event) { ipfix.AppendRecord(nil, &e) }}
	c.ReclaimGrace, c.CountTraffic = 5*time.Second, true
	return c
}

// Everything does go together.
func TestEverything(t *testing.T) {
	b := newBed(t, everything())
	for _, h := range byFamily {
		require.NotContains(t, b.dials(socket(h.a, 5000), socket(h.s, 443)), "drop")
		require.NotContains(t, b.opens("udp", socket(h.a, 5000), socket(h.s, 53)), "drop")
	}
}

// configurations are where arbitrary ones begin.
func configurations(t testing.TB) (all []snat.Config) {
	all = []snat.Config{everything(), oneVM(64), twins(0, 7), gateway(64, 1), hopOfAll(), holding(4)}
	s := preset.Site{
		Instances: []snat.Instance{{Name: "vm", Addrs: []netip.Addr{addr(vmA), addr(vmA6)}, Inside: prefixes("10.244.0.0/24")}},
		Frontends: []netip.Addr{addr(frontend), addr(frontend6)},
	}
	for _, p := range preset.All() {
		c, err := p.Configure(s)
		if err != nil { // a product without IPv6
			v4 := s
			v4.Frontends = v4.Frontends[:1]
			c, err = p.Configure(v4)
		}
		require.NoError(t, err, p.Name)
		all = append(all, c)
	}
	return all
}

// Values worth trying in a field of a configuration.
var (
	someNumbers = []int64{0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 24, 63, 64, 65, 100, 255, 512, 1000, 1023, 1024, 1025, 1280, 4096, 5040, 32768,
		65528, 65535, 65536, 1 << 20, 1<<24 - 1, math.MaxInt32, math.MaxInt32 + 1, -1, -8, math.MinInt64, math.MaxInt64}
	someTimes = []time.Duration{0, 1, time.Millisecond, 999 * time.Microsecond, time.Second, 2 * time.Second, 6 * time.Second, time.Minute,
		2 * time.Hour, flow.MaxTimeout, flow.MaxTimeout + 1, -1, math.MaxInt64, math.MinInt64}
	someAddrs = []netip.Addr{{}, addr(vmA), addr(frontend), addr(frontend).Next(), addr(serverA), addr(vmA6), addr(frontend6), addr("10.0.1.4"), addr("20.50.1.4"), addr("0.0.0.0"),
		addr("127.0.0.1"), addr("255.255.255.255"), addr("224.0.0.1"), addr("::"), addr("::1"), addr("::ffff:10.0.0.4"), addr("fe80::1%%eth0"), addr("fe80::1"), addr("169.254.1.1"), addr("ff02::1"), addr("10.0.0.0"), addr("fd00::")}
)

// mutate changes something in a value to anything of its type.
func mutate(s *script, v reflect.Value) {
	arbitrary.Values{Numbers: someNumbers, Times: someTimes, Addrs: someAddrs, Texts: []string{"", "vm-a", "node", "%d\x00"},
		Types: []reflect.Type{reflect.TypeFor[*snat.Owned](), reflect.TypeFor[*snat.Shared]()}}.Change(s.next, v)
}

// exercise sends packets of all kinds to all addresses of a configuration, by both
// doors and from all its realms, and lets time pass.
func (b *bed) exercise(c *snat.Config) {
	b.seldom = true
	inside, outside := []netip.Addr{addr(vmA), addr(vmA6), addr("10.244.0.1")}, []netip.Addr{addr(frontend), addr(frontend6), addr("20.50.1.4")}
	for i := range min(4, len(c.Instances)) {
		inst := &c.Instances[i]
		inside, outside = append(inside, inst.Addrs...), append(outside, inst.PublicAddrs...)
		for j := range min(2, len(inst.Inside)) {
			inside = append(inside, inst.Inside[j].Addr().Next())
		}
	}
	odd := func(a netip.Addr) bool { return !a.IsValid() || a.Zone() != "" || a.Is4In6() } // of a configuration that was refused
	inside, outside = slices.DeleteFunc(inside, odd), slices.DeleteFunc(outside, odd)
	for round := range 2 {
		for n, a := range inside {
			far := serverA
			if a.Is6() {
				far = serverA6
			}
			src, dst := socket(a.String(), 5000+round), socket(far, 53)
			for _, pkt := range append(pkttest.Fragments(pkttest.UDP(src, dst, strings.Repeat("x", 100)), 64, uint32(n)), pkttest.UDP(src, dst, "x"),
				pkttest.TCP(src, dst, pkttest.SYN), pkttest.TCP(src, dst, pkttest.ACK), pkttest.IP(a.String(), far, 47, []byte("x")), pkttest.ICMPEcho(a.String(), far, 9, 1)) {
				for _, inst := range c.Instances[:min(4, len(c.Instances))] {
					b.Realm(inst.Realm).Outbound(b.now, clone(pkt))
				}
				b.Outbound(b.now, pkt)
			}
			for _, to := range outside {
				if to.Is6() != a.Is6() {
					continue
				}
				b.Outbound(b.now, pkttest.UDP(src, socket(to.String(), 1024), "hairpin"))
				for _, port := range []int{1, 1024, 1025, 2048, 4096} {
					near := socket(to.String(), port)
					b.Inbound(b.now, pkttest.UDP(dst, near, "x"))
					b.Inbound(b.now, pkttest.TCP(dst, near, pkttest.SYN))
					b.Inbound(b.now, pkttest.TCP(dst, near, pkttest.TCPFlags("SA"), pkttest.Ack(1)))
				}
			}
		}
		b.Check()
		b.at(b.now.Duration() + time.Duration(round)*time.Minute)
	}
}

// FuzzConfig changes fields of a configuration by a script.
func FuzzConfig(f *testing.F) {
	starts := configurations(f)
	for i := range starts {
		f.Add([]byte{byte(i), 0}, uint64(i))
		f.Add([]byte{byte(i), 2}, uint64(i))
	}
	fuzzScripts(f, 24, func(t *testing.T, s *script) {
		c := configurations(t)[s.next(len(starts))]
		for range s.next(6) {
			mutate(s, reflect.ValueOf(&c).Elem())
		}
		valid := c.Validate()
		n, err := snat.New(c)
		require.Equal(t, fmt.Sprint(valid), fmt.Sprint(err), "New and Validate disagree")
		if err != nil {
			require.NotContains(t, strings.ReplaceAll(err.Error(), "%d", ""), "%!", "a message with a bad format")
			return
		}
		x := &bed{NAT: n, t: t}
		defer n.Close()
		x.Check()
		x.exercise(&c)
		for !s.done() {
			mutate(s, reflect.ValueOf(&c).Elem())
		}
		valid = c.Validate()
		_, err = x.Reconfigure(x.now, c)
		if valid != nil {
			require.Error(t, err)
		} else if err != nil {
			require.ErrorIs(t, err, snat.ErrFixed)
		}
		x.Check()
		x.exercise(&c)
		for range 3 { // each is the longest that anything may last
			x.at(x.now.Duration() + flow.MaxTimeout)
		}
		stats := x.Stats()
		require.Zero(t, stats.SessionsActive)
		require.Zero(t, stats.HeldSYNs.Held)
		require.Zero(t, stats.Fragments.QueuedBytes)
		for _, inst := range x.Instances() {
			for _, p := range inst.Pools {
				require.Equal(t, p.Excluded, p.Used, "%+v", p)
			}
		}
		require.False(t, errors.Is(valid, snat.ErrFixed), "Validate knows nothing of what is in force")
	})
}
