package whatif_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/overlay/whatif"
	"github.com/seed-a61be3fe/natplane/snat"
)

// A fork goes on as the original does, packet by packet, and each without the other.
func TestFork(t *testing.T) {
	n, hosts := newNAT(t, 128, snat.Policy{EnableTCPReset: true})
	w := everything(3)
	for i := range w.Traffic {
		w.Traffic[i].From = whatif.Selector{}
		w.Traffic[i].To = []whatif.Destination{internet, {Addr: internet.Addr, Addresses: 3}}
	}
	type packet struct {
		at   flow.Time
		side flow.Side
		pkt  string
	}
	var tapes [2][]packet
	tape := func(i int) func(flow.Time, flow.Side, []byte) {
		return func(at flow.Time, side flow.Side, pkt []byte) {
			tapes[i] = append(tapes[i], packet{at, side, string(pkt)})
		}
	}
	s := newSimulation(t, whatif.Config{World: n, Hosts: hosts, Workload: w, Packets: tape(0)})
	s.Advance(4 * time.Minute)
	tapes[0] = nil
	fn, err := n.Fork(snat.Ties{})
	require.NoError(t, err)
	defer fn.Close()
	f := s.Fork(fn, tape(1))
	before := f.Result()
	assert.Equal(t, s.Result(), before)

	s.Advance(10 * time.Minute)
	require.NotEmpty(t, tapes[0])
	assert.Empty(t, tapes[1])
	assert.Equal(t, before, f.Result(), "the fork has stayed")
	f.Advance(7 * time.Minute)
	f.Advance(10 * time.Minute)
	require.Equal(t, tapes[0], tapes[1])
	assert.Equal(t, s.Result(), f.Result())
	assert.NotZero(t, f.Result().Total.Cut)
	assert.NotZero(t, f.Result().Total.Refused)
}
