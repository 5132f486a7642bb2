package kubeproxy_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/overlay/internal/kubeproxy"
)

// pass lets node 0 translate a packet that comes from another machine.
func (w *world) pass(b []byte) kubeproxy.Result {
	var p wire.Packet
	require.Equal(w.t, wire.OK, wire.Parse(b, &p))
	return w.p.Translate(w.now, 0, kubeproxy.FromWire, &p)
}

func TestErrorsAreAboutThePacketThatTheirReceiverSent(t *testing.T) {
	for _, a := range []struct{ client, frontend, endpoint, router string }{
		{"20.0.0.1", "20.50.1.1", "10.244.1.2", "192.0.2.1"}, {"2001:db8:9::1", "2001:db8::1", "fd00:2:1::2", "2001:db8:f::1"},
	} {
		for _, local := range []bool{false, true} {
			w := newWorld(t, 1)
			node := 1
			if local {
				node = 0
			}
			require.NoError(t, w.p.SetService(kubeproxy.Service{
				Name: "web", LoadBalancerIPs: []netip.Addr{netip.MustParseAddr(a.frontend)}, ExternalLocal: local,
				Ports: []kubeproxy.Port{{Protocol: kubeproxy.UDP, Port: 53}},
			}))
			require.NoError(t, w.p.SetEndpoints("web", []kubeproxy.Endpoint{{Addr: netip.MustParseAddr(a.endpoint), Node: node, Ports: []uint16{5353}}}))
			at := func(host string, port uint16) string {
				return netip.AddrPortFrom(netip.MustParseAddr(host), port).String()
			}
			query := pkttest.UDP(at(a.client, 5000), at(a.frontend, 53), "query")
			sent := slices.Clone(query)
			require.Equal(t, kubeproxy.Forward, w.pass(query).Action)
			s := slices.Collect(w.p.Sessions())[0]
			require.Equal(t, local, s.Seen == s.Client)
			answer := pkttest.UDP(s.Endpoint.String(), s.Seen.String(), "answer")
			replied := slices.Clone(answer)
			require.Equal(t, kubeproxy.Reply, w.pass(answer).Action)

			typ, head := uint8(3), 28
			if s.Client.Addr().Is6() {
				typ, head = 1, 48
			}
			// The endpoint has no such port: the client is told about what it sent.
			b := pkttest.ICMP(a.endpoint, s.Seen.Addr().String(), typ, 3, 0, query)
			require.Equal(t, kubeproxy.Reply, w.pass(b).Action)
			pkttest.Check(t, b, pkttest.Src(a.frontend), pkttest.Dst(a.client), pkttest.ChecksumsOK())
			assert.Equal(t, sent, b[head:])
			// The client has no such port any more: the endpoint is told about what it answered.
			b = pkttest.ICMP(a.client, a.frontend, typ, 3, 0, answer)
			require.Equal(t, kubeproxy.Forward, w.pass(b).Action)
			pkttest.Check(t, b, pkttest.Src(s.Seen.Addr().String()), pkttest.Dst(a.endpoint), pkttest.ChecksumsOK())
			assert.Equal(t, replied, b[head:])
			// An error about another flow, and one that is not for who sent what it quotes.
			other := pkttest.UDP(at(a.client, 5001), at(a.frontend, 53), "query")
			assert.Equal(t, kubeproxy.Pass, w.pass(pkttest.ICMP(a.router, a.client, typ, 3, 0, other)).Action)
			assert.Equal(t, kubeproxy.Pass, w.pass(pkttest.ICMP(a.router, a.router, typ, 3, 0, query)).Action)
		}
	}
}

func FuzzTranslateTakesAnyPacket(f *testing.F) {
	f.Add(pkttest.UDP("20.0.0.1:5000", "20.50.1.1:53", "query"))
	f.Add(pkttest.ICMP("10.244.1.2", "10.224.0.4", 3, 3, 0, pkttest.UDP("10.224.0.4:5000", "10.244.1.2:5353", "query")))
	f.Add(pkttest.Fragments(pkttest.UDP("20.0.0.1:5000", "20.50.1.1:53", string(make([]byte, 2000))), 1400, 7)[0])
	f.Fuzz(func(t *testing.T, b []byte) {
		w := newWorld(t, 1)
		require.NoError(t, w.p.SetService(kubeproxy.Service{
			Name: "web", LoadBalancerIPs: []netip.Addr{netip.MustParseAddr("20.50.1.1")},
			Ports: []kubeproxy.Port{{Protocol: kubeproxy.UDP, Port: 53}},
		}))
		require.NoError(t, w.p.SetEndpoints("web", []kubeproxy.Endpoint{{Addr: netip.MustParseAddr("10.244.1.2"), Node: 1, Ports: []uint16{5353}}}))
		w.p.Concerns(b)
		var p wire.Packet
		if wire.Parse(b, &p) != wire.OK {
			return
		}
		before := slices.Clone(b)
		if r := w.p.Translate(0, 0, kubeproxy.FromWire, &p); r.Action == kubeproxy.Pass || r.Action == kubeproxy.Drop {
			assert.Equal(t, before, b)
		}
		w.p.Answer(0, 1, &p)
	})
}
