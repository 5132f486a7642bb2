package snat_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// ICMP and instances with public addresses. Pods ping through the address of
// their node; what no pod wants is for the node itself, as it came.
func TestICMPThroughPublicAddress(t *testing.T) {
	for i, f := range families {
		t.Run(f.name, func(t *testing.T) {
			r := realms[i]
			c := publicNode()
			c.ICMP = snat.ICMP{Queries: true, Errors: true}
			b := newBed(t, c)
			sent, left := r.ping(f.pod, f.server, 7, 1), r.ping(f.public, f.server, 7, 1)
			b.forwards(flow.Inside, clone(sent), left)
			b.forwards(flow.Outside, r.pong(f.server, f.public, 7, 1), r.pong(f.server, f.pod, 7, 1))
			b.forwards(flow.Outside, pkttest.ICMP(r.rx, f.public, r.exceeded, 0, 0, left), pkttest.ICMP(r.rx, f.pod, r.exceeded, 0, 0, sent))
			about := r.pong(f.server, f.pod, 7, 1)
			b.forwards(flow.Inside, pkttest.ICMP(f.pod, f.server, r.unreachable, 1, 0, about),
				pkttest.ICMP(f.public, f.server, r.unreachable, 1, 0, r.pong(f.server, f.public, 7, 1)))

			// The node's own.
			b.forwards(flow.Outside, r.pong(f.server, f.public, 8, 1), r.pong(f.server, f.vm, 8, 1))
			b.forwards(flow.Outside, r.ping(f.server, f.public, 7, 1), r.ping(f.server, f.vm, 7, 1))
			other := r.ping(f.public, f.server, 8, 1)
			b.forwards(flow.Outside, pkttest.ICMP(r.rx, f.public, r.exceeded, 0, 0, other), pkttest.ICMP(r.rx, f.vm, r.exceeded, 0, 0, other))
			b.forwards(flow.Inside, r.ping(f.vm, f.server, 7, 1), r.ping(f.public, f.server, 7, 1))
			assert.Equal(t, 1, b.Stats().SessionsActive)
		})
	}
}

// A translator that is a hop is one for packets of public addresses too, which it
// does not track, and whole batches of them.
func TestNAT_H6_HopOfPublicAddresses(t *testing.T) {
	for i, f := range families {
		for name, c := range map[string]snat.Config{"node": publicNode(), "vm": publicVM(8)} {
			t.Run(f.name+" "+name, func(t *testing.T) {
				r := realms[i]
				c.ICMP = snat.ICMP{TTL: snat.TTLRouter, ErrorBurst: 100}
				b := newBed(t, c)
				for ttl := range uint8(3) {
					for proto := range map[uint8]bool{protoUDP: true, 50: true} {
						build := func(src, dst string, ttl uint8) []byte {
							if proto == protoUDP {
								return pkttest.UDP(socket(src, 5000), socket(dst, 53), "x", pkttest.TTL(ttl))
							}
							return pkttest.IP(src, dst, 50, []byte("secret"), pkttest.TTL(ttl))
						}
						sent, came := build(f.vm, f.server, ttl), build(f.server, f.public, ttl)
						if ttl > 1 {
							b.forwards(flow.Inside, sent, build(f.public, f.server, ttl-1))
							b.forwards(flow.Outside, came, build(f.server, f.vm, ttl-1))
							continue
						}
						b.drops(flow.Inside, clone(sent), flow.ReasonTTL)
						b.made(flow.Inside, pkttest.ICMP(r.f, f.vm, r.exceeded, 0, 0, sent))
						pkts, verdicts := [][]byte{clone(came), clone(came)}, make([]flow.Verdict, 2)
						b.InboundBatch(b.now, pkts, verdicts)
						for _, v := range verdicts {
							require.Equal(t, flow.ReasonTTL, v.Reason)
						}
						answer := pkttest.ICMP(f.public, f.server, r.exceeded, 0, 0, came)
						b.made(flow.Outside, answer, answer)
					}
				}
				// Of a datagram only the first fragment is answered.
				big := pkttest.UDP(socket(f.vm, 5000), socket(f.server, 53), string(make([]byte, 64)), pkttest.TTL(1))
				frags := pkttest.Fragments(big, 32, 7)
				for _, frag := range frags {
					b.drops(flow.Inside, clone(frag), flow.ReasonTTL)
				}
				b.made(flow.Inside, pkttest.ICMP(r.f, f.vm, r.exceeded, 0, 0, frags[0]))
				assert.Zero(t, b.Stats().SessionsCreated)
			})
		}
	}
}
