package permits

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
)

// A table is what a map of all flows would be that forgets nothing.
func TestTableAgainstModel(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		table, model, now := new(Table), map[Flow]flow.Time{}, flow.Time(0)
		for range 5000 {
			f := Flow{
				Inside: [2]uint64{r.Uint64N(3), r.Uint64N(2)}, Remote: [2]uint64{r.Uint64N(40), r.Uint64N(2)},
				InsidePort: uint16(r.IntN(3)), RemotePort: uint16(r.IntN(3)), Instance: uint32(r.IntN(2)), Proto: uint8(r.IntN(2)), V6: r.IntN(2) == 0,
			}
			last, ok := model[f]
			known := ok && now < last.Add(Lifetime)
			switch r.IntN(8) {
			case 0, 1, 2:
				table.Grant(now, f)
				model[f] = now
			case 3, 4:
				require.Equal(t, known, table.Passes(now, f), "seed %d", seed)
				if known {
					model[f] = now
				}
			case 5:
				require.Equal(t, known, table.Knows(now, f), "seed %d", seed)
			case 6:
				now = now.Add(time.Duration(r.IntN(2000)) * time.Millisecond)
			default:
				if r.IntN(50) == 0 {
					gone := func(f *Flow) bool { return f.Instance == 1 }
					table.Revoke(gone)
					for f := range model {
						if gone(&f) {
							delete(model, f)
						}
					}
				}
			}
		}
		live := 0
		for f, last := range model {
			if now < last.Add(Lifetime) {
				live++
				require.True(t, table.Knows(now, f))
			}
		}
		require.LessOrEqual(t, live, table.Len())
	}
}

// Permits that are over go, and there is an end of those that are not.
func TestTableIsBounded(t *testing.T) {
	table, now := new(Table), flow.Time(0)
	for range 20 {
		for i := range uint64(20_000) {
			table.Grant(now, Flow{Remote: [2]uint64{uint64(now) + i}})
		}
		now = now.Add(Lifetime)
	}
	assert.Less(t, table.Len(), 3*20_000)
	one := &table.stripes[0]
	table.Revoke(func(*Flow) bool { return true })
	for i := uint64(0); len(one.last) < maxPerStripe; i++ {
		if f := (Flow{Remote: [2]uint64{i}}); table.of(&f) == one {
			table.Grant(now, f)
		}
	}
	for i := uint64(1 << 40); ; i++ {
		if f := (Flow{Remote: [2]uint64{i}}); table.of(&f) == one {
			table.Grant(now, f)
			assert.False(t, table.Knows(now, f), "there is no room")
			break
		}
	}
	assert.Len(t, one.last, maxPerStripe)
}

func TestPassingDoesNotAllocate(t *testing.T) {
	table, f := new(Table), Flow{Remote: [2]uint64{7}}
	table.Grant(0, f)
	now := flow.Time(0)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		now++
		table.Passes(now, f)
	}))
}
