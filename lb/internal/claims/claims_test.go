package claims_test

import (
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/seed-a61be3fe/natplane/lb/internal/claims"
	"github.com/seed-a61be3fe/natplane/snat"
)

// clash says slowly whether two claims exclude each other.
func clash(a, b *claims.Claim) bool {
	return a.Frontend == b.Frontend && a.Protocol == b.Protocol && a.First <= b.Last && b.First <= a.Last &&
		!(a.Floating && b.Floating && a.HAPorts != b.HAPorts)
}

// TestConflictsAgainstAllPairs compares, for sets of claims by chance, with a look at all pairs: what
// is reported is one, and who clashes with an earlier claim is reported.
func TestConflictsAgainstAllPairs(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	found := 0
	for round := range 3000 {
		all := make([]claims.Claim, random.IntN(7))
		for i := range all {
			c := &all[i]
			*c = claims.Claim{Frontend: random.IntN(2), Protocol: snat.TCP, Path: strconv.Itoa(i), Floating: random.IntN(2) == 0, HAPorts: random.IntN(3) == 0}
			if c.First, c.Last = 1, 65535; !c.HAPorts {
				c.First = uint16(1 + random.IntN(40))
				c.Last = c.First + uint16(random.IntN(12))
			}
		}
		claims.Sort(all)
		reported := map[string]bool{}
		claims.Conflicts(all, func(c, o *claims.Claim) {
			found++
			reported[c.Path] = true
			assert.True(t, clash(c, o), "round %d: %+v and %+v", round, *c, *o)
		})
		for i := range all {
			clashes := false
			for j := range i {
				clashes = clashes || clash(&all[i], &all[j])
			}
			assert.Equal(t, clashes, reported[all[i].Path], "round %d: %+v of %+v", round, all[i], all)
		}
	}
	assert.Greater(t, found, 1000, "claims that clash")
}

func TestAPairOfRulesIsReportedOnce(t *testing.T) {
	var all []claims.Claim
	for _, p := range []snat.Protocol{snat.UDP, snat.TCP} {
		all = append(all, claims.Claim{Protocol: p, First: 80, Last: 80, Path: "a"}, claims.Claim{Protocol: p, First: 80, Last: 80, Path: "b"})
	}
	claims.Sort(all)
	count := 0
	claims.Conflicts(all, func(c, o *claims.Claim) {
		count++
		assert.Equal(t, [2]string{"b", "a"}, [2]string{c.Path, o.Path})
	})
	assert.Equal(t, 1, count)
}
