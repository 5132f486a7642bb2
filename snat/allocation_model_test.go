package snat_test

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// picker is the dull twin of Allocation and Limits: a list of flows, which every
// question walks from end to end, and a list of resting ports. Every flow lives
// for pickerIdle after its last packet.
type picker struct {
	config snat.Config
	flows  []*pickedFlow
	rests  []restingPort
	rates  map[netip.Addr]*rateBucket
	homes  map[netip.Addr]netip.Addr // of subscribers with flows
}

const pickerIdle = 10 * time.Second

type pickedFlow struct {
	instance                int
	proto                   string
	inside, outside, remote netip.AddrPort
	apart                   bool // on a mapping for its scope alone, because that of its socket could not be used
	last                    time.Duration
}

type restingPort struct {
	proto string
	port  netip.AddrPort
	rank  int // ordinal
	at    time.Duration
}

// rateBucket holds time instead of tokens: a session costs the interval.
type rateBucket struct{ level, filled time.Duration }

// instanceOf returns the instance of an inside address.
func (m *picker) instanceOf(a netip.Addr) int {
	return slices.IndexFunc(m.config.Instances, func(inst snat.Instance) bool {
		return slices.ContainsFunc(inst.Inside, func(p netip.Prefix) bool { return p.Contains(a) })
	})
}

// ports returns the ports of an instance in the order of their ordinals.
func (m *picker) ports(instance int, is4 bool) (all []netip.AddrPort) {
	for _, r := range m.config.Instances[instance].Ports {
		for i := range r.Count {
			if r.Frontend.Is4() == is4 {
				all = append(all, netip.AddrPortFrom(r.Frontend, r.First+uint16(i)))
			}
		}
	}
	return all
}

func (m *picker) excluded(proto string, port netip.AddrPort) bool {
	return slices.ContainsFunc(ownedOf(m.config).Allocation.Exclude, func(e snat.Exclusion) bool {
		return e.Frontend == port.Addr() && e.First <= port.Port() && port.Port() <= max(e.First, e.Last) &&
			(e.Protocol == snat.All || e.Protocol == snat.TCP == (proto == "tcp"))
	})
}

func (m *picker) busy(proto string, port netip.AddrPort) bool {
	return slices.ContainsFunc(m.flows, func(f *pickedFlow) bool { return f.proto == proto && f.outside == port })
}

func (m *picker) rests1(proto string, port netip.AddrPort) bool {
	return slices.ContainsFunc(m.rests, func(r restingPort) bool { return r.proto == proto && r.port == port })
}

// expire ends what is due, ports that rest as well.
func (m *picker) expire(now time.Duration) {
	q := ownedOf(m.config).Allocation.Quarantine
	slices.SortStableFunc(m.flows, func(a, b *pickedFlow) int { return cmp.Compare(a.last, b.last) })
	for len(m.flows) > 0 && m.flows[0].last+pickerIdle <= now {
		f := m.flows[0]
		m.flows = m.flows[1:]
		if q.Hold > 0 && !(q.ExemptTCP && f.proto == "tcp") && !m.busy(f.proto, f.outside) && !m.excluded(f.proto, f.outside) {
			m.rest(f.instance, f.proto, f.outside, f.last+pickerIdle)
		}
	}
	m.rests = slices.DeleteFunc(m.rests, func(r restingPort) bool { return r.at+q.Hold <= now })
	for a := range m.homes {
		if !slices.ContainsFunc(m.flows, func(f *pickedFlow) bool { return f.inside.Addr() == a }) {
			delete(m.homes, a)
		}
	}
}

// rest puts a port into quarantine, and the oldest out if there are too many.
func (m *picker) rest(instance int, proto string, port netip.AddrPort, at time.Duration) {
	ports := m.ports(instance, port.Addr().Is4())
	m.rests = append(m.rests, restingPort{proto, port, slices.Index(ports, port), at})
	slices.SortFunc(m.rests, func(a, b restingPort) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.rank, b.rank)) })
	same := func(r restingPort) bool { return r.proto == proto && slices.Contains(ports, r.port) }
	n := 0
	for _, r := range m.rests {
		if same(r) {
			n++
		}
	}
	if k := ownedOf(m.config).Allocation.Quarantine.MaxPorts; k > 0 && n > k {
		i := slices.IndexFunc(m.rests, same)
		m.rests = slices.Delete(m.rests, i, i+1)
	}
}

