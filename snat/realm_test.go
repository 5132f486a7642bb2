package snat_test

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// twins is a virtual machine in each of the realms, all with the same addresses,
// and hosts behind them; 8 ports each.
func twins(realms ...uint32) (c snat.Config) {
	for i, id := range realms {
		c.Instances = append(c.Instances, snat.Instance{
			Name: fmt.Sprint("vm in ", id), Realm: id, Addrs: []netip.Addr{addr(vmA), addr(vmA6)},
			Inside: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24"), netip.MustParsePrefix("fd00:244::/64")},
			Ports: []snat.PortRange{
				{Frontend: addr(frontend), First: uint16(1024 + 8*i), Count: 8},
				{Frontend: addr(frontend6), First: uint16(1024 + 8*i), Count: 8},
			},
		})
	}
	return c
}

// from sends a packet from a realm by one of its doors and describes what became
// of it and the realm of its instance.
func (b *bed) from(realm uint32, batch bool, pkt []byte) string {
	v, door := make([]flow.Verdict, 1), b.Realm(realm)
	if batch {
		door.OutboundBatch(b.now, [][]byte{pkt}, v)
	} else {
		v[0] = door.Outbound(b.now, pkt)
	}
	b.Check()
	if v[0].Action != flow.Drop {
		id, ok := b.RealmOf(v[0].Instance)
		require.True(b.t, ok)
		require.Equal(b.t, realm, id)
	}
	return verdict(v[0], pkt)
}

// into sends a packet from the outside and describes it with the realm it goes to.
func (b *bed) into(batch bool, pkt []byte) string {
	v := make([]flow.Verdict, 1)
	if batch {
		b.InboundBatch(b.now, [][]byte{pkt}, v)
	} else {
		v[0] = b.Inbound(b.now, pkt)
	}
	b.Check()
	if v[0].Action != flow.Forward {
		return verdict(v[0], pkt)
	}
	id, _ := b.RealmOf(v[0].Instance)
	return fmt.Sprintf("realm %d: %s", id, destination(verdict(v[0], pkt)))
}

