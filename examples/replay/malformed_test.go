package main

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
)

// Malformed packets that are so by their addresses, or with others: of one host
// with one remote, per family, with all that can be translated translated.
func TestMalformedConversations(t *testing.T) {
	v4 := family46{a, remote, front, "4"}
	v6 := family46{a6, remote6, front6, "6"}
	v4only := []family46{v4}
	both := []family46{v4, v6}
	type packets = [][]byte
	none := map[string]int{}
	drop := func(reason string, n int) map[string]int { return map[string]int{reason: n} }
	for name, c := range map[string]struct {
		families []family46
		build    func(x family46) packets
		pass     int // packets that are compared
		reasons  map[string]int
	}{
		"M11 TTL 1, unless it is a router": {both, func(x family46) packets {
			return packets{pkttest.UDP(x.in(1), x.out(2), "x", pkttest.TTL(1))}
		}, 1, none},
		"M11 TTL 0": {both, func(x family46) packets {
			return packets{query(x.in(1), x.out(2)), pkttest.UDP(x.in(1), x.out(2), "x", pkttest.TTL(0)), pkttest.UDP(x.out(2), x.in(1), "x", pkttest.TTL(0))}
		}, 1, drop("ttl", 2)},
		"M13 DF and MF": {v4only, func(x family46) packets {
			all := pieces(x.in(1), x.out(2), 5)
			for _, p := range all {
				flags(p, binary.BigEndian.Uint16(p[6:])|0x4000)
			}
			return all
		}, len(pieces(v4.in(1), v4.out(2), 5)), none},
		"M19 overlap": {both, func(x family46) packets {
			all := pieces(x.in(1), x.out(2), 5)
			return packets{all[0], all[1], overlap(all[1])}
		}, 2, drop("frag_overlap", 1)},
		"M19 overlap of those that wait": {both, func(x family46) packets {
			all := pieces(x.in(1), x.out(2), 5)
			return packets{all[1], overlap(all[1]), all[0]}
		}, 0, drop("frag_overlap", 3)},
		"M20 two first fragments": {both, func(x family46) packets {
			return packets{pieces(x.in(1), x.out(2), 5)[0], pieces(x.in(3), x.out(2), 5)[0]}
		}, 1, drop("frag_conflict", 1)},
		"M25 martian sources":     {both, func(x family46) packets { return x.from(x.martians(), x.in(2)) }, 0, nil},
		"M26 martian receivers":   {both, func(x family46) packets { return x.to(x.in(1), x.martians()) }, 0, nil},
		"M27 link-local":          {both, func(x family46) packets { return x.to(x.in(1), []string{x.linkLocal()}) }, 0, drop("link_local", 1)},
		"M24 land, by a frontend": {both, func(x family46) packets { return packets{query(at(x.front, 1024), x.in(2))} }, 0, drop("land", 1)},
		"M32 to nobody":           {both, func(x family46) packets { return packets{query(x.out(1), x.out(2))} }, 0, nil},
		"M40 no flags at all":     {both, func(x family46) packets { return packets{pkttest.TCP(x.in(1), x.out(2))} }, 0, drop("tcp_flags", 1)},
		"M42 odd TCP options":     {both, func(x family46) packets { return oddOptions(x) }, 4, none},
		"M47 SYN-ACK unasked":     {both, func(x family46) packets { return handshake(x.in(1), x.out(2))[1:2] }, 0, drop("no_flow", 1)},
		"M55 short ICMP":          {both, func(x family46) packets { return packets{pkttest.IP(x.inside, x.remote, x.icmp(), make([]byte, 7))} }, 0, drop("icmp_short", 1)},
		"M56 sum of an error":     {both, func(x family46) packets { return x.error(func(e []byte) []byte { e[len(e)-1] ^= 1; return e }) }, 1, drop("icmp_csum", 1)},
		"M58 bad inner header":    {both, func(x family46) packets { return x.quoting(func(q []byte) []byte { q[0] ^= 0x10; return q }) }, 1, drop("icmp_inner_bad", 1)},
		"M59 flow that never was": {both, func(x family46) packets {
			return packets{query(x.in(1), x.out(2)), unreachable(x.remote, x.inside, query(x.in(9), x.out(2)))}
		}, 1, drop("icmp_no_flow", 1)},
		"M60 error about an error": {both, func(x family46) packets {
			return packets{query(x.in(1), x.out(2)), unreachable(x.remote, x.inside, unreachable(x.inside, x.remote, query(x.out(2), x.in(1))))}
		}, 1, nil},
		"M62 echo reply unasked": {both, func(x family46) packets { return packets{pkttest.ICMPEchoReply(x.remote, x.inside, 1, 1)} }, 0, drop("no_flow", 1)},
		"M63 redirect": {v4only, func(x family46) packets {
			return packets{pkttest.ICMP(x.inside, x.remote, 5, 0, 0, query(x.out(2), x.in(1)))}
		}, 0, drop("icmp_type", 1)},
		"M71 twice the same":     {both, func(x family46) packets { return packets{query(x.in(1), x.out(2)), query(x.in(1), x.out(2))} }, 2, none},
		"M73 scan of every port": {v4only, func(x family46) packets { return scan(x) }, 0, drop("no_flow", 2000)},
		"M8 padded fragments": {both, func(x family46) packets {
			all := pieces(x.in(1), x.out(2), 5)
			slices.Reverse(all)
			for i := range all {
				all[i] = append(all[i], 1, 2, 3)
			}
			return all
		}, len(pieces(v4.in(1), v4.out(2), 5)), none},
	} {
		t.Run(name, func(t *testing.T) {
			for _, x := range c.families {
				all := c.build(x)
				d := replayJSON(t, captureOf(t, all...), "-fragments", "-icmp")
				assert.Equal(t, c.pass, d.Roundtrip.Compared, "IPv%s", x.version)
				if c.reasons != nil {
					assert.Equal(t, c.reasons, d.Reasons, "IPv%s", x.version)
				} else {
					assert.Equal(t, len(all)-c.pass, d.Verdicts.Drop, "IPv%s", x.version)
				}
			}
		})
	}
}

