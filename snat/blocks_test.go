package snat_test

// Blocks of ports: RFC 6888 REQ-14, RFC 7422, RFC 8158's block events.

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
	"github.com/seed-a61be3fe/natplane/snat/deterministic"
)

// inBlocks is carrying with blocks of 16 ports, chosen at random, and a journal.
func (j *journal) inBlocks(change ...func(*snat.Config)) snat.Config {
	return j.logging(snat.Log{}, append([]func(*snat.Config){func(c *snat.Config) {
		ownedPorts(c).Allocation = snat.Allocation{Choice: snat.RandomPort, Pooling: snat.Paired}
		ownedPorts(c).Blocks = snat.PortBlocks{Size: 16}
	}}, change...)...)
}

// only takes the events of some kinds.
func (j *journal) only(kinds ...snat.EventKind) (lines []string) {
	for _, e := range j.events {
		if slices.Contains(kinds, e.Kind) {
			lines = append(lines, fmt.Sprintf("%v (%d) %v %v %v", e.At, uint8(e.Kind), e.Inside.Addr(), e.Outside.Addr(), e.Ports))
		}
	}
	j.events = nil
	return lines
}

// blockOf returns the span of a block of 16 that holds a port.
func blockOf(t *testing.T, socket string) flow.PortSpan {
	t.Helper()
	ap, err := netip.ParseAddrPort(socket)
	require.NoError(t, err, socket)
	first := ap.Port() / 16 * 16
	return flow.PortSpan{First: first, Last: first + 15}
}

func TestNAT_R10_Blocks(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		t.Run("the second when the first is full", func(t *testing.T) {
			var j journal
			b := newBed(t, j.inBlocks(func(c *snat.Config) { ownedPorts(c).Blocks.PerSubscriber = 2 }))
			used := map[string]bool{}
			first := blockOf(t, b.opens("udp", socket(r.a, 1000), socket(r.s, 53)))
			for i := 1; i < 16; i++ {
				assert.Equal(t, first, blockOf(t, b.opens("udp", socket(r.a, 1000+i), socket(r.s, 53))))
			}
			assert.Len(t, j.only(snat.EventBlockCreate), 1)
			assert.Equal(t, first, blockOf(t, b.opens("tcp", socket(r.a, 1000), socket(r.s, 443))), "TCP's ports are another matter")
			for i := range 16 {
				outside := b.opens("udp", socket(r.a, 2000+i), socket(r.s, 53))
				assert.NotEqual(t, first, blockOf(t, outside))
				used[outside] = true
			}
			assert.Len(t, used, 16)
			assert.Len(t, j.only(snat.EventBlockCreate), 1, "one record for sixteen flows")
			assert.Equal(t, "drop quota", b.opens("udp", socket(r.a, 3000), socket(r.s, 53)))
			require.Len(t, j.events, 1)
			assert.Equal(t, snat.Event{
				Kind: snat.EventQuotaExceeded, Inside: netip.AddrPortFrom(netip.MustParseAddr(r.a), 0), Quota: snat.QuotaPerUser, Limit: 32, Count: 1,
			}, j.events[0])
			assert.NotContains(t, b.opens("udp", socket(r.b, 3000), socket(r.s, 53)), "drop", "others are not affected")
			assert.Len(t, b.Blocks(), 3)
		})
		t.Run("no block is left", func(t *testing.T) {
			var j journal
			b := newBed(t, j.inBlocks())
			hosts := strings.TrimSuffix(r.a, "4")
			for i := range 4 { // 64 ports
				assert.NotContains(t, b.opens("udp", socket(hosts+fmt.Sprint(10+i), 1000), socket(r.s, 53)), "drop")
			}
			assert.Equal(t, "drop ports", b.opens("udp", socket(r.a, 1000), socket(r.s, 53)))
			assert.NotContains(t, b.opens("udp", socket(hosts+"10", 1001), socket(r.s, 53)), "drop", "who has a block can use it")
		})
		t.Run("given back with the last port and its hold", func(t *testing.T) {
			var j journal
			b := newBed(t, j.inBlocks(func(c *snat.Config) {
				ownedPorts(c).Allocation.Quarantine = snat.Quarantine{Hold: 120 * time.Second}
				c.Instances[0].Ports = c.Instances[0].Ports[:0:0]
				c.Instances[0].Ports = append(c.Instances[0].Ports, snat.PortRange{Frontend: netip.MustParseAddr(r.f), First: firstPort, Count: 16})
			}))
			b.opens("udp", socket(r.a, 1000), socket(r.s, 53))
			b.at(100 * time.Second)
			b.opens("udp", socket(r.a, 1001), socket(r.s, 53))
			span := "1024-1039"
			assert.Equal(t, []string{fmt.Sprintf("0s (16) %s %s %s", r.a, r.f, span)}, j.only(snat.EventBlockCreate, snat.EventBlockDelete))
			b.at(459*time.Second + 999*time.Millisecond) // the last flow ended at 340
			assert.Equal(t, "drop ports", b.opens("udp", socket(r.b, 1000), socket(r.s, 53)))
			assert.Empty(t, j.only(snat.EventBlockCreate, snat.EventBlockDelete))
			b.lazily(460 * time.Second)
			assert.NotContains(t, b.opens("udp", socket(r.b, 1000), socket(r.s, 53)), "drop")
			assert.Equal(t, []string{
				fmt.Sprintf("7m40s (17) %s %s %s", r.a, r.f, span), fmt.Sprintf("7m40s (16) %s %s %s", r.b, r.f, span),
			}, j.only(snat.EventBlockCreate, snat.EventBlockDelete))
		})
		t.Run("random inside", func(t *testing.T) {
			var j journal
			b := newBed(t, j.inBlocks())
			var ports []uint16
			for i := range 16 {
				ports = append(ports, netip.MustParseAddrPort(b.opens("udp", socket(r.a, 1000+i), socket(r.s, 53))).Port())
			}
			assert.False(t, slices.IsSorted(ports), "%v", ports)
			slices.Sort(ports)
			assert.Len(t, slices.Compact(ports), 16)
		})
	})
}