// onPort describes the flows on a port.
func (m *picker) onPort(proto string, port netip.AddrPort) (lines []string) {
	for _, f := range m.flows {
		if f.proto == proto && f.outside == port {
			lines = append(lines, fmt.Sprintf("%v > %v, last at %v", f.inside, f.remote, f.last))
		}
	}
	return lines
}

// of counts the sessions and the ports of a subscriber, the latter by protocol.
func (m *picker) of(a netip.Addr) (sessions int, ports map[string]int) {
	ports = map[string]int{}
	for i, f := range m.flows {
		if f.inside.Addr() != a {
			continue
		}
		sessions++
		if !slices.ContainsFunc(m.flows[:i], func(o *pickedFlow) bool { return m.together(o, f) }) {
			ports[f.proto]++
		}
	}
	return sessions, ports
}

// behavior returns that of a protocol; the scripts leave no field zero.
func (m *picker) behavior(proto string) snat.Behavior {
	if proto == "tcp" {
		return ownedOf(m.config).TCP
	}
	return ownedOf(m.config).UDP
}

// together reports whether two flows are of one mapping.
func (m *picker) together(a, b *pickedFlow) bool {
	if a.proto != b.proto || a.inside != b.inside || a.apart != b.apart {
		return false
	}
	if a.apart {
		return m.clash(a, b)
	}
	switch m.behavior(a.proto).Mapping {
	case snat.EndpointIndependent:
		return true
	case snat.AddressDependent:
		return a.remote.Addr() == b.remote.Addr()
	}
	return a.remote == b.remote
}

// with returns the flows that are on the mapping of f.
func (m *picker) with(f *pickedFlow) (all []*pickedFlow) {
	for _, o := range m.flows {
		if m.together(o, f) {
			all = append(all, o)
		}
	}
	return all
}

// clash reports whether two flows must not have the same outside port, unless they
// are of one mapping.
func (m *picker) clash(a, b *pickedFlow) bool {
	if a.proto != b.proto {
		return false
	}
	switch m.behavior(a.proto).Share {
	case snat.SharePerAddress:
		return a.remote.Addr() == b.remote.Addr()
	case snat.SharePerDestination:
		return a.remote == b.remote
	}
	return true
}

func (m *picker) free(f *pickedFlow, port netip.AddrPort) bool {
	return !m.excluded(f.proto, port) && !m.rests1(f.proto, port) && !slices.ContainsFunc(m.flows, func(o *pickedFlow) bool {
		return o.outside == port && m.clash(o, f)
	})
}

// frontends returns those of an instance, in order.
func (m *picker) frontends(instance int, is4 bool) (all []netip.Addr) {
	for _, p := range m.ports(instance, is4) {
		if !slices.Contains(all, p.Addr()) {
			all = append(all, p.Addr())
		}
	}
	return all
}

// at returns the ports that a flow may get at a frontend: those of the best tier
// that has a free one.
func (m *picker) at(f *pickedFlow, frontend netip.Addr) []netip.AddrPort {
	a := ownedOf(m.config).Allocation
	var tiers [4][]netip.AddrPort
	for _, p := range m.ports(f.instance, f.inside.Addr().Is4()) {
		if p.Addr() != frontend || !m.free(f, p) {
			continue
		}
		tier := 0
		if a.Class != snat.AnyClass && (p.Port() < 1024) != (f.inside.Port() < 1024) {
			if a.Class == snat.RequireClass {
				continue
			}
			tier += 2
		}
		if a.Parity && (p.Port()^f.inside.Port())&1 != 0 {
			tier++
		}
		tiers[tier] = append(tiers[tier], p)
	}
	for _, tier := range tiers {
		if len(tier) == 0 {
			continue
		}
		own := netip.AddrPortFrom(frontend, f.inside.Port())
		switch {
		case a.Choice == snat.PreservePort && slices.Contains(tier, own):
			return []netip.AddrPort{own}
		case a.Choice == snat.DefaultPort || a.Choice == snat.LowestPort:
			return tier[:1]
		}
		return tier
	}
	return nil
}

