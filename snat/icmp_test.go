package snat_test

// Rows of the requirements about ICMP queries, and what the tests of other rows
// about ICMP stand on.

import (
	"encoding/binary"
	"encoding/hex"
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

// carrying is one instance with 64 ports whose translator carries all ICMP. The
// instance's addresses are prefixes, so that hosts are translated once.
func carrying(change ...func(*snat.Config)) snat.Config {
	c := oneVM(64)
	c.Instances[0].Addrs = nil
	c.Instances[0].Inside = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("fd00::/64")}
	c.ICMP = snat.ICMP{Queries: true, Timestamps: true, Errors: true}
	for _, f := range change {
		f(&c)
	}
	return c
}

// ping and pong are an echo request and reply with data "abcd".
func (r realm) ping(src, dst string, id, seq uint16) []byte {
	return pkttest.ICMP(src, dst, r.echo, 0, uint32(id)<<16|uint32(seq), []byte("abcd"))
}

func (r realm) pong(src, dst string, id, seq uint16) []byte {
	return pkttest.ICMP(src, dst, r.reply, 0, uint32(id)<<16|uint32(seq), []byte("abcd"))
}

// conversations are first packets out and the answers, by protocol, with the
// address and port that the packet leaves with.
func (r realm) conversations() map[string]func(src string, port int, dst string) []byte {
	return map[string]func(src string, port int, dst string) []byte{
		"tcp": func(src string, port int, dst string) []byte {
			return pkttest.TCP(socket(src, port), socket(dst, 443), pkttest.SYN, pkttest.Seq(0x11223344), pkttest.MSS(1460))
		},
		"udp": func(src string, port int, dst string) []byte {
			return pkttest.UDP(socket(src, port), socket(dst, 53), "hello")
		},
		"query": func(src string, port int, dst string) []byte { return r.ping(src, dst, uint16(port), 7) },
	}
}

// answer is what the remote sends on a conversation.
func (r realm) answer(proto, src, dst string, port int) []byte {
	switch proto {
	case "tcp":
		return pkttest.TCP(socket(src, 443), socket(dst, port), pkttest.TCPFlags("SA"), pkttest.Seq(5000), pkttest.Ack(0x11223345))
	case "udp":
		return pkttest.UDP(socket(src, 53), socket(dst, port), "world")
	}
	return r.pong(src, dst, uint16(port), 7)
}

// forwards demands that a packet is forwarded as want says, byte for byte.
func (b *bed) forwards(from flow.Side, pkt, want []byte) {
	b.t.Helper()
	v := b.send(from, pkt)
	require.Equal(b.t, flow.Forward, v.Action, "%v", v.Reason)
	if at := pkttest.Diff(pkt, want); len(at) > 0 {
		b.t.Fatalf("bytes %v differ:\n got %x\nwant %x", at, pkt, want)
	}
	b.Check()
}

// drops demands that a packet is dropped for a reason.
func (b *bed) drops(from flow.Side, pkt []byte, reason flow.Reason) {
	b.t.Helper()
	v := b.send(from, pkt)
	require.Equal(b.t, "drop "+reason.String(), fmt.Sprintf("%v %v", v.Action, v.Reason))
	b.Check()
}

func (b *bed) send(from flow.Side, pkt []byte) flow.Verdict {
	if from == flow.Inside {
		return b.Outbound(b.now, pkt)
	}
	return b.Inbound(b.now, pkt)
}

func clone(b []byte) []byte { return append([]byte(nil), b...) }

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// With the zero configuration ICMP goes nowhere, as on an Azure load balancer.
func TestNAT_I1_AzureCarriesNoICMP(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		b := newBed(t, oneVM(64))
		b.drops(flow.Inside, r.ping(r.a, r.s, 1, 1), flow.ReasonUnsupportedProto)
		b.drops(flow.Outside, r.pong(r.s, r.f, 1, 1), flow.ReasonUnsupportedProto)
		sent := pkttest.UDP(socket(r.a, 1000), socket(r.s, 53), "q")
		require.Equal(t, flow.Forward, b.Outbound(0, sent).Action)
		b.drops(flow.Outside, pkttest.ICMP(r.rx, r.f, r.unreachable, 0, 0, sent), flow.ReasonUnsupportedProto)
		assert.Empty(t, b.sent())
	})
}

