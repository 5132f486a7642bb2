package probe_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/lb/probe"
)

func TestPackets(t *testing.T) {
	p := &probe.Probe{Protocol: probe.HTTP, Port: 8080, RequestPath: "healthz"}
	for _, tt := range []struct{ addr, from, to string }{
		{"10.1.0.4", "168.63.129.16:50000", "10.1.0.4:8080"},
		{"2001:db8::4", "[fe80::1234:5678:9abc]:50000", "[2001:db8::4]:8080"},
	} {
		a := probe.Attempt{Backend: probe.Backend{Name: "vm", Addr: netip.MustParseAddr(tt.addr)}, SrcPort: 50000, Seq: 7, Ack: 100}
		syn := a.AppendSYN([]byte{1, 2}, p)
		assert.Equal(t, []byte{1, 2}, syn[:2])
		pkttest.Check(t, syn[2:], pkttest.Src(tt.from), pkttest.Dst(tt.to), pkttest.TCPFlags("S"), pkttest.Seq(7), pkttest.Ack(0), pkttest.ChecksumsOK())
		pkttest.Check(t, a.AppendRequest(nil, p), pkttest.Src(tt.from), pkttest.Dst(tt.to), pkttest.TCPFlags("PA"), pkttest.Seq(8), pkttest.Ack(101),
			pkttest.Payload("GET /healthz HTTP/1.1\r\nHost: "+tt.to+"\r\nUser-Agent: Load Balancer Agent\r\nConnection: close\r\n\r\n"), pkttest.ChecksumsOK())
	}
}

func TestRequestOfOtherProtocols(t *testing.T) {
	a := probe.Attempt{Backend: probe.Backend{Addr: netip.MustParseAddr("10.1.0.4")}, SrcPort: 1}
	for _, protocol := range []probe.Protocol{probe.TCP, probe.HTTPS} {
		assert.Panics(t, func() { a.AppendRequest(nil, &probe.Probe{Protocol: protocol, Port: 1, RequestPath: "/"}) })
	}
}
