package icmp_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/icmp"
)

// A report is an error from the address given, with the packet's DSCP, that quotes as
// much of the packet as an error may have bytes.
func TestBuild(t *testing.T) {
	for family, most := range [2]int{576, 1280} {
		for _, c := range []struct {
			report icmp.Report
			typ    [2]uint8
			code   [2]uint8
			word   uint32
		}{
			{icmp.HopsExceeded, [2]uint8{11, 3}, [2]uint8{0, 0}, 0},
			{icmp.TooBig, [2]uint8{3, 2}, [2]uint8{4, 0}, 1400},
			{icmp.HostUnreachable, [2]uint8{3, 1}, [2]uint8{1, 3}, 0},
			{icmp.PortUnreachable, [2]uint8{3, 1}, [2]uint8{3, 4}, 0},
			{icmp.Prohibited, [2]uint8{3, 1}, [2]uint8{13, 1}, 0},
		} {
			for _, size := range []int{0, 100, 1400} {
				sent := pkttest.UDP(sockets[family], peers[family], strings.Repeat("x", size), pkttest.TOS(0xbb))
				p := parse(t, sent)
				_, src := p.Addrs()
				got := c.report.Build(p, src, 1400)
				quoted := sent[:min(len(sent), most-int(p.L4)-8)]
				want := pkttest.ICMP(remotes[family], hosts[family], c.typ[family], c.code[family], c.word, quoted, pkttest.TOS(0xb8))
				assert.Empty(t, pkttest.Diff(want, got))
			}
		}
	}
}

// Errors answer packets and queries, but neither errors nor fragments with an offset
// (RFC 1122 section 3.2.2), and never where a family has no word for it.
func TestAnswers(t *testing.T) {
	told := icmp.PortUnreachable
	for family := range 2 {
		src, dst := hosts[family], remotes[family]
		assert.True(t, told.Answers(parse(t, pkttest.UDP(sockets[family], peers[family], "x"))))
		assert.True(t, told.Answers(parse(t, pkttest.ICMPEcho(src, dst, 1, 1))))
		assert.True(t, told.Answers(parse(t, pkttest.ICMPEchoReply(src, dst, 1, 1))))
		assert.False(t, told.Answers(parse(t, pkttest.ICMP(src, dst, [2]uint8{3, 1}[family], 0, 0, nil))))
		p := parse(t, pkttest.UDP(sockets[family], peers[family], "x"))
		p.Flags |= wire.Fragmented | wire.NonFirst
		assert.False(t, told.Answers(p))
		var none icmp.Report
		assert.False(t, none.Answers(parse(t, pkttest.UDP(sockets[family], peers[family], "x"))))
	}
}

// What has a Parameter Problem in IPv6 has none in IPv4; a protocol that is not carried
// is told in both, and other reasons in neither.
func TestProblemOf(t *testing.T) {
	for family := range 2 {
		var gre wire.Packet
		wire.Parse(pkttest.IP(hosts[family], remotes[family], 47, make([]byte, 8)), &gre)
		r, ok := icmp.ProblemOf(flow.ReasonUnsupportedProto, &gre)
		assert.True(t, ok)
		assert.Equal(t, flow.ReasonUnsupportedProto, r.Reason)
		udp := parse(t, pkttest.UDP(sockets[family], peers[family], "x"))
		_, ok = icmp.ProblemOf(flow.ReasonLinkLocal, udp)
		assert.Equal(t, family == 1, ok)
		for reason := range flow.NumReasons {
			switch reason {
			case flow.ReasonUnsupportedProto, flow.ReasonFragLength, flow.ReasonFragOverflow, flow.ReasonFragTiny, flow.ReasonRoutingHeader, flow.ReasonHopOption, flow.ReasonLinkLocal:
				continue
			}
			_, ok = icmp.ProblemOf(reason, udp)
			assert.False(t, ok, reason)
		}
		_, ok = icmp.ProblemOf(flow.ReasonUnsupportedProto, new(wire.Packet))
		assert.False(t, ok, "nothing that can be trusted")
	}
	report := parse(t, pkttest.ICMP(hosts[1], remotes[1], 1, 0, 0, nil))
	_, ok := icmp.ProblemOf(flow.ReasonLinkLocal, report)
	assert.False(t, ok, "never about an error")
}