func TestNAT_I1_QueriesAndReplies(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		b := newBed(t, carrying())
		for seq := range uint16(3) { // the sequence number is the hosts' own
			b.forwards(flow.Inside, r.ping(r.a, r.s, 0x1234, seq), r.ping(r.f, r.s, firstPort, seq))
			b.forwards(flow.Outside, r.pong(r.s, r.f, firstPort, seq), r.pong(r.s, r.a, 0x1234, seq))
		}
		// Identifier 0 is one like the others, and an id is never shared.
		b.forwards(flow.Inside, r.ping(r.a, r.s, 0, 1), r.ping(r.f, r.s, firstPort+1, 1))
		b.forwards(flow.Outside, r.pong(r.s, r.f, firstPort+1, 1), r.pong(r.s, r.a, 0, 1))
		b.forwards(flow.Inside, r.ping(r.b, r.s, 0x1234, 1), r.ping(r.f, r.s, firstPort+2, 1))
		assert.Equal(t, 3, b.Stats().SessionsActive)
		assert.Equal(t, 3, b.pool(r.name == "v6", snat.Query).Used)
		assert.Zero(t, b.pool(r.name == "v6", snat.UDP).Used, "identifiers are a space of their own")
	})
}

// An echo reply that is nothing but zeros once it is translated has checksum FFFF,
// whole, in fragments, and in the quote of an error about it.
func TestNAT_I1_ReplyOfZeros(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		c := carrying(func(c *snat.Config) { c.Fragments.Mode = snat.FragmentsVirtual })
		for size := range 35 {
			b := newBed(t, c)
			message := func(src, dst string, typ uint8, id uint16) []byte {
				return pkttest.ICMP(src, dst, typ, 0, uint32(id)<<16, make([]byte, size))
			}
			b.forwards(flow.Inside, message(r.a, r.s, r.echo, 0), message(r.f, r.s, r.echo, firstPort))
			came, arrives := message(r.s, r.f, r.reply, firstPort), message(r.s, r.a, r.reply, 0)
			first := pkttest.Fragments(clone(came), 16, 7)[0]
			require.NotContains(t, b.in(first), "drop")
			want := pkttest.Fragments(clone(arrives), 16, 7)[0]
			message0 := len(want) - min(16, 8+size)
			require.Equal(t, want[message0:], first[message0:], "%d bytes", size)
			b.forwards(flow.Outside, clone(came), clone(arrives))
			for n := r.header + 8; n <= len(came); n++ {
				b.forwards(flow.Inside, report([3]uint32{uint32(r.unreachable)}, r.a, r.s, arrives, n), report([3]uint32{uint32(r.unreachable)}, r.f, r.s, came, n))
			}
		}
	})
}

func TestNAT_I1_Timestamps(t *testing.T) {
	r := realms[0]
	b := newBed(t, carrying())
	b.forwards(flow.Inside, pkttest.ICMP(r.a, r.s, 13, 0, 7<<16|1, make([]byte, 12)), pkttest.ICMP(r.f, r.s, 13, 0, firstPort<<16|1, make([]byte, 12)))
	b.forwards(flow.Outside, pkttest.ICMP(r.s, r.f, 14, 0, firstPort<<16|1, make([]byte, 12)), pkttest.ICMP(r.s, r.a, 14, 0, 7<<16|1, make([]byte, 12)))
	b = newBed(t, carrying(func(c *snat.Config) { c.ICMP.Timestamps = false }))
	b.drops(flow.Inside, pkttest.ICMP(r.a, r.s, 13, 0, 7<<16|1, make([]byte, 12)), flow.ReasonICMPType)
}