// A record for a block of many flows, none for the flows.
func TestNAT_C14_OneRecordPerBlock(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		var j journal
		b := newBed(t, j.inBlocks())
		for i := range 12 {
			for _, dst := range []string{r.s, r.q} {
				b.opens("udp", socket(r.a, 1000+i), socket(dst, 53))
				b.opens("tcp", socket(r.a, 1000+i), socket(dst, 443))
			}
			b.out(r.ping(r.a, r.s, uint16(i), 1))
		}
		assert.Equal(t, 60, b.Stats().SessionsActive)
		b.at(time.Hour)
		assert.Equal(t, map[snat.EventKind]int{
			snat.EventBlockCreate: 1, snat.EventBlockDelete: 1, snat.EventAddressBindingCreate: 1, snat.EventAddressBindingDelete: 1,
		}, j.kinds())
		assert.Empty(t, b.Blocks())
	})
}

// fixedPorts is one instance whose subscribers have 8 fixed ports each, and a
// dynamic range of 5 or, IPv6, 4 blocks of 16, from the ports 1024 to 1215.
func (j *journal) fixedPorts(r realm, change ...func(*snat.Config)) (snat.Config, *deterministic.Mapping) {
	inside, outside := "10.0.0.0/28", frontend+"/32" // 14 subscribers
	if r.name == "v6" {
		inside, outside = "fd00::/124", frontend6+"/128" // 16
	}
	d := deterministic.Parameters{
		Inside: prefixes(inside), Outside: prefixes(outside), DynamicFactor: 10, MaxPorts: 8 + 3*16,
		Reserved: []flow.PortSpan{{First: 1024 + 14*8 + 10*8, Last: 65535}},
	}
	if r.name == "v6" {
		d.DynamicFactor = 8
	}
	m, err := deterministic.New(d)
	if err != nil {
		panic(err)
	}
	return j.inBlocks(append([]func(*snat.Config){func(c *snat.Config) {
		c.Instances[0].Inside = d.Inside
		c.Instances[0].Ports = []snat.PortRange{{Frontend: netip.MustParseAddr(r.f), First: 1024, Count: 192}}
		c.Instances[0].Deterministic = &d
	}}, change...)...), m
}

