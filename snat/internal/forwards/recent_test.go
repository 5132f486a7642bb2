package forwards

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
)

// What is known is what has been put, and nothing after Reset.
func TestRecent(t *testing.T) {
	r, known := rand.New(rand.NewPCG(3, 1)), map[[3]int]uint32{}
	var recent Recent
	found := 0
	for range 20_000 {
		k := [3]int{r.IntN(6), r.IntN(3), 6 + 11*r.IntN(2)}
		addr, port, proto := uint32(k[0]), uint16(k[1]), uint8(k[2])
		switch r.IntN(40) {
		case 0:
			recent.Reset()
			clear(known)
			assert.False(t, recent.some)
		case 1, 2, 3, 4, 5:
			known[k] = uint32(1 + r.IntN(1000))
			recent.Put(addr, port, proto, known[k])
			assert.True(t, recent.some)
			assert.Equal(t, known[k], recent.Get(addr, port, proto))
		default:
			if n := recent.Get(addr, port, proto); n != 0 {
				found++
				assert.Equal(t, known[k], n)
			}
		}
	}
	assert.Greater(t, found, 1000)
}