func TestNAT_I1_NodeAddressForPods(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		c := oneVM(64)
		c.Instances[0].Inside = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24"), netip.MustParsePrefix("fd01::/64")}
		c.Routes = []snat.Route{
			{Prefix: netip.MustParsePrefix("198.51.100.8/32"), Action: snat.NodeAddress},
			{Prefix: netip.MustParsePrefix("2001:db8:5::8/128"), Action: snat.NodeAddress},
		}
		c.ICMP = snat.ICMP{Queries: true, Errors: true}
		b := newBed(t, c)
		pod, twin := "10.244.0.9", "10.244.0.10"
		if r.name == "v6" {
			pod, twin = "fd01::9", "fd01::10"
		}
		b.forwards(flow.Inside, r.ping(pod, r.q, 7, 1), r.ping(r.a, r.q, 7, 1))
		b.forwards(flow.Outside, r.pong(r.q, r.a, 7, 1), r.pong(r.q, pod, 7, 1))
		b.forwards(flow.Inside, r.ping(twin, r.q, 7, 1), r.ping(r.a, r.q, 1025, 1))
		b.forwards(flow.Inside, r.ping(pod, r.q, 0, 1), r.ping(r.a, r.q, 1026, 1))
		b.forwards(flow.Outside, pkttest.ICMP(r.rx, r.a, r.exceeded, 0, 0, r.ping(r.a, r.q, 1025, 1)),
			pkttest.ICMP(r.rx, twin, r.exceeded, 0, 0, r.ping(twin, r.q, 7, 1)))
		b.forwards(flow.Inside, r.ping(pod, r.s, 7, 1), r.ping(r.f, r.s, firstPort, 1))
		b.at(time.Hour)
		assert.Zero(t, b.Stats().SessionsActive)
	})
}

func TestNAT_I1a_OneIDForAllDestinations(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		b := newBed(t, carrying())
		b.forwards(flow.Inside, r.ping(r.b, r.s, 5, 1), r.ping(r.f, r.s, firstPort, 1))
		b.forwards(flow.Inside, r.ping(r.a, r.s, 5, 1), r.ping(r.f, r.s, firstPort+1, 1))
		b.forwards(flow.Inside, r.ping(r.a, r.q, 5, 1), r.ping(r.f, r.q, firstPort+1, 1))
		b = newBed(t, carrying(func(c *snat.Config) { c.ICMP.QueryPerDestination = true }))
		b.forwards(flow.Inside, r.ping(r.b, r.s, 5, 1), r.ping(r.f, r.s, firstPort, 1))
		b.forwards(flow.Inside, r.ping(r.a, r.s, 5, 1), r.ping(r.f, r.s, firstPort+1, 1))
		b.forwards(flow.Inside, r.ping(r.a, r.q, 5, 1), r.ping(r.f, r.q, firstPort, 1))
	})
}

// Random identifiers depend on the seed alone, and the last free one is found.
func TestNAT_I1_RandomIDs(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		all := func(seed uint64) (ids []uint16) {
			b := newBed(t, carrying(func(c *snat.Config) { c.Seed, c.ICMP.RandomIDs = seed, true }))
			for id := range uint16(64) {
				pkt := r.ping(r.a, r.s, id, 1)
				require.Equal(t, flow.Forward, b.Outbound(0, pkt).Action)
				ids = append(ids, binary.BigEndian.Uint16(pkt[r.header+4:]))
			}
			b.drops(flow.Inside, r.ping(r.a, r.s, 99, 1), flow.ReasonPorts)
			return ids
		}
		one := all(1)
		seen := map[uint16]bool{}
		for _, id := range one {
			seen[id] = true
		}
		assert.Len(t, seen, 64)
		assert.Equal(t, one, all(1))
		assert.NotEqual(t, one, all(2))
	})
}