func TestNAT_U7_OverlappingAddresses(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		pod := map[string]string{"v4": "10.244.0.9", "v6": "fd00:244::9"}[r.name]
		for _, batch := range []bool{false, true} {
			t.Run(fmt.Sprintf("batch=%v", batch), func(t *testing.T) {
				b := newBed(t, twins(0, 1, 2))
				for _, host := range []string{r.a, pod} {
					inside, server := socket(host, 1000), socket(r.s, 53)
					outside := map[string]bool{}
					for realm := range uint32(3) {
						for _, proto := range []string{"udp", "tcp"} {
							first, answer := pkttest.UDP(inside, server, "query"), func(to string) []byte { return pkttest.UDP(server, to, "answer") }
							if proto == "tcp" {
								first = pkttest.TCP(inside, server, pkttest.SYN, pkttest.Seq(1000))
								answer = func(to string) []byte {
									return pkttest.TCP(server, to, pkttest.TCPFlags("SA"), pkttest.Seq(5000), pkttest.Ack(1001))
								}
							}
							from := source(b.from(realm, batch, clone(first)))
							require.NotContains(t, from, "drop")
							require.False(t, outside[proto+from], "everyone has a port")
							outside[proto+from] = true
							require.Equal(t, from, source(b.from(realm, batch, clone(first))))
							require.Equal(t, fmt.Sprintf("realm %d: %s", realm, inside), b.into(batch, answer(from)))
							require.Equal(t, from, source(b.from(realm, batch, clone(first))))
						}
					}
				}
				assert.Equal(t, 12, b.Stats().SessionsActive)
				assert.Equal(t, "drop spoof", b.from(3, batch, pkttest.UDP(socket(r.a, 1000), socket(r.s, 53), "x")), "a realm without instances")
				assert.Equal(t, "drop spoof", b.from(2, batch, pkttest.UDP(socket(r.b, 1000), socket(r.s, 53), "x")))
				assert.Equal(t, "drop spoof_frontend", b.from(2, batch, pkttest.UDP(socket(r.f, 1000), socket(r.s, 53), "x")))
				assert.Equal(t, "drop hairpin", b.from(2, batch, pkttest.UDP(socket(r.a, 1000), socket(r.f, 53), "x")))
			})
			// What is inside one realm is outside for another.
			t.Run(fmt.Sprintf("batch=%v, a server with the address of an inside host", batch), func(t *testing.T) {
				c := twins(0, 1)
				c.Instances[0].Addrs, c.Instances[0].Inside = []netip.Addr{addr(serverA), addr(serverA6)}, []netip.Prefix{prefixOf(r.q)}
				b := newBed(t, c)
				for i, server := range []string{socket(r.s, 53), socket(r.q, 53)} {
					inside := socket(r.a, 1000+i)
					outside := source(b.from(1, batch, pkttest.UDP(inside, server, "query")))
					require.Contains(t, outside, r.f)
					require.Equal(t, "realm 1: "+inside, b.into(batch, pkttest.UDP(server, outside, "answer")))
				}
				// The host of that address itself is in realm 0.
				require.Contains(t, b.from(0, batch, pkttest.UDP(socket(r.s, 53), socket(r.rx, 53), "x")), r.f)
			})
		}
	})
	t.Run("inventory", func(t *testing.T) {
		c := twins(0, 1)
		for i := range c.Instances {
			c.Instances[i].Ports = nil
		}
		c.Ports = &snat.Shared{Frontends: []netip.Addr{addr(frontend), addr(frontend6)}}
		b := newBed(t, c)
		for _, batch := range []bool{false, true} {
			for realm := range uint32(2) {
				outside := source(b.from(realm, batch, pkttest.UDP(vmA+":1000", serverA+":53", "query")))
				require.NotContains(t, outside, "drop")
				require.Equal(t, fmt.Sprintf("realm %d: 10.0.0.4:1000", realm), b.into(batch, pkttest.UDP(serverA+":53", outside, "x")))
			}
		}
		assert.Equal(t, 2, b.Stats().SessionsActive)
	})
	t.Run("fragments", func(t *testing.T) {
		c := twins(0, 1)
		c.Fragments.Mode = snat.FragmentsVirtual
		for _, batch := range []bool{false, true} {
			b := newBed(t, c)
			frags := pkttest.Fragments(pkttest.UDP(vmA+":1000", serverA+":53", string(make([]byte, 100))), 48, 7)
			outside := map[string]bool{}
			for realm := range uint32(2) { // the same identification in both
				for i, frag := range frags {
					got := b.from(realm, batch, clone(frag))
					require.Contains(t, got, frontend)
					outside[fmt.Sprint(i, got)] = true
				}
			}
			assert.Len(t, outside, 2*len(frags), "two identifications outside")
			assert.Len(t, sessions(b), 2)
		}
	})
	t.Run("routes", func(t *testing.T) {
		c := twins(0, 1)
		c.Routes = []snat.Route{
			{Prefix: netip.MustParsePrefix("10.1.0.0/16"), Action: snat.NodeAddress},
			exempt(serverA),
		}
		b := newBed(t, c)
		// The own addresses of realm 0 are known outside, those of another are not.
		assert.Equal(t, vmA+":7", source(b.from(0, false, pkttest.UDP("10.244.0.9:7", "10.1.0.1:53", "x"))))
		assert.Equal(t, "drop no_outbound", b.from(1, false, pkttest.UDP("10.244.0.9:7", "10.1.0.1:53", "x")))
		assert.Contains(t, b.from(1, false, pkttest.UDP(vmA+":7", "10.1.0.1:53", "x")), "bypass")
		assert.Contains(t, b.from(1, false, pkttest.UDP(vmA+":7", serverA+":53", "x")), "bypass")
		assert.Contains(t, b.into(false, pkttest.UDP(serverA+":53", "10.244.0.9:7", "x")), "bypass", "to realm 0")
	})
	t.Run("ICMP", func(t *testing.T) {
		c := twins(0, 1)
		c.ICMP = snat.ICMP{Queries: true, Errors: true, TTL: snat.TTLRouter, ProtocolUnreachable: true}
		b := newBed(t, c)
		for realm := range uint32(2) {
			for _, batch := range []bool{false, true} {
				ping := pkttest.ICMPEcho(vmA, serverA, 7, 1)
				require.Contains(t, b.from(realm, batch, ping), frontend)
				pong := pkttest.ICMPEchoReply(serverA, frontend, uint16(1024+8*realm), 1)
				require.Equal(t, fmt.Sprintf("realm %d: 10.0.0.4", realm), b.into(batch, pong))
				for _, pkt := range [][]byte{pkttest.ICMPEcho(vmA, serverA, 7, 1, pkttest.TTL(1)), pkttest.IP(vmA, serverA, 47, []byte("x"))} {
					require.Contains(t, b.from(realm, batch, pkt), "drop")
					b.at(0)
					require.Len(t, b.emitted, 1)
					id, _ := b.RealmOf(b.emitted[0].Instance)
					require.Equal(t, realm, id, "who is told")
					b.emitted = nil
				}
			}
		}
		// Nobody is told for an address that only another realm has.
		c.Instances[0].Addrs = []netip.Addr{addr("10.0.0.9")}
		b = newBed(t, c)
		b.from(0, true, pkttest.IP(vmA, serverA, 47, []byte("x")))
		b.at(0)
		require.Empty(t, b.emitted)
	})
	t.Run("public addresses", func(t *testing.T) {
		c := twins(0, 1)
		for i := range c.Instances {
			c.Instances[i].PublicAddrs = []netip.Addr{addr("20.50.1.%d", i)}
		}
		b := newBed(t, c)
		for realm := range uint32(2) {
			public := socket(c.Instances[realm].PublicAddrs[0].String(), 7)
			assert.Equal(t, public, source(b.from(realm, false, pkttest.UDP(vmA+":7", serverA+":53", "x"))))
			assert.Equal(t, fmt.Sprintf("realm %d: 10.0.0.4:7", realm), b.into(false, pkttest.UDP("198.51.100.1:9", public, "x")))
			outside := source(b.from(realm, true, pkttest.UDP("10.244.0.9:8", serverA+":53", "x")))
			assert.Contains(t, outside, public[:9])
			assert.Equal(t, fmt.Sprintf("realm %d: 10.244.0.9:8", realm), b.into(false, pkttest.UDP(serverA+":53", outside, "x")))
		}
	})
}