func TestNAT_D3_FixedPortsFirst(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		var j journal
		c, m := j.fixedPorts(r)
		b := newBed(t, c)
		f, ok := m.Outside(netip.MustParseAddr(r.a))
		require.True(t, ok)
		require.Equal(t, 8, f.Len())
		var ports, want []uint16
		for i := range 8 {
			outside := netip.MustParseAddrPort(b.opens("udp", socket(r.a, 1000+i), socket(r.s, 53)))
			assert.Equal(t, r.f, outside.Addr().String())
			ports = append(ports, outside.Port())
		}
		for p := range f.All() {
			want = append(want, p)
		}
		assert.NotEqual(t, want, ports, "not in order")
		assert.ElementsMatch(t, want, ports, "but all of them")
		assert.Empty(t, j.only(snat.EventBlockCreate, snat.EventSessionCreate, snat.EventBindingCreate), "no record")
		assert.GreaterOrEqual(t, slices.Min(ports), uint16(1024), "no system port")
		if r.name == "v4" {
			assert.Equal(t, "drop no_outbound", b.opens("udp", "10.0.0.15:1000", socket(r.s, 53)), "the broadcast address is no subscriber")
		}
	})
}

func TestNAT_D4_OverflowInBlocks(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		var j journal
		c, m := j.fixedPorts(r)
		b := newBed(t, c)
		open := func(host string, n int) (blocks int) {
			for i := range n {
				outside := netip.MustParseAddrPort(b.opens("udp", socket(host, 1000+i), socket(r.s, 53)))
				whose, kind := m.Inside(outside)
				if i < 8 {
					assert.Equal(t, host+" fixed", fmt.Sprint(whose, " ", kind))
				} else {
					assert.Equal(t, deterministic.Dynamic, kind, "%v", outside)
				}
			}
			return len(j.only(snat.EventBlockCreate))
		}
		assert.Equal(t, 3, open(r.a, 8+3*16), "each block is logged")
		assert.Equal(t, "drop quota", b.opens("udp", socket(r.a, 999), socket(r.s, 53)), "M is reached")
		last := 1 // blocks of the dynamic range
		if r.name == "v4" {
			last = 2
		}
		assert.Equal(t, last, open(r.b, 8+last*16))
		assert.Equal(t, "drop ports", b.opens("udp", socket(r.b, 999), socket(r.s, 53)))
		b.at(time.Hour)
		assert.Len(t, j.only(snat.EventBlockDelete), 3+last)
	})
	t.Run("ten blocks", func(t *testing.T) { // as in the RFC's example, but for the size
		var j journal
		d := deterministic.Parameters{Inside: prefixes("198.51.100.0/28"), Outside: prefixes("192.0.2.1/32"), DynamicFactor: 2, MaxPorts: 4032 + 10*128}
		c := j.inBlocks(func(c *snat.Config) {
			ownedPorts(c).Blocks.Size = 128
			c.Instances[0].Inside = d.Inside
			c.Instances[0].Ports = []snat.PortRange{{Frontend: addr("192.0.2.1"), First: 1024, Count: 64512}}
			c.Instances[0].Deterministic = &d
		})
		b := newBed(t, c)
		b.seldom = true
		for i := range d.MaxPorts {
			if s := b.opens("udp", socket("198.51.100.2", 1024+i), "203.0.113.9:53"); strings.Contains(s, "drop") {
				t.Fatalf("port %d: %s", i, s)
			}
		}
		assert.Len(t, j.only(snat.EventBlockCreate), 10)
		assert.Equal(t, "drop quota", b.opens("udp", "198.51.100.2:1000", "203.0.113.9:53"))
	})
}