func TestNAT_I2_QueryTimer(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		b := newBed(t, carrying())
		b.out(r.ping(r.a, r.s, 5, 1))
		b.at(60*time.Second - flow.Tick)
		b.forwards(flow.Outside, r.pong(r.s, r.f, firstPort, 1), r.pong(r.s, r.a, 5, 1))
		b.lazily(120*time.Second - flow.Tick)
		b.drops(flow.Outside, r.pong(r.s, r.f, firstPort, 1), flow.ReasonNoFlow)
		b.at(120 * time.Second)
		assert.Zero(t, b.Stats().SessionsActive)
	})
	c := carrying()
	c.Timeouts.ICMP = 59 * time.Second
	c.Instances[0].Policy = &snat.Policy{Timeouts: c.Timeouts}
	err := c.Validate()
	require.ErrorIs(t, err, flow.ErrOutOfRange)
	assert.ErrorContains(t, err, "Instances[0].Policy.Timeouts.ICMP 59s")
	assert.ErrorContains(t, err, "Timeouts.ICMP 59s")
	c.ICMP.AllowShortTimeout = true
	assert.NoError(t, c.Validate())
}

func TestICMPValidate(t *testing.T) {
	c := carrying()
	c.ICMP = snat.ICMP{
		Timestamps: true, TTL: 9, Refusals: 9, MTU: 1279, ErrorRate: -1, ErrorBurst: 2_000_000,
		RouterAddrs: []netip.Addr{addr("10.0.0.1"), addr("10.0.0.2"), addr("224.0.0.1")},
	}
	err := c.Validate()
	for _, want := range []string{
		"ICMP.Timestamps true", "ICMP.TTL 9", "ICMP.Refusals 9", "ICMP.MTU 1279", "ICMP.ErrorRate -1", "ICMP.ErrorBurst 2000000",
		"ICMP.RouterAddrs[1] 10.0.0.2", "ICMP.RouterAddrs[2] 224.0.0.1",
	} {
		assert.ErrorContains(t, err, want)
	}
}

// No reply is accepted from a host that was not asked, nor a request from outside.
func TestNAT_M62_ReplyWithoutQuery(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		b := newBed(t, carrying())
		b.drops(flow.Outside, r.pong(r.s, r.f, firstPort, 1), flow.ReasonNoFlow)
		b.drops(flow.Outside, r.ping(r.s, r.f, firstPort, 1), flow.ReasonNoFlow)
		b.out(r.ping(r.a, r.s, 5, 1))
		b.drops(flow.Outside, r.pong(r.q, r.f, firstPort, 1), flow.ReasonNoFlow)
		b.drops(flow.Outside, r.ping(r.s, r.f, firstPort, 1), flow.ReasonNoFlow)
		b.drops(flow.Outside, r.pong(r.s, r.f, 60000, 1), flow.ReasonNoFlow)
		b.drops(flow.Inside, r.pong(r.a, r.s, 5, 1), flow.ReasonNoFlow)
		b.drops(flow.Inside, r.ping(r.a, r.f, 5, 1), flow.ReasonHairpin)
	})
}

func TestNAT_M55_ShortICMP(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		b := newBed(t, carrying())
		b.drops(flow.Inside, pkttest.IP(r.a, r.s, r.icmpProto, []byte{8, 0, 0, 0, 0, 0, 0}), flow.ReasonICMPShort)
		b.drops(flow.Outside, pkttest.IP(r.s, r.f, r.icmpProto, []byte{0, 0, 0, 0, 0, 0, 0}), flow.ReasonICMPShort)
	})
}

func TestNAT_M63_TypesThatNeverCross(t *testing.T) {
	types := map[string][]uint8{
		"v4": {1, 2, 4, 5, 6, 9, 10, 15, 16, 17, 18, 30, 40, 255},
		"v6": {0, 5, 100, 127, 130, 131, 132, 133, 134, 135, 136, 137, 143, 200, 255},
	}
	eachRealm(t, func(t *testing.T, r realm) {
		b := newBed(t, carrying())
		quote := pkttest.UDP(socket(r.a, 1000), socket(r.s, 53), "q")
		require.Equal(t, flow.Forward, b.Outbound(0, quote).Action)
		for _, typ := range types[r.name] {
			b.drops(flow.Inside, pkttest.ICMP(r.a, r.s, typ, 0, 0, quote), flow.ReasonICMPType)
			b.drops(flow.Outside, pkttest.ICMP(r.s, r.f, typ, 0, 0, quote), flow.ReasonICMPType)
		}
		b.drops(flow.Inside, pkttest.ICMP(r.a, r.s, r.echo, 1, 0, nil), flow.ReasonICMPType) // no such code
	})
}