// family46 is a host, a remote and a frontend of one address family.
type family46 struct{ inside, remote, front, version string }

func at(host string, port uint16) string {
	if bytes.ContainsRune([]byte(host), ':') {
		host = "[" + host + "]"
	}
	return host + ":" + string(appendPort(nil, port))
}

func appendPort(b []byte, port uint16) []byte {
	if port >= 10 {
		b = appendPort(b, port/10)
	}
	return append(b, '0'+byte(port%10))
}

func (x family46) in(port uint16) string  { return at(x.inside, port) }
func (x family46) out(port uint16) string { return at(x.remote, port) }

func (x family46) icmp() uint8 {
	if x.version == "4" {
		return protoICMP
	}
	return protoICMPv6
}

// martians are endpoints that are no hosts.
func (x family46) martians() []string {
	if x.version == "4" {
		return []string{"0.1.2.3:7", "127.0.0.1:7", "224.0.0.1:7", "240.0.0.1:7", "255.255.255.255:7"}
	}
	return []string{"[::]:7", "[::1]:7", "[ff02::1]:7", "[ff0e::1]:7"}
}

func (x family46) linkLocal() string {
	if x.version == "4" {
		return "169.254.1.1:7"
	}
	return "[fe80::1]:7"
}

func (x family46) from(sources []string, to string) (all [][]byte) {
	for _, s := range sources {
		all = append(all, query(s, to))
	}
	return all
}

func (x family46) to(from string, receivers []string) (all [][]byte) {
	for _, r := range receivers {
		all = append(all, query(from, r))
	}
	return all
}

// error is a query, and an error about it that is changed after it was built.
func (x family46) error(change func([]byte) []byte) [][]byte {
	q := query(x.in(1), x.out(2))
	return [][]byte{q, change(unreachable(x.remote, x.inside, q))}
}

// quoting is a query, and an error about a changed one.
func (x family46) quoting(change func([]byte) []byte) [][]byte {
	q := query(x.in(1), x.out(2))
	return [][]byte{q, unreachable(x.remote, x.inside, change(slices.Clone(q)))}
}

// oddOptions are SYNs with TCP options of length 0, 1, too much, and none.
func oddOptions(x family46) (all [][]byte) {
	for i, option := range [][]byte{{3, 0, 7, 0}, {3, 1, 7, 0}, {2, 40, 5, 5}, {8}} {
		p := pkttest.TCP(x.in(uint16(i+1)), x.out(80), pkttest.TCPFlags("S"), pkttest.Payload(string(slices.Concat(option, make([]byte, 4-len(option))))))
		f := locate(p)
		word := f.srcPort + 12 // data offset and flags
		stale := slices.Clone(p[word : word+2])
		p[word] = 6 << 4
		amend(p[f.sum:], stale, p[word:word+2])
		all = append(all, p)
	}
	return all
}

// scan is what a scanner sends to ports of a host that nobody has opened.
func scan(x family46) (all [][]byte) {
	for port := range uint16(1000) {
		all = append(all, query(x.out(7), x.in(port+1)), pkttest.TCP(x.out(7), x.in(port+1), pkttest.TCPFlags("S")))
	}
	return all
}