func TestNAT_D5_RecordDailyAndOnChange(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		var j journal
		c, _ := j.fixedPorts(r)
		b := newBed(t, c)
		records := func() (lines []string) {
			for _, e := range j.events {
				if e.Kind == snat.EventParameters {
					lines = append(lines, e.Parameters)
				}
			}
			j.events = nil
			return lines
		}
		d := *c.Instances[0].Deterministic
		hour := func(n int) flow.Time { return flow.At(time.Duration(n) * time.Hour) }
		b.at(0)
		assert.Equal(t, []string{d.Record(0)}, records())
		next, ok := b.NextDeadline()
		assert.True(t, ok)
		assert.Equal(t, hour(24), next)
		b.at(23 * time.Hour)
		assert.Empty(t, records())
		b.at(50 * time.Hour)
		assert.Equal(t, []string{d.Record(hour(24)), d.Record(hour(48))}, records())

		b.opens("udp", socket(r.a, 1000), socket(r.s, 53))
		change, err := b.Reconfigure(b.now, c)
		require.NoError(t, err)
		assert.Empty(t, change.Instances)
		assert.Empty(t, records(), "nothing has changed")
		other := d
		other.MaxPorts = 24
		c.Instances = slices.Clone(c.Instances)
		c.Instances[0].Deterministic = &other
		_, err = b.Reconfigure(b.now, c)
		require.NoError(t, err)
		assert.Equal(t, []string{other.Record(hour(50))}, records())
		assert.Zero(t, b.Stats().SessionsActive, "who had which port may be another one now")
		b.at(74 * time.Hour)
		assert.Equal(t, []string{other.Record(hour(74))}, records())
	})
}

// blockScript does what pick says with a translator that grants blocks of 16, and
// demands that the log of blocks tells who has what at every time, until rounds are
// over or pick is at its end. Pick draws a number below n.
func blockScript(t *testing.T, r realm, variant, rounds int, pick func(n int) (int, bool)) {
	var j journal
	fixed, open := variant == 1, variant == 2
	owners := map[string]netip.Addr{} // by frontend and span
	tweak := func(c *snat.Config) {
		c.Timeouts.UDP, c.Timeouts.TCPOpening = 40*time.Second, 20*time.Second
		ownedPorts(c).Allocation.Quarantine = snat.Quarantine{Hold: 30 * time.Second, MaxPorts: 20}
		ownedPorts(c).Allocation.Exclude = []snat.Exclusion{{Frontend: netip.MustParseAddr(r.f), First: 1030, Last: 1037}}
		ownedPorts(c).Allocation.Pooling = snat.PairedSoft
		if !fixed {
			c.Instances[0].Ports = append(c.Instances[0].Ports, snat.PortRange{Frontend: netip.MustParseAddr(r.f).Next(), First: 2048, Count: 64})
		}
		if open {
			ownedPorts(c).TCP = snat.Behavior{Mapping: snat.EndpointIndependent, Filtering: snat.EndpointIndependentFiltering, Share: snat.ShareNever}
			ownedPorts(c).UDP = ownedOf(*c).TCP
			ownedPorts(c).Hairpin = true
			ownedPorts(c).Allocation.Parity = true
			ownedPorts(c).Allocation.Choice = snat.LowestPort // so that hosts meet their own first port
		}
	}
	c := j.inBlocks(tweak)
	if fixed {
		c, _ = j.fixedPorts(r, tweak)
	}
	c.Hooks.Event = func(e snat.Event) {
		j.events = append(j.events, e)
		key := fmt.Sprint(e.Outside.Addr(), e.Ports)
		switch e.Kind {
		case snat.EventBlockCreate:
			require.False(t, owners[key].IsValid(), "%+v: of %v", e, owners[key])
			owners[key] = e.Inside.Addr()
		case snat.EventBlockDelete:
			require.Equal(t, owners[key], e.Inside.Addr(), "%+v", e)
			delete(owners, key)
		}
	}
	b := newBed(t, c)
	prefix, most := strings.TrimSuffix(r.a, "4"), 0
	for i := range rounds {
		op, more := pick(10)
		host, _ := pick(8)
		port, _ := pick(30)
		at, _ := pick(6)
		if !more {
			break
		}
		src := socket(prefix+fmt.Sprint(1+host), 1000+port)
		dst := socket([]string{r.s, r.q}[at%2], 440+at/2)
		outside := socket(r.f, 1024+(host*30+port)%192)
		switch op {
		case 0, 1, 2:
			b.opens("udp", src, dst)
		case 3, 4:
			b.opens("tcp", src, dst)
		case 5:
			b.at(max(b.now.Duration(), time.Duration(i)*200*time.Millisecond))
		case 6:
			b.now = max(b.now, flow.At(time.Duration(i)*200*time.Millisecond))
		case 7:
			b.in(pkttest.UDP(dst, outside, "x"))
		case 8:
			if open { // the port that a subscriber gets first, by parity
				outside = socket(r.f, 1024+(host*30+port)%192/16*16+port%2)
			}
			b.opens("udp", src, outside)
		case 9:
			if host > 0 || port > 3 {
				continue
			}
			other := c
			other.Instances = slices.Clone(c.Instances)
			if !fixed {
				other.Instances[0].Ports = other.Instances[0].Ports[:at%3]
			}
			other.ReclaimGrace = time.Duration(at/3) * 10 * time.Second
			_, err := b.Reconfigure(b.now, other)
			require.NoError(t, err)
			b.Check()
			_, err = b.Reconfigure(b.now, c)
			require.NoError(t, err)
			b.Check()
		}
		most = max(most, len(owners))
		for _, block := range b.Blocks() {
			require.NotZero(t, block.Busy, "%+v is granted for nothing", block)
		}
		require.Len(t, b.Blocks(), len(owners))
		for _, block := range b.Blocks() {
			require.Equal(t, owners[fmt.Sprint(block.Frontend, block.Ports)], block.Addr)
		}
	}
	b.HoldFree(b.now)
	b.Check()
	b.at(b.now.Duration() + 2*time.Hour)
	require.Empty(t, owners)
	require.Empty(t, b.Blocks())
	n := j.kinds()
	require.Equal(t, n[snat.EventBlockCreate], n[snat.EventBlockDelete])
	require.Equal(t, n[snat.EventAddressBindingCreate], n[snat.EventAddressBindingDelete])
	if rounds > 1000 && most < 4 {
		t.Errorf("never more than %d blocks at once: %v", most, n)
	}
}