// Other protocols stay where they were.
func TestNAT_I11_OtherProtocols(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		b := newBed(t, carrying())
		b.drops(flow.Inside, pkttest.IP(r.a, r.s, 47, make([]byte, 20)), flow.ReasonUnsupportedProto)
		b.drops(flow.Outside, pkttest.IP(r.s, r.f, 47, make([]byte, 20)), flow.ReasonUnsupportedProto)
	})
}

// icmpPart returns the ICMP message of a packet.
func (r realm) icmpPart(pkt []byte) string { return hex.EncodeToString(pkt[r.header:]) }

func TestNAT_V13_EchoV4(t *testing.T) {
	r, b := realms[0], newBed(t, carrying())
	pkt := pkttest.IP(r.a, r.s, 1, unhex("080021041234000161626364"))
	require.Equal(t, flow.Forward, b.Outbound(0, pkt).Action)
	assert.Equal(t, "08002f380400000161626364", r.icmpPart(pkt))
}

func TestNAT_V14_EchoV6(t *testing.T) {
	r, b := realms[1], newBed(t, carrying())
	pkt := pkttest.IP(r.a, r.s, 58, unhex("80007df31234000161626364"))
	require.Equal(t, flow.Forward, b.Outbound(0, pkt).Action)
	assert.Equal(t, "80005b540400000161626364", r.icmpPart(pkt))
}

// A wrong checksum is as wrong afterwards.
func TestNAT_V13_CorruptQueryStaysCorrupt(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		b := newBed(t, carrying())
		good := r.ping(r.a, r.s, 5, 1)
		bad := clone(good)
		bad[len(bad)-1] ^= 1
		want := r.ping(r.f, r.s, firstPort, 1)
		want[len(want)-1] ^= 1
		b.forwards(flow.Inside, good, r.ping(r.f, r.s, firstPort, 1))
		b.forwards(flow.Inside, bad, want)
	})
}

func TestICMPAllocatesNothing(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		b := newBed(t, carrying())
		sent := pkttest.UDP(socket(r.a, 1000), socket(r.s, 53), "hello")
		require.Equal(t, flow.Forward, b.Outbound(0, sent).Action)
		ping := r.ping(r.a, r.s, 5, 1)
		require.Equal(t, flow.Forward, b.Outbound(0, clone(ping)).Action)
		came := pkttest.UDP(socket(r.s, 53), socket(r.a, 1000), "hello")
		buf := make([]byte, 2048)
		for name, c := range map[string]struct {
			from flow.Side
			pkt  []byte
		}{
			"query":         {flow.Inside, ping},
			"reply":         {flow.Outside, r.pong(r.s, r.f, firstPort, 1)},
			"inbound error": {flow.Outside, pkttest.ICMP(r.rx, r.f, r.exceeded, 0, 0, sent)},
			"outbound error": {flow.Inside,
				pkttest.ICMP(r.a, r.s, r.unreachable, r.portCode, 0, came)},
		} {
			var v flow.Verdict
			n := testing.AllocsPerRun(200, func() { v = b.send(c.from, buf[:copy(buf, c.pkt)]) })
			assert.Zero(t, n, name)
			assert.Equal(t, flow.Forward, v.Action, "%s: %v", name, v.Reason)
		}
	})
}

// several is instances of one host each, which share a frontend.
func several(n int) snat.Config {
	c := carrying(func(c *snat.Config) { c.ICMP.TTL, c.ICMP.Refusals = snat.TTLRouter, snat.RefuseProhibited })
	c.Instances = nil
	for i := range n {
		c.Instances = append(c.Instances, snat.Instance{
			Name:  fmt.Sprintf("vm-%d", i),
			Addrs: []netip.Addr{addr("10.0.1.%d", i), addr("fd00::1:%x", i)},
			Ports: []snat.PortRange{
				{Frontend: addr(frontend), First: uint16(1024 + 16*i), Count: 16},
				{Frontend: addr(frontend6), First: uint16(1024 + 16*i), Count: 16},
			},
		})
	}
	return c
}

