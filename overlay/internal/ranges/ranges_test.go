package ranges_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/overlay/internal/ranges"
)

var errReserved = errors.New("kept")

func TestCheck(t *testing.T) {
	for text, want := range map[string]error{
		"10.0.0.0/8": nil, "fd00::/8": nil, "10.0.0.1/32": nil, "10.0.0.1/8": flow.ErrPrefix, "fd00::1/64": flow.ErrPrefix, "::ffff:10.0.0.0/104": flow.ErrPrefix,
		"224.0.0.0/8": errReserved, "127.0.0.0/8": errReserved, "ff00::/8": errReserved, "0.0.0.0/8": errReserved,
	} {
		var l problems.List
		p := netip.MustParsePrefix(text)
		require.Equal(t, want == nil, ranges.Check(&l, ranges.One("F", p), errReserved), text)
		require.ErrorIs(t, l.Err(), want, text)
		if want != nil {
			require.ErrorContains(t, l.Err(), "F "+text)
		}
	}
	var l problems.List
	require.False(t, ranges.Check(&l, ranges.One("F", netip.Prefix{}), errReserved))
	require.ErrorIs(t, l.Err(), flow.ErrPrefix)
}

// random returns some ranges of a small space, of both families, often one in another.
func random(rng *rand.Rand) (all []netip.Prefix) {
	for range rng.IntN(9) {
		a := netip.AddrFrom4([4]byte{10, 0, 0, byte(rng.IntN(256))})
		bits := 24 + rng.IntN(9)
		if rng.IntN(3) == 0 {
			a, bits = netip.AddrFrom16([16]byte{0: 0xfd, 15: byte(rng.IntN(256))}), 120+rng.IntN(9)
		}
		all = append(all, netip.PrefixFrom(a, bits).Masked())
	}
	return all
}

// Apart names a range once if any before it overlaps, and no other: the twin compares each with each.
func TestApartAgainstATwin(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 0))
	for range 3000 {
		all := random(rng)
		var l problems.List
		ranges.Apart(&l, ranges.In("R", all))
		got := ""
		if err := l.Err(); err != nil {
			got = err.Error()
			require.ErrorIs(t, err, flow.ErrOverlap)
		}
		pairs := 0
		for i, p := range all {
			overlaps := false
			for _, o := range all[:i] {
				overlaps = overlaps || p.Overlaps(o)
			}
			if overlaps {
				pairs++
			}
		}
		require.Equal(t, pairs == 0, got == "", "%v: %s", all, got)
		for _, line := range strings.Split(got, "\n") {
			if got == "" {
				break
			}
			var i, j int
			var p, o string
			_, err := fmt.Sscanf(strings.NewReplacer("[", " ", "]", " ", ":", "").Replace(named(line)), "R %d %s overlaps with R %d %s", &i, &p, &j, &o)
			require.NoError(t, err, line)
			require.True(t, j < i && all[i].Overlaps(all[j]), "%v: %s", all, line)
		}
	}
}

// named keeps the fields of a problem and shortens the rest, IPv6 being full of colons.
func named(line string) string {
	left, right, _ := strings.Cut(line, ": ")
	_, right, _ = strings.Cut(right, "with ")
	at := func(s string) string {
		field, _, _ := strings.Cut(s, " ")
		return field + " x"
	}
	return at(left) + " overlaps with " + at(right)
}

func TestDisjointNamesTheFirst(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 0))
	for range 2000 {
		all := random(rng)
		if len(all) == 0 {
			continue
		}
		var l problems.List
		ranges.Disjoint(&l, ranges.One("A", all[0]), ranges.In("B", all[1:]))
		want := ""
		for i, o := range all[1:] {
			if all[0].Overlaps(o) {
				want = fmt.Sprintf("A %v: overlaps: with B[%d] %v", all[0], i, o)
				break
			}
		}
		if want == "" {
			require.NoError(t, l.Err())
			continue
		}
		require.ErrorIs(t, l.Err(), flow.ErrOverlap)
		require.ErrorContains(t, l.Err(), want[strings.Index(want, "with "):])
		require.ErrorContains(t, l.Err(), fmt.Sprintf("A %v", all[0]))
	}
}

func TestUnreservedAndWithin(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 0))
	for range 2000 {
		all, kept := random(rng), random(rng)
		var l problems.List
		ranges.Unreserved(&l, ranges.In("R", all), kept, errReserved)
		told := map[string]bool{}
		for i, p := range all {
			inside := false
			for _, k := range kept {
				if p.Overlaps(k) {
					text := fmt.Sprintf("R[%d] %v: %v: %v must not be used", i, p, errReserved, k)
					require.ErrorContains(t, l.Err(), text)
					told[text] = true
				}
				inside = inside || k.Contains(p.Addr()) && k.Bits() <= p.Bits()
			}
			require.Equal(t, inside, ranges.Within(p, kept))
		}
		require.Len(t, told, l.Len())
	}
	require.Equal(t, netip.MustParsePrefix("10.0.0.7/32"), ranges.Host("H", netip.MustParseAddr("10.0.0.7")).Prefix)
}