func prefixOf(host string) netip.Prefix {
	a := netip.MustParseAddr(host)
	return netip.PrefixFrom(a, a.BitLen())
}

// Reconfiguration knows realms: they come, go and change while traffic flows.
func TestRealmReconfigure(t *testing.T) {
	b := newBed(t, twins(0, 1))
	door := b.Realm(2) // of a realm that does not exist yet
	open := func(realm uint32) string {
		return source(b.from(realm, true, pkttest.UDP(vmA+":1000", serverA+":53", "x")))
	}
	replies := func(outside string) string { return b.into(false, pkttest.UDP(serverA+":53", outside, "x")) }
	zero, one := open(0), open(1)
	require.Equal(t, "drop spoof", open(2))

	change := b.becomes(twins(0, 1, 2))
	assert.Zero(t, change.Total().Cut)
	pkt := pkttest.UDP(vmA+":1000", serverA+":53", "x")
	v := door.Outbound(b.now, pkt)
	require.Equal(t, flow.Forward, v.Action)
	two := source(verdict(v, pkt))
	for realm, outside := range []string{zero, one, two} {
		assert.Equal(t, outside, open(uint32(realm)))
		assert.Equal(t, fmt.Sprintf("realm %d: 10.0.0.4:1000", realm), replies(outside))
	}

	// An instance that changes its realm has other hosts: its flows end.
	moved := twins(0, 1, 2)
	moved.Instances[1].Realm = 7
	change = b.becomes(moved)
	assert.Equal(t, 1, change.Total().Cut[snat.CutReaddressed])
	assert.Equal(t, "drop spoof", open(1))
	assert.Equal(t, "drop no_flow", replies(one))
	assert.Equal(t, one, open(7))
	assert.Equal(t, "realm 7: 10.0.0.4:1000", replies(one))

	// So do those of a removed one. Its index has no realm.
	b.becomes(twins(0))
	assert.Equal(t, "drop spoof", open(2))
	_, ok := b.RealmOf(2)
	assert.False(t, ok)
	_, ok = b.RealmOf(1 << 31)
	assert.False(t, ok)
	assert.Equal(t, zero, open(0))

	// While ports await removal, realms are told apart all the same.
	c := twins(0, 1)
	c.ReclaimGrace = time.Minute
	b.becomes(c)
	one = open(1)
	less := twins(0, 1)
	less.ReclaimGrace = time.Minute
	less.Instances[1].Ports[0].First = 4096
	b.becomes(less)
	assert.Equal(t, one, open(1), "its mapping goes on")
	assert.Equal(t, "realm 1: 10.0.0.4:1000", replies(one))
	b.at(time.Minute)
	assert.Equal(t, frontend+":4096", open(1))
	assert.Equal(t, zero, open(0))
}

