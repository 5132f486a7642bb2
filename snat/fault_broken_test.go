//go:build !natplane_invariants

package snat

// Faults that are planted. Builds that check invariants would find them first.

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// A broken session costs itself, is counted and told of; all others go on, and no
// lock stays taken.
func TestFaults(t *testing.T) {
	syn := func(i int) []byte {
		return pkttest.TCP(fmt.Sprint("10.1.0.9:", 5000+i), "198.51.100.7:443", pkttest.SYN, pkttest.Seq(1000))
	}
	for _, c := range []struct {
		name    string
		change  func(*Config)
		spoil   func(sh *ports.State, inst *ports.Instance, id flow.ID, s *flow.Session)
		packet  []byte // that meets the fault, else Advance does
		verdict flow.Reason
		text    string
	}{
		{
			name: "not indexed by its outside end",
			spoil: func(sh *ports.State, inst *ports.Instance, id flow.ID, s *flow.Session) {
				sh.UnindexExtra(hashOutside(s), id)
			},
			text: "is not indexed",
		}, {
			name: "not indexed at its node",
			spoil: func(sh *ports.State, inst *ports.Instance, id flow.ID, s *flow.Session) {
				sh.UnindexExtra(sh.NodeHash(id, s, inst), id)
			},
			text: "is not indexed",
		}, {
			name:  "a port of nobody",
			spoil: func(sh *ports.State, inst *ports.Instance, id flow.ID, s *flow.Session) { s.OutsidePort = 9 },
			text:  "a port that its instance does not own",
		}, {
			name:  "a frontend of nobody",
			spoil: func(sh *ports.State, inst *ports.Instance, id flow.ID, s *flow.Session) { s.Outside = 9 },
			text:  "a port that its instance does not own",
		}, {
			name:    "a port of nobody, and a reset",
			spoil:   func(sh *ports.State, inst *ports.Instance, id flow.ID, s *flow.Session) { s.OutsidePort = 9 },
			packet:  pkttest.TCP("10.1.0.9:5003", "198.51.100.7:443", pkttest.TCPFlags("R"), pkttest.Seq(1001)),
			verdict: flow.ReasonFault,
			text:    "a port that its instance does not own",
		}, {
			name: "a subscriber of nobody",
			change: func(c *Config) {
				c.Ports = &Owned{Limits: Limits{Sessions: 100}}
			},
			spoil: func(sh *ports.State, inst *ports.Instance, id flow.ID, s *flow.Session) {
				inst.Break(0, ports.TCPIndex)
			},
			// A new flow cannot get a port any more.
			packet:  syn(50),
			verdict: flow.ReasonFault,
			text:    "index out of range",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.change == nil {
				c.change = func(*Config) {}
			}
			n, told := troubled(t, c.change)
			n.spoil(t, c.spoil)
			if c.packet != nil {
				v := n.Outbound(flow.At(time.Second), append([]byte(nil), c.packet...))
				require.Equal(t, c.verdict, v.Reason)
				require.Equal(t, uint64(1), n.Stats().Outbound.Drops[flow.ReasonFault])
				require.Equal(t, uint64(1), n.Stats().Faults)
			}
			n.Advance(flow.At(time.Hour), nil)
			stats := n.Stats()
			require.NotZero(t, stats.Faults)
			require.Len(t, *told, int(stats.Faults))
			assert.Contains(t, (*told)[0], c.text)
			assert.NotPanics(t, func() { // nothing is locked, and all goes on
				for i := range 3 {
					n.Outbound(flow.At(time.Hour), pkttest.UDP(fmt.Sprint("10.1.0.9:", 6000+i), "198.51.100.7:53", "query"))
				}
			})
			require.Equal(t, uint64(11), n.Stats().Outbound.Forwarded-3)
		})
	}
}

// hashOutside returns the hash of an IPv4 session's outside key.
func hashOutside(s *flow.Session) uint64 {
	k, h := s.KeyOutside(), flow.NewHasher(hashKey)
	return h.Hash(&k)
}