// open returns the ports that a new flow may get, or why there is none.
func (m *picker) open(now time.Duration, f *pickedFlow) ([]netip.AddrPort, flow.Reason) {
	l, a := ownedOf(m.config).Limits, f.inside.Addr()
	sessions, ports := m.of(a)
	if l.Subscribers > 0 && sessions == 0 {
		others := map[netip.Addr]bool{}
		for _, o := range m.flows {
			if o.instance == f.instance {
				others[o.inside.Addr()] = true
			}
		}
		if len(others) >= l.Subscribers {
			return nil, flow.ReasonSubscribers
		}
	}
	if l.Sessions > 0 && sessions >= l.Sessions {
		return nil, flow.ReasonSessionCap
	}
	if b := m.bucket(now, a); b != nil && b.level < m.interval() {
		return nil, flow.ReasonRate
	}
	is4 := a.Is4()
	homes := m.frontends(f.instance, is4)
	home := slices.Index(homes, m.homes[a])
	if p := ownedOf(m.config).Allocation.Pooling; home < 0 && (p == snat.Paired || p == snat.PairedSoft) {
		count := make([]int, len(homes))
		for who, at := range m.homes {
			if m.instanceOf(who) == f.instance && who.Is4() == is4 {
				count[slices.Index(homes, at)]++
			}
		}
		home = slices.Index(count, slices.Min(count))
	}
	var mine []*pickedFlow
	for _, f.apart = range []bool{true, false} {
		if mine = m.with(f); len(mine) > 0 {
			break
		}
	}
	if len(mine) > 0 && slices.ContainsFunc(m.flows, func(o *pickedFlow) bool {
		return o.outside == mine[0].outside && !m.together(o, f) && m.clash(o, f)
	}) {
		f.apart, mine = true, nil
	}
	if len(mine) > 0 {
		if l.SessionsPerMapping > 0 && len(mine) >= l.SessionsPerMapping {
			return nil, flow.ReasonSessionCap
		}
		return []netip.AddrPort{mine[0].outside}, flow.ReasonNone
	}
	limit := map[string]int{"tcp": l.TCPPorts, "udp": l.UDPPorts}[f.proto]
	if limit > 0 && ports[f.proto] >= limit || l.Ports > 0 && ports["tcp"]+ports["udp"] >= l.Ports {
		return nil, flow.ReasonQuota
	}
	var legal []netip.AddrPort
	switch ownedOf(m.config).Allocation.Pooling {
	case snat.InOrder, snat.PairedSoft:
		for i := range homes {
			if legal = m.at(f, homes[(max(home, 0)+i)%len(homes)]); len(legal) > 0 {
				break
			}
		}
	case snat.Paired:
		legal = m.at(f, homes[home])
	case snat.Arbitrary:
		for _, h := range homes {
			legal = append(legal, m.at(f, h)...)
		}
	}
	if len(legal) == 0 {
		return nil, flow.ReasonPorts
	}
	if home >= 0 {
		m.homes[a] = homes[home]
	}
	return legal, flow.ReasonNone
}

func (m *picker) interval() time.Duration {
	return time.Second / time.Duration(ownedOf(m.config).Limits.SessionRate)
}

// bucket returns what a subscriber may still begin, or nil without a rate.
func (m *picker) bucket(now time.Duration, a netip.Addr) *rateBucket {
	l := ownedOf(m.config).Limits
	if l.SessionRate == 0 {
		return nil
	}
	size := time.Duration(cmp.Or(l.SessionBurst, l.SessionRate)) * m.interval()
	b := m.rates[a]
	if b == nil {
		b = &rateBucket{size, now}
		m.rates[a] = b
	}
	b.level, b.filled = min(size, b.level+now-b.filled), now
	return b
}

// pools is what InstanceStats says of the pools of an instance.
func (m *picker) pools(instance int) (all [2][2]snat.PoolStats) {
	for f, is4 := range []bool{true, false} {
		for p, proto := range []string{"tcp", "udp"} {
			s := &all[f][p]
			s.Is6, s.Protocol = !is4, snat.Protocol(p)+snat.TCP
			for _, port := range m.ports(instance, is4) {
				s.Allocated++
				s.Used++
				switch {
				case m.busy(proto, port):
					s.Active++
				case m.excluded(proto, port):
					s.Excluded++
				case m.rests1(proto, port):
					s.Resting++
				default:
					s.Used--
					s.Free++
				}
			}
		}
	}
	return all
}