func TestRealmValidate(t *testing.T) {
	require.NoError(t, twins(0, 1, 2, 1<<32-1).Validate())
	err := twins(0, 1, 2, 1).Validate()
	assert.ErrorIs(t, err, flow.ErrDuplicateName)
	assert.ErrorContains(t, err, "Instances[3].Addrs[0] 10.0.0.4/32: overlap: with Instances[1].Addrs[0] 10.0.0.4/32")
	assert.NotContains(t, err.Error(), "Instances[2]")

	c := twins(0, 1)
	c.Instances[1].Inside = append(c.Instances[1].Inside, prefixOf(frontend))
	assert.ErrorContains(t, c.Validate(), "overlap", "frontends are of all realms")
}

// Packets of several realms go through their doors at the same time as the
// configuration changes.
func TestRealmsConcurrently(t *testing.T) {
	b := newBed(t, twins(0, 1, 2))
	var wg sync.WaitGroup
	for realm := range uint32(3) {
		wg.Go(func() {
			v := make([]flow.Verdict, 1)
			for i := range 400 {
				pkt := pkttest.UDP(vmA+":1000", serverA+":53", "x")
				if i%2 == 0 {
					v[0] = b.Realm(realm).Outbound(0, pkt)
				} else {
					b.Realm(realm).OutboundBatch(0, [][]byte{pkt}, v)
				}
				switch {
				case v[0].Action == flow.Drop && realm == 2 && v[0].Reason == flow.ReasonSpoof: // while it is gone
				case v[0].Action != flow.Forward:
					t.Errorf("realm %d: %v", realm, v[0].Reason)
				case destination(verdict(b.Inbound(0, pkttest.UDP(serverA+":53", source(pkttest.String(pkt)), "x")), pkt)) == "":
					t.Error("no verdict")
				}
			}
		})
	}
	for i := range 50 {
		_, err := b.Reconfigure(0, twins([]uint32{0, 1, 2}[:2+i%2]...))
		require.NoError(t, err)
	}
	wg.Wait()
	b.Check()
}

func TestRealmNoAllocs(t *testing.T) {
	b := newBed(t, twins(0, 1))
	pkt := pkttest.UDP(vmA+":1000", serverA+":53", "x")
	buf := clone(pkt)
	door := b.Realm(1)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		copy(buf, pkt)
		door.Outbound(0, buf)
	}))
	v := make([]flow.Verdict, 1)
	pkts := [][]byte{buf}
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		copy(buf, pkt)
		door.OutboundBatch(0, pkts, v)
	}))
}
