package snat_test

// Rows of the requirements about carriers that follow from those about protocols.

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Whoever knows the outside socket of a host reaches it, as carriers should allow;
// behind Azure's load balancer only who was asked does.
func TestNAT_C7_AnyRemote(t *testing.T) {
	open := oneVM(8)
	ownedPorts(&open).UDP = snat.Behavior{Mapping: snat.EndpointIndependent, Filtering: snat.EndpointIndependentFiltering, Share: snat.ShareNever}
	ownedPorts(&open).TCP = ownedOf(open).UDP
	for name, c := range map[string]snat.Config{"rfc": open, "azure": oneVM(8)} {
		t.Run(name, func(t *testing.T) {
			eachRealm(t, func(t *testing.T, r realm) {
				b := newBed(t, c)
				b.opens("udp", socket(r.a, 1000), socket(r.s, 53))
				b.opens("tcp", socket(r.a, 1000), socket(r.s, 443))
				inside, outside := socket(r.a, 1000), socket(r.f, firstPort)
				for _, src := range []string{socket(r.s, 99), socket(r.q, 53), socket(r.rx, 7)} {
					for _, make := range []func(dst string) []byte{
						func(dst string) []byte { return pkttest.UDP(src, dst, "knock") },
						func(dst string) []byte { return pkttest.TCP(src, dst, pkttest.SYN, pkttest.Seq(1)) },
					} {
						if name == "rfc" {
							b.forwards(flow.Outside, make(outside), make(inside))
						} else {
							b.drops(flow.Outside, make(outside), flow.ReasonFiltered)
						}
					}
				}
				want := map[string]int{"rfc": 8, "azure": 2}[name]
				assert.Equal(t, want, b.Stats().SessionsActive)
			})
		})
	}
}

// A query's identifier is free for others with its last session, and not before.
func TestNAT_P11_FreeWithTheLastSession(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		b := newBed(t, carrying(func(c *snat.Config) { c.Instances[0].Ports[0].Count, c.Instances[0].Ports[1].Count = 8, 8 }))
		query := func(id int, dst string) flow.Verdict { return b.Outbound(b.now, r.ping(r.a, dst, uint16(id), 1)) }
		for id := range 8 {
			require.Equal(t, flow.Forward, query(id, r.s).Action)
		}
		b.at(30 * time.Second)
		require.Equal(t, flow.Forward, query(0, r.q).Action, "the same identifier, another session")
		b.at(time.Minute - flow.Tick)
		require.Equal(t, flow.ReasonPorts, query(100, r.s).Reason)
		require.Equal(t, 0, b.pool(r.name == "v6", snat.Query).Free)
		b.at(time.Minute)
		require.Equal(t, 7, b.pool(r.name == "v6", snat.Query).Free, "the first has a session still")
		for id := range 7 {
			require.Equal(t, flow.Forward, query(100+id, r.s).Action)
		}
		require.Equal(t, flow.ReasonPorts, query(107, r.s).Reason)
		b.at(90 * time.Second)
		require.Equal(t, flow.Forward, query(107, r.s).Action)
		require.Zero(t, b.pool(r.name == "v6", snat.Query).Free)
	})
}