// pickerConfig draws the configuration of a script.
func pickerConfig(s *script) snat.Config {
	p := func(a string, first uint16, count int) snat.PortRange {
		return snat.PortRange{Frontend: netip.MustParseAddr(a), First: first, Count: count}
	}
	c := snat.Config{
		Dataplane: snat.Dataplane{Seed: uint64(s.next(256)), Shards: 1 + s.next(3)}, Ports: &snat.Owned{TCP: pickerBehavior(s, snat.AddressAndPortDependent), UDP: pickerBehavior(s, snat.EndpointIndependent)},
		Instances: []snat.Instance{
			{Name: "a", Inside: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("fd00::/64")}, Ports: []snat.PortRange{
				p("203.0.113.10", 1016, 16), p("203.0.113.11", 1016, 8), p("203.0.113.11", 2000, 8), p("203.0.113.10", 4096, 8),
				p("2001:db8:f::10", 1016, 16), p("2001:db8:f::11", 5000, 8),
			}},
			{Name: "b", Inside: []netip.Prefix{netip.MustParsePrefix("10.0.1.0/24"), netip.MustParsePrefix("fd01::/64")}, Ports: []snat.PortRange{
				p("203.0.113.11", 1024, 8), p("203.0.113.12", 512, 8), p("2001:db8:f::11", 512, 16),
			}},
		},
	}
	c.IdleTimeout, c.Timeouts.TCPOpening = pickerIdle, pickerIdle
	pickerOptions(s, &c)
	return c
}

// pickerBehavior draws a behavior, most often with one mapping.
func pickerBehavior(s *script, most snat.Mapping) snat.Behavior {
	return snat.Behavior{
		Mapping:   pick(s, most, most, snat.EndpointIndependent, snat.AddressDependent, snat.AddressAndPortDependent),
		Filtering: snat.AddressAndPortDependentFiltering,
		Share:     pick(s, snat.SharePerDestination, snat.SharePerDestination, snat.SharePerAddress, snat.ShareNever),
	}
}

// pickerOptions draws all that this is about.
func pickerOptions(s *script, c *snat.Config) {
	ownedPorts(c).Allocation = snat.Allocation{
		Choice: snat.PortChoice(s.next(4)), Parity: s.next(2) > 0, Class: snat.PortClass(s.next(3)), Pooling: snat.Pooling(s.next(4)),
	}
	if s.next(2) > 0 {
		ownedPorts(c).Allocation.Quarantine = snat.Quarantine{Hold: time.Duration(1+s.next(20)) * time.Second, MaxPorts: s.next(8), ExemptTCP: s.next(4) == 0}
	}
	for range s.next(3) {
		first := pick[uint16](s, 1016, 1020, 1024, 2000, 5001)
		ownedPorts(c).Allocation.Exclude = append(ownedOf(*c).Allocation.Exclude, snat.Exclusion{
			Frontend: pick(s, addr("203.0.113.10"), addr("203.0.113.11"), addr("2001:db8:f::10"), addr("2001:db8:f::11")),
			Protocol: snat.Protocol(s.next(3)), First: first, Last: pick(s, 0, first+2),
		})
	}
	ownedPorts(c).Limits = snat.Limits{}
	if s.next(2) > 0 {
		ownedPorts(c).Limits = snat.Limits{
			Ports: s.next(3) * 9, TCPPorts: s.next(3) * 5, UDPPorts: s.next(3) * 4, Sessions: s.next(3) * 12, SessionsPerMapping: s.next(3) * 2,
			SessionRate: s.next(3) * 3, Subscribers: s.next(3) * 3,
		}
		if ownedOf(*c).Limits.SessionRate > 0 {
			ownedPorts(c).Limits.SessionBurst = s.next(8)
		}
	}
}