// The log of blocks alone tells who had a port: at every time one subscriber.
func TestNAT_L5_BlocksBalance(t *testing.T) {
	pkttest.OneGoroutine(t)
	const seed = 6888
	t.Logf("seed %d", seed)
	eachRealm(t, func(t *testing.T, r realm) {
		random := rand.New(rand.NewPCG(seed, 0))
		for variant, name := range []string{"blocks", "overflow", "open to all"} {
			t.Run(name, func(t *testing.T) {
				blockScript(t, r, variant, 3000, func(n int) (int, bool) { return random.IntN(n), true })
			})
		}
	})
}

func FuzzBlocks(f *testing.F) {
	f.Add(uint8(0), []byte("\x00\x01\x02\x03\x03\x01\x02\x03\x09\x00\x01\x05\x05\x00\x00\x00"))
	f.Add(uint8(4), []byte("\x02\x01\x02\x00\x07\x01\x02\x00\x08\x00\x01\x00\x09\x00\x01\x01"))
	f.Add(uint8(3), []byte("\x00\x01\x02\x00\x00\x01\x03\x00\x09\x00\x01\x04\x06\x01\x01\x01\x03\x01\x09\x04"))
	f.Fuzz(func(t *testing.T, variant uint8, script []byte) {
		blockScript(t, realms[variant/3%2], int(variant%3), 500, func(n int) (int, bool) {
			if len(script) == 0 {
				return 0, false
			}
			k := int(script[0]) % n
			script = script[1:]
			return k, true
		})
	})
}

