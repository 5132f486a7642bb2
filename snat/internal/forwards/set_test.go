package forwards_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/seed-a61be3fe/natplane/internal/rendezvous"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/forwards"
)

// Whatever is asked about has a forward or none, addresses that are no frontend's among it:
// their index does not fit into an int of 32 bits.
func TestWhatIsNoFrontendHasNoForward(t *testing.T) {
	s := forwards.New(forwards.Config{Shards: 1, Tables: new(rendezvous.Cache)}, []forwards.Spec{{
		Addr: netip.MustParseAddr("203.0.113.10"), Frontend: 3, TCP: true, First: 80, Last: 88, Shards: []uint8{0},
	}}, nil, nil)
	assert.Equal(t, uint32(1), s.At(3, wire.ProtoTCP, 88))
	for _, frontend := range []uint32{0, 4, 1 << 30, 1<<31 - 1, 1 << 31, 1<<32 - 1} {
		assert.Zero(t, s.At(frontend, wire.ProtoTCP, 80), "%d", frontend)
	}
	assert.Zero(t, s.At(3, wire.ProtoUDP, 80))
	assert.Zero(t, s.At(3, wire.ProtoTCP, 79))
	assert.Zero(t, s.At(3, wire.ProtoTCP, 89))
}