// host returns the address of an instance of several.
func (r realm) host(i int) string {
	if r.name == "v4" {
		return fmt.Sprintf("10.0.1.%d", i)
	}
	return fmt.Sprintf("fd00::1:%x", i)
}

// Identifiers have owners as ports do: a reply and an error find the instance
// among many, and no instance speaks about another's sessions.
func TestNAT_Q1_IdentifiersHaveOwners(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		b := newBed(t, several(20))
		ttl := pkttest.TTL(63)
		for i := range 20 {
			id := uint16(1024 + 16*i)
			sent := r.ping(r.host(i), r.s, 7, 1)
			left := pkttest.ICMP(r.f, r.s, r.echo, 0, uint32(id)<<16|1, []byte("abcd"), ttl)
			b.forwards(flow.Inside, clone(sent), left)
			b.forwards(flow.Outside, r.pong(r.s, r.f, id, 1), pkttest.ICMP(r.s, r.host(i), r.reply, 0, 7<<16|1, []byte("abcd"), ttl))
			b.forwards(flow.Outside, pkttest.ICMP(r.rx, r.f, r.exceeded, 0, 0, left),
				pkttest.ICMP(r.rx, r.host(i), r.exceeded, 0, 0, pkttest.ICMP(r.host(i), r.s, r.echo, 0, 7<<16|1, []byte("abcd"), ttl), ttl))
			about := r.pong(r.s, r.host(i), 7, 1)
			b.drops(flow.Inside, pkttest.ICMP(r.host((i+1)%20), r.s, r.unreachable, 0, 0, about), flow.ReasonICMPNoFlow)
		}
	})
}

// Control of a link does not cross it, whatever it is sent to.
func TestNAT_Q14_LinkLocalControl(t *testing.T) {
	r, b := realms[1], newBed(t, carrying())
	for typ := uint8(130); typ <= 143; typ++ {
		if typ > 137 && typ < 143 {
			continue
		}
		for _, dst := range []string{"ff02::1", "fe80::1", r.s} {
			b.drops(flow.Inside, pkttest.ICMP(r.a, dst, typ, 0, 0, make([]byte, 16)), flow.ReasonICMPType)
		}
	}
	b.drops(flow.Inside, r.ping(r.a, "fe80::1", 1, 1), flow.ReasonLinkLocal)
	b.drops(flow.Outside, r.pong("fe80::1", r.f, firstPort, 1), flow.ReasonLinkLocal)
	left := pkttest.UDP(socket(r.a, 1000), socket(r.s, 53), "q")
	require.Equal(t, flow.Forward, b.Outbound(0, left).Action)
	b.drops(flow.Outside, pkttest.ICMP("fe80::1", r.f, r.exceeded, 0, 0, left), flow.ReasonLinkLocal)
}

// Goroutines ping, are refused, and run out of hops at the same time; the race
// detector watches, and every packet is counted.
func TestICMPConcurrently(t *testing.T) {
	const workers, rounds = 8, 200
	b := newBed(t, several(workers))
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			for k := range rounds {
				for _, r := range realms {
					ping := r.ping(r.host(i), r.s, uint16(k%20), 1) // 20 identifiers, 16 outside
					if v := b.Outbound(0, ping); v.Action == flow.Forward {
						b.Inbound(0, pkttest.ICMP(r.rx, r.f, r.exceeded, 0, 0, ping))
					}
					b.Outbound(0, pkttest.UDP(socket(r.host(i), 9), socket(r.s, 9), "x", pkttest.TTL(1)))
				}
				b.AdvanceStep(0, func(flow.Emission) {})
			}
		})
	}
	wg.Wait()
	b.Check()
	s := b.Stats()
	assert.Equal(t, uint64(2*2*workers*rounds), s.Outbound.Packets())
	assert.Equal(t, 2*16*workers, s.SessionsActive)
	assert.Equal(t, uint64(10), s.ICMPErrors, "one bucket for all")
	assert.Equal(t, uint64(2*workers*(rounds+rounds/20*4)), s.ICMPErrors+s.ICMPErrorsSuppressed)
	assert.Zero(t, s.Inbound.Dropped)
}