func TestBlocksValidate(t *testing.T) {
	var j journal
	fixed := func(change func(*snat.Config)) snat.Config {
		c, _ := j.fixedPorts(realms[0], change)
		return c
	}
	d := func(change func(*deterministic.Parameters)) snat.Config {
		return fixed(func(c *snat.Config) {
			own := *c.Instances[0].Deterministic
			change(&own)
			c.Instances[0].Deterministic = &own
		})
	}
	for want, c := range map[string]snat.Config{
		"Blocks.Size 24: ":         j.inBlocks(func(c *snat.Config) { ownedPorts(c).Blocks.Size = 24 }),
		"Blocks.Size 4: ":          j.inBlocks(func(c *snat.Config) { ownedPorts(c).Blocks.Size = 4 }),
		"Blocks.PerSubscriber -1:": j.inBlocks(func(c *snat.Config) { ownedPorts(c).Blocks.PerSubscriber = -1 }),
		"Blocks.PerSubscriber 3:":  j.inBlocks(func(c *snat.Config) { ownedPorts(c).Blocks = snat.PortBlocks{PerSubscriber: 3} }),
		"Instances[0].Ports[0] 1032+64: ports are not whole blocks":                                         j.inBlocks(func(c *snat.Config) { c.Instances[0].Ports[0].First = 1032 }),
		"Instances[0].Ports[1] 1024+64: ":                                                                   j.inBlocks(func(c *snat.Config) { c.Instances[0].Ports[1].Protocol = snat.UDP }),
		"Allocation.Pooling InOrder: ":                                                                      j.inBlocks(func(c *snat.Config) { ownedPorts(c).Allocation.Pooling = snat.InOrder }),
		"Instances[0].Deterministic.Algorithm 1: ":                                                          d(func(d *deterministic.Parameters) { d.Algorithm = deterministic.Staggered }),
		"Instances[0].Deterministic.MaxPorts 7: ":                                                           d(func(d *deterministic.Parameters) { d.MaxPorts = 7 }),
		"Instances[0].Deterministic.Inside[0] 10.0.0.0/29: ":                                                d(func(d *deterministic.Parameters) { d.Inside = prefixes("10.0.0.0/29") }),
		"Instances[0].Inside[0] 10.0.0.0/28: ":                                                              d(func(d *deterministic.Parameters) { d.Inside = prefixes("10.0.0.0/29") }),
		"Deterministic.Outside: ports are not whole blocks of 8 within 8..65535: port 1216 of 203.0.113.10": d(func(d *deterministic.Parameters) { d.Reserved[0].First = 1224 }),
	} {
		assert.ErrorContains(t, c.Validate(), want)
	}
	c := d(func(d *deterministic.Parameters) { *d = deterministic.Parameters{} })
	c.Routes = make([]snat.Route, 200)
	assert.ErrorContains(t, c.Validate(), "Routes[7].Prefix", "so many problems that those of the mapping are left out")
	c = j.inBlocks()
	b := newBed(t, c)
	ownedPorts(&c).Blocks.Size = 32
	_, err := b.Reconfigure(0, c)
	assert.ErrorIs(t, err, snat.ErrFixed)
}

func TestBlocksDoNotAllocate(t *testing.T) {
	var j journal
	c, _ := j.fixedPorts(realms[0], func(c *snat.Config) { c.Timeouts.UDP = time.Second })
	c.Hooks.Event = func(snat.Event) {}
	b := newBed(t, c)
	now := flow.Time(0)
	packets := make([][]byte, 20) // more than the fixed ports
	for i := range packets {
		packets[i] = realms[0].conversations()["udp"](vmA, 1000+i, serverA)
	}
	buffer := make([]byte, 128)
	one := func() {
		for _, pkt := range packets {
			b.Outbound(now, buffer[:copy(buffer, pkt)])
		}
		now = now.Add(2 * time.Second)
		b.Advance(now, nil)
	}
	one()
	one()
	assert.Zero(t, testing.AllocsPerRun(100, one))
	assert.Equal(t, uint64(103*20), b.Stats().SessionsCreated)
}

