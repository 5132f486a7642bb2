package probe

import (
	"fmt"
	"net/netip"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// Where probes come from. They must not be blocked on a backend.
var (
	// Source4 is the address in IPv4, the same in all regions (probe document).
	Source4 = netip.AddrFrom4([4]byte{168, 63, 129, 16})
	// Source6 is the address in IPv6. The documents say link-local; this one is in the
	// program for probes of Azure's own network plugin (azure-container-networking,
	// bpf-prog/ipv6-hp-bpf).
	Source6 = netip.MustParseAddr("fe80::1234:5678:9abc")
)

// Attempt is an attempt as packets: what a backend receives of it.
type Attempt struct {
	Backend  Backend // whom it is sent to
	SrcPort  uint16  // 1..65535
	Seq, Ack uint32  // the probe's first sequence number, and the backend's; Ack counts in a request only
}

// AppendSYN appends the SYN with which every probe begins to b, a packet that starts at
// its IP header, and returns the extended slice. It has no options, which is our choice.
func (a Attempt) AppendSYN(b []byte, p *Probe) []byte {
	s := a.segment(p)
	s.Seq, s.Flags = a.Seq, wire.SYN
	return s.AppendTo(b, nil)
}

// AppendRequest appends the GET of an HTTP probe, a packet that follows the handshake.
// What it says besides the path is our choice. It panics for other protocols: TCP asks for
// nothing, and what HTTPS asks for is encrypted.
func (a Attempt) AppendRequest(b []byte, p *Probe) []byte {
	if p.Protocol != HTTP {
		panic(fmt.Sprintf("probe: a request of %v", p.Protocol))
	}
	s := a.segment(p)
	s.Seq, s.Ack, s.Flags = a.Seq+1, a.Ack+1, wire.ACK|wire.PSH
	return s.AppendTo(b, fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %v\r\nUser-Agent: Load Balancer Agent\r\nConnection: close\r\n\r\n",
		p.path(), netip.AddrPortFrom(a.Backend.Addr, p.Port)))
}

// segment returns what all segments of the attempt have.
func (a Attempt) segment(p *Probe) wire.Segment {
	s := wire.Segment{SrcPort: a.SrcPort, DstPort: p.Port, Window: 8192}
	if to := a.Backend.Addr; to.Is4() {
		s.Src[0], s.Dst[0] = uint64(flow.Addr4(Source4)), uint64(flow.Addr4(to))
	} else {
		s.V6, s.Src, s.Dst = true, flow.Addr6(Source6), flow.Addr6(to)
	}
	return s
}

// path returns the request path as a request has it: it begins with a slash, which
// Azure's own examples leave out.
func (p *Probe) path() string {
	if p.RequestPath[0] == '/' {
		return p.RequestPath
	}
	return "/" + p.RequestPath
}