// runPicker lets a NAT, one that is advanced at every step of time and the model
// do the same, and returns how often each thing happened.
func runPicker(t *testing.T, s *script) map[string]int {
	c := pickerConfig(s)
	c.CountHolders = snat.CountHolders{On: true, Limit: 64 * (len(c.Instances) & 1)}
	seldom, often := newBed(t, c), newBed(t, c)
	m := &picker{config: c, rates: map[netip.Addr]*rateBucket{}, homes: map[netip.Addr]netip.Addr{}}
	seen := map[string]int{}
	now := time.Duration(0)
	for op := 0; !s.done(); op++ {
		switch s.next(24) {
		case 0:
			now += time.Duration(s.next(9)) * time.Second
			m.expire(now)
			often.at(now)
			seldom.lazily(now)
		case 1:
			now += time.Duration(s.next(250)) * time.Millisecond
			m.expire(now)
			often.at(now)
			seldom.lazily(now)
		case 2:
			if s.next(4) > 0 {
				continue
			}
			seldom.at(now)
			compare(t, m, seldom)
			compare(t, m, often)
			requireHolders(t, often.NAT, often.now, false)
		case 3:
			if s.next(8) > 0 {
				continue
			}
			was := ownedOf(c).Allocation.Quarantine
			pickerOptions(s, &c)
			seldom.at(now)
			for _, b := range []*bed{seldom, often} {
				_, err := b.Reconfigure(flow.At(now), c)
				require.NoError(t, err)
				b.Check()
			}
			m.reconfigured(now, c, was)
			seen["reconfigured"]++
		case 4:
			if s.next(16) > 0 || ownedOf(c).Allocation.Quarantine.Hold == 0 {
				continue
			}
			seldom.HoldFree(flow.At(now))
			often.HoldFree(flow.At(now))
			m.holdFree(now)
			seen["held"]++
		default:
			proto := pick(s, "udp", "udp", "tcp")
			src := pick(s, "10.0.0.1", "10.0.0.2", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.1.1", "10.0.1.2", "fd00::1", "fd00::2", "fd01::1", "fd01::2")
			f := &pickedFlow{proto: proto, inside: netip.AddrPortFrom(netip.MustParseAddr(src), pick[uint16](s, 1000, 1001, 1017, 1018, 1019, 1024, 1025, 2001, 2002, 4099, 5003, 517)), last: now}
			f.instance = m.instanceOf(f.inside.Addr())
			remotes := ends("198.51.100.7:53", "198.51.100.7:54", "198.51.100.8:53")
			if f.inside.Addr().Is6() {
				remotes = ends("[2001:db8:5::7]:53", "[2001:db8:5::7]:54", "[2001:db8:5::8]:53")
			}
			f.remote = pick(s, remotes...)
			if i := slices.IndexFunc(m.flows, func(o *pickedFlow) bool {
				return o.proto == proto && o.inside == f.inside && o.remote == f.remote
			}); i >= 0 {
				if proto == "udp" {
					m.flows[i].last = now
					for _, b := range []*bed{seldom, often} {
						require.Equal(t, m.flows[i].outside.String(), b.opens(proto, f.inside.String(), f.remote.String()), "op %d", op)
					}
				}
				continue
			}
			legal, reason := m.open(now, f)
			got := often.opens(proto, f.inside.String(), f.remote.String())
			require.Equal(t, got, seldom.opens(proto, f.inside.String(), f.remote.String()), "op %d: Advance makes a difference to %v %v > %v with %+v", op, f.proto, f.inside, f.remote, ownedOf(c).Allocation)
			if reason != flow.ReasonNone {
				require.Equal(t, "drop "+reason.String(), got, "op %d: %+v", op, *f)
				seen[reason.String()]++
				continue
			}
			require.NotContains(t, got, "drop", "op %d: %+v may have %v", op, *f, legal)
			f.outside = netip.MustParseAddrPort(got)
			require.Contains(t, legal, f.outside, "op %d: %v %v > %v: flows %v, rests %v, %+v at %v", op, f.proto, f.inside, f.remote, m.onPort(f.proto, f.outside), m.rests, ownedOf(c).Allocation, now)
			m.flows = append(m.flows, f)
			if b := m.bucket(now, f.inside.Addr()); b != nil {
				b.level -= m.interval()
			}
			seen["opened"]++
			if f.apart {
				seen["apart"]++
			}
		}
	}
	seldom.at(now)
	compare(t, m, seldom)
	compare(t, m, often)
	return seen
}

// reconfigured puts other options into force.
func (m *picker) reconfigured(now time.Duration, c snat.Config, was snat.Quarantine) {
	m.rates = map[netip.Addr]*rateBucket{}
	ownedPorts(&m.config).Allocation = ownedOf(c).Allocation
	ownedPorts(&m.config).Limits = ownedOf(c).Limits
	before := m.homes
	m.homes = map[netip.Addr]netip.Addr{}
	if p := ownedOf(c).Allocation.Pooling; p == snat.Paired || p == snat.PairedSoft {
		for _, f := range m.flows {
			a, all := f.inside.Addr(), m.frontends(f.instance, f.inside.Addr().Is4())
			if before[a].IsValid() {
				m.homes[a] = before[a]
			} else if i := slices.Index(all, m.homes[a]); i < 0 || i > slices.Index(all, f.outside.Addr()) {
				m.homes[a] = f.outside.Addr()
			}
		}
	}
	old := m.rests
	m.rests = nil
	for _, r := range old {
		if q := ownedOf(c).Allocation.Quarantine; q.Hold > 0 && r.at+q.Hold > now && !(q.ExemptTCP && r.proto == "tcp") && !m.excluded(r.proto, r.port) {
			instance := slices.IndexFunc(c.Instances, func(i snat.Instance) bool {
				return slices.ContainsFunc(i.Ports, func(p snat.PortRange) bool {
					return p.Frontend == r.port.Addr() && p.First <= r.port.Port() && int(r.port.Port()) < int(p.First)+p.Count
				})
			})
			m.rest(instance, r.proto, r.port, r.at)
		}
	}
}

// holdFree is HoldFree.
func (m *picker) holdFree(now time.Duration) {
	for instance := range m.config.Instances {
		for _, proto := range []string{"tcp", "udp"} {
			if proto == "tcp" && ownedOf(m.config).Allocation.Quarantine.ExemptTCP {
				continue
			}
			for _, is4 := range []bool{true, false} {
				var all []netip.AddrPort
				for _, p := range m.ports(instance, is4) {
					if !m.busy(proto, p) && !m.rests1(proto, p) && !m.excluded(proto, p) {
						all = append(all, p)
					}
				}
				for _, p := range all {
					m.rest(instance, proto, p, now)
				}
			}
		}
	}
}

// compare compares what can be seen of a NAT that has been advanced with the model.
func compare(t *testing.T, m *picker, b *bed) {
	t.Helper()
	for i, inst := range b.Instances() {
		want := m.pools(i)
		for _, got := range inst.Pools {
			w := want[map[bool]int{false: 0, true: 1}[got.Is6]][got.Protocol-snat.TCP]
			w.Peak = got.Peak
			require.Equal(t, w, got, inst.Name)
		}
	}
	if b.Subscribers() == nil {
		return
	}
	for _, row := range b.Subscribers() {
		sessions, ports := m.of(row.Addr)
		require.Equal(t, snat.SubscriberStats{
			Instance: m.instanceOf(row.Addr), Name: m.config.Instances[m.instanceOf(row.Addr)].Name, Addr: row.Addr,
			Frontend: m.homes[row.Addr], TCPPorts: ports["tcp"], UDPPorts: ports["udp"], Sessions: sessions,
		}, row)
	}
	next, ok := b.NextDeadline()
	for _, r := range m.rests {
		require.True(t, ok && next.Duration() <= r.at+ownedOf(m.config).Allocation.Quarantine.Hold, "%v must be woken", r)
	}
}

// Allocation, limits and quarantine do what their model does, whatever the script,
// and however seldom time is advanced.
func TestAllocationAgainstModel(t *testing.T) {
	pkttest.OneGoroutine(t)
	t.Parallel()
	seen := map[string]int{}
	for seed := range uint64(pkttest.Operations(20, 120, 1200)) {
		if !t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			for what, n := range runPicker(t, &script{randomScript(1000+seed, 2500)}) {
				seen[what] += n
			}
		}) {
			return
		}
	}
	for _, what := range []string{"opened", "ports", "quota", "rate", "session_cap", "subscribers", "apart", "reconfigured", "held"} {
		assert.NotZero(t, seen[what], "no script reached: %s", what)
	}
	t.Log(seen)
}

// FuzzAllocation looks for a script on which NAT and model disagree.
func FuzzAllocation(f *testing.F) {
	fuzzScripts(f, 200, func(t *testing.T, s *script) { runPicker(t, s) })
}