// Blocks stay with their subscribers while their ports stay with the instance.
func TestReconfigure_Blocks(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		var j journal
		c := j.inBlocks(func(c *snat.Config) {
			c.Instances[0].Ports = []snat.PortRange{{Frontend: netip.MustParseAddr(r.f), First: 1024, Count: 32}}
			c.ReclaimGrace = time.Minute
		})
		b := newBed(t, c)
		outside := b.opens("udp", socket(r.a, 1000), socket(r.s, 53))
		span := blockOf(t, outside)
		before := b.Blocks()
		j.events = nil
		ports := func(ranges ...snat.PortRange) snat.Config {
			c := c
			c.Instances = slices.Clone(c.Instances)
			c.Instances[0].Ports = ranges
			return c
		}
		f := netip.MustParseAddr(r.f)
		_, err := b.Reconfigure(0, ports(snat.PortRange{Frontend: f.Next(), First: 2048, Count: 16}, snat.PortRange{Frontend: f, First: 1024, Count: 32}))
		require.NoError(t, err)
		b.Check()
		assert.Equal(t, before, b.Blocks())
		assert.Empty(t, j.only(snat.EventBlockCreate, snat.EventBlockDelete))
		for i := range 15 {
			assert.Equal(t, span, blockOf(t, b.opens("udp", socket(r.a, 1001+i), socket(r.s, 53))))
		}
		assert.NotEqual(t, span, blockOf(t, b.opens("udp", socket(r.b, 1000), socket(r.s, 53))))
		j.events = nil

		_, err = b.Reconfigure(0, ports(snat.PortRange{Frontend: f.Next(), First: 2048, Count: 16}))
		require.NoError(t, err)
		b.Check()
		lost := fmt.Sprintf("%v %v", r.f, span)
		assert.Contains(t, j.only(snat.EventBlockDelete), fmt.Sprintf("0s (17) %s %s", r.a, lost), "its flows go on for the grace, but nobody is granted its ports")
		_, err = b.Reconfigure(0, c)
		require.NoError(t, err)
		b.Check()
		assert.Contains(t, j.only(snat.EventBlockCreate), fmt.Sprintf("0s (16) %s %s", r.a, lost))
		b.at(time.Hour)
		assert.Empty(t, b.Blocks())
	})
}

// What a flow is granted goes with it when it is refused: nothing is granted, told
// to the log or kept for a packet that begins no session.
func TestRefusedFlowsKeepNothing(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		for name, row := range map[string]struct {
			change func(c *snat.Config)
			dst    string
			want   string
		}{
			"to the port that it would get": {nil, socket(r.f, 1024), "drop hairpin_loop"},
			"no port may be used": {func(c *snat.Config) {
				ownedPorts(c).Allocation.Exclude = []snat.Exclusion{{Frontend: netip.MustParseAddr(r.f), First: 1024, Last: 1039}}
			}, socket(r.s, 53), "drop ports"},
			"of the wrong class":  {func(c *snat.Config) { ownedPorts(c).Allocation.Class = snat.RequireClass }, socket(r.s, 53), "drop ports"},
			"no subscribers more": {func(c *snat.Config) { ownedPorts(c).Limits.Subscribers = 1 }, socket(r.s, 53), "drop subscribers"},
		} {
			t.Run(name, func(t *testing.T) {
				var j journal
				c := j.inBlocks(func(c *snat.Config) {
					c.Instances[0].Ports = []snat.PortRange{{Frontend: netip.MustParseAddr(r.f), First: 1024, Count: 32}}
					ownedPorts(c).Allocation.Choice = snat.LowestPort
					ownedPorts(c).Hairpin = true
					ownedPorts(c).TCP = snat.Behavior{Share: snat.ShareNever}
					ownedPorts(c).UDP = snat.Behavior{Share: snat.ShareNever}
				})
				if row.change != nil {
					row.change(&c)
				}
				b := newBed(t, c)
				require.NotContains(t, b.opens("udp", socket(r.b, 5000), socket(r.s, 53)), "drop") // takes one of two blocks
				before, port := b.Blocks(), 7
				if before[0].Ports.First == 1024 {
					row.dst = strings.Replace(row.dst, ":1024", ":1040", 1)
				}
				if name == "no port may be used" { // of the block that is left
					ownedPorts(&c).Allocation.Exclude = []snat.Exclusion{{Frontend: netip.MustParseAddr(r.f), First: 1024, Last: 1055}}
					_, err := b.Reconfigure(b.now, c)
					require.NoError(t, err)
				}
				if name != "of the wrong class" {
					port = 5000
				}
				j.events = nil
				assert.Equal(t, row.want, b.opens("udp", socket(r.a, port), row.dst))
				for _, e := range j.events {
					assert.Contains(t, []snat.EventKind{snat.EventPortsExhausted, snat.EventQuotaExceeded}, e.Kind, "%+v", e)
				}
				assert.Equal(t, before, b.Blocks())
				assert.Len(t, b.Subscribers(), 1)
				b.at(80 * 24 * time.Hour / 4)
				assert.Empty(t, b.Blocks())
				assert.Equal(t, 32, b.pool(r.name == "v6", snat.UDP).Allocated)
			})
		}
	})
}

