package snat_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// A forward whose policy comes to say the same as that of all others, in other words, has
// other shards from then on, and its connections are there.
func TestForwardPolicyInOtherWords(t *testing.T) {
	with := func(p *snat.Policy) snat.Config {
		c := backends(2)
		c.Shards, c.Forwards = 2, c.Forwards[:1]
		c.Forwards[0].Policy = p
		return c
	}
	f := realms[0]
	b := newBed(t, with(&snat.Policy{IdleTimeout: 4 * time.Minute})) // the default
	for port := 5000; port < 5064; port++ {
		to := destination(b.remotely(socket(f.s, port), socket(f.f, 80), "S", 1000, 0))
		b.locally(to, socket(f.s, port), "SA", 9000, 1001)
		b.remotely(socket(f.s, port), socket(f.f, 80), "A", 1001, 9001)
	}
	for _, p := range []*snat.Policy{nil, {IdleTimeout: 4 * time.Minute}} {
		_, err := b.Reconfigure(b.now, with(p))
		require.NoError(t, err)
		b.Check()
		for port := 5000; port < 5064; port++ {
			v := b.Inbound(b.now, pkttest.TCP(socket(f.s, port), socket(f.f, 80), pkttest.ACK, pkttest.Seq(1001), pkttest.Ack(9001)))
			require.Equal(t, flow.Forward, v.Action)
			require.False(t, v.New, "port %d", port)
		}
	}
}
