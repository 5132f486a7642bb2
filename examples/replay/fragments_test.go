package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
)

// pieces cuts a datagram of 1,000 bytes into fragments.
func pieces(from, to string, id uint32) [][]byte {
	return pkttest.Fragments(pkttest.UDP(from, to, string(make([]byte, 1000))), 256, id)
}

// Fragments are dropped by presets whose product drops them, and otherwise
// translated, in any order and both directions: with -fragments they are.
func TestFragmentsRoundTrip(t *testing.T) {
	for _, ends := range [][2]string{{a + ":4000", remote + ":53"}, {"[fd00::4]:4000", "[2001:db8:5::7]:53"}} {
		out, in := pieces(ends[0], ends[1], 7), pieces(ends[1], ends[0], 7)
		n := len(out)
		require.Greater(t, n, 3)
		query := query(ends[0], ends[1])
		reversed := func(all [][]byte) [][]byte {
			all = slices.Clone(all)
			slices.Reverse(all)
			return all
		}
		for name, c := range map[string]struct {
			packets  [][]byte
			forward  int
			reasons  map[string]int
			preset   string
			noOption bool
		}{
			"in order":                          {slices.Concat(out, in), 2 * n, nil, "azure-lb", false},
			"first one last":                    {slices.Concat(reversed(out), reversed(in)), 2 * n, nil, "azure-lb", false},
			"first one last, by another preset": {slices.Concat(reversed(out), reversed(in)), 2 * n, nil, "linux-masquerade", false},
			"answers only":                      {slices.Concat([][]byte{query}, reversed(in)), n + 1, nil, "azure-lb", false},
			"first one missing":                 {out[1:], 0, map[string]int{"frag_timeout": n - 1}, "azure-lb", false},
			"answer without one":                {slices.Concat([][]byte{query}, in[1:]), 1, map[string]int{"frag_timeout": n - 1}, "azure-lb", false},
			"unsolicited":                       {in, 0, map[string]int{"no_flow": n}, "azure-lb", false},
			"overlapping":                       {slices.Concat(out[2:3], [][]byte{overlap(out[2])}, out[:1]), 0, map[string]int{"frag_overlap": 3}, "azure-lb", false},
			"as the product":                    {slices.Concat(out, in), 0, map[string]int{"fragment": 2 * n}, "azure-lb", true},
		} {
			t.Run(fmt.Sprintf("%s/%s", ends[0], name), func(t *testing.T) {
				args := []string{"-preset", c.preset, "-fragments"}
				if c.noOption {
					args = args[:2]
				}
				d := replayJSON(t, captureOf(t, c.packets...), args...)
				assert.Equal(t, c.forward, d.Verdicts.Forward)
				assert.Equal(t, c.forward, d.Roundtrip.Compared)
				if c.reasons == nil {
					c.reasons = map[string]int{}
				}
				assert.Equal(t, c.reasons, d.Reasons)
			})
		}
	}
}

// overlap returns a fragment that begins 8 bytes before b.
func overlap(b []byte) []byte {
	b = slices.Clone(b)
	if b[0]>>4 == 6 {
		binary.BigEndian.PutUint16(b[42:], binary.BigEndian.Uint16(b[42:])-8)
		return b
	}
	return flags(b, binary.BigEndian.Uint16(b[6:])-1)
}

// With several frontends every fragment of an answer goes to the one that its
// request came from.
func TestFragmentsFindTheirFrontend(t *testing.T) {
	var packets [][]byte
	for i := range 40 {
		socket := fmt.Sprintf("10.0.0.%d:%d", 4+i, 4000+i)
		packets = append(packets, query(socket, remote+":53"))
		answer := pieces(remote+":53", socket, 9) // the same identification, to other hosts
		slices.Reverse(answer)
		packets = append(packets, answer...)
	}
	for _, preset := range []string{"aws-natgw", "azure-natgw", "azure-lb"} {
		in := captureOf(t, packets...)
		d := result(t, "-in", in, "-inside", insides, "-frontend", front+",198.51.100.8,198.51.100.9", "-preset", preset, "-fragments")
		assert.Equal(t, len(packets), d.Roundtrip.Compared, "%s: %v", preset, d.Reasons)
	}
}

// Fragments of many datagrams at once, shuffled: those whose first one comes are
// translated, and nothing is lost count of.
func TestShuffledFragments(t *testing.T) {
	const seed = 11
	random := rand.New(rand.NewPCG(seed, 0))
	var packets [][]byte
	for i := range 200 {
		socket := fmt.Sprintf("10.0.%d.%d:%d", i%3, i%5+1, 4000+i)
		all := pieces(socket, remote+":53", uint32(i))
		if i%4 == 0 {
			all = all[1:]
		}
		packets = append(packets, all...)
	}
	random.Shuffle(len(packets), func(i, j int) { packets[i], packets[j] = packets[j], packets[i] })
	d := replayJSON(t, captureOf(t, packets...), "-fragments")
	n := len(pieces(a+":1", remote+":1", 1))
	assert.Equal(t, 150*n, d.Roundtrip.Compared)
	assert.Equal(t, map[string]int{"frag_timeout": 50 * (n - 1)}, d.Reasons)
	assert.Positive(t, d.Roundtrip.Canonical, "identifications of their own")
}