// The parity of the source port counts for more than the order of a subscriber's
// blocks, and a block for less than one that is the subscriber's already.
func TestParityLooksIntoAllBlocksOfASubscriber(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		for _, choice := range []snat.PortChoice{snat.LowestPort, snat.RandomPort, snat.PreservePort} {
			var j journal
			b := newBed(t, j.inBlocks(func(c *snat.Config) {
				ownedPorts(c).Allocation.Choice = choice
				ownedPorts(c).Allocation.Parity = true
				ownedPorts(c).Blocks = snat.PortBlocks{Size: 8, PerSubscriber: 2}
			}))
			opens := func(port int) uint16 {
				return netip.MustParseAddrPort(b.opens("udp", socket(r.a, port), socket(r.s, 53))).Port()
			}
			for i := range 9 { // all even ports of a block, then the odd ones, then a second block
				assert.Equal(t, i >= 4 && i < 8, opens(1000+2*i)&1 == 1, "flow %d", i)
			}
			require.Len(t, b.Blocks(), 2)
			b.at(2 * time.Minute)
			for i := 4; i < 9; i++ { // one odd port of the first block is left to idle
				if i != 5 {
					opens(1000 + 2*i)
				}
			}
			for i := range 4 {
				opens(1000 + 2*i)
			}
			b.at(5 * time.Minute)
			first := b.Blocks()[0].Ports
			if b.Blocks()[0].Busy == 1 {
				first = b.Blocks()[1].Ports
			}
			got := opens(3000)
			assert.Zero(t, got&1, "an even port of the second block, not the odd one of the first, %v", first)
			assert.False(t, first.First <= got && got <= first.Last)
			assert.Equal(t, uint16(1), opens(3001)&1)
		}
	})
}

// A free block of which all ports are excluded costs a flow nothing: free blocks
// are kept apart by what they serve.
func TestExcludedBlocksAreNotAsked(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		var j journal
		b := newBed(t, j.inBlocks(func(c *snat.Config) {
			ownedPorts(c).Blocks.Size = 8
			c.Instances[0].Ports = []snat.PortRange{{Frontend: netip.MustParseAddr(r.f), First: 8192, Count: 32768}}
			ownedPorts(c).Allocation.Exclude = []snat.Exclusion{
				{Frontend: netip.MustParseAddr(r.f), First: 8192, Last: 8192 + 24576 - 1},
				{Frontend: netip.MustParseAddr(r.f), First: 32768, Last: 40959, Protocol: snat.TCP},
			}
		}))
		b.seldom = true
		assert.Equal(t, "drop ports", b.opens("tcp", socket(r.a, 1000), socket(r.s, 53)), "none serves TCP")
		assert.NotContains(t, b.opens("udp", socket(r.a, 1000), socket(r.s, 53)), "drop")
		assert.Equal(t, []int{3072, 1023}, b.FreeBlocks(), "by what they serve: queries only, and UDP too")
	})
}
