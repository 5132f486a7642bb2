package monitor

import (
	"bufio"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// line is a sample as who scrapes reads it.
type line struct {
	name   string
	labels map[string]string
	value  float64
}

var (
	sampleLine = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$`)
	labelPair  = regexp.MustCompile(`^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"(?:,|$)`)
)

// parse reads the text format strictly: HELP and TYPE first, all samples of a metric together, no series
// twice.
func parse(t *testing.T, text string) (lines []line, types map[string]string) {
	t.Helper()
	require.True(t, text == "" || strings.HasSuffix(text, "\n"))
	types = map[string]string{}
	helped, seen, current := "", map[string]bool{}, ""
	for in := bufio.NewScanner(strings.NewReader(text)); in.Scan(); {
		if rest, ok := strings.CutPrefix(in.Text(), "# HELP "); ok {
			var sentence string
			helped, sentence, _ = strings.Cut(rest, " ")
			require.NotEmpty(t, sentence, "%s", helped)
			continue
		}
		if rest, ok := strings.CutPrefix(in.Text(), "# TYPE "); ok {
			name, kind, _ := strings.Cut(rest, " ")
			require.Equal(t, helped, name)
			require.Contains(t, []string{"counter", "gauge"}, kind)
			require.NotContains(t, types, name)
			types[name], current = kind, name
			continue
		}
		m := sampleLine.FindStringSubmatch(in.Text())
		require.NotNil(t, m, "%q", in.Text())
		require.Equal(t, current, m[1])
		require.False(t, seen[m[1]+m[2]], "twice: %q", in.Text())
		seen[m[1]+m[2]] = true
		l := line{name: m[1], labels: map[string]string{}}
		for rest := m[2]; rest != ""; {
			pair := labelPair.FindStringSubmatch(rest)
			require.NotNil(t, pair, "%q", in.Text())
			require.NotContains(t, l.labels, pair[1])
			l.labels[pair[1]] = pair[2]
			rest = rest[len(pair[0]):]
		}
		var err error
		l.value, err = strconv.ParseFloat(m[3], 64)
		require.NoError(t, err)
		lines = append(lines, l)
	}
	return lines, types
}

// What is scraped is what was written: every sample with its name, labels and value, whatever they are.
func TestTextIsWhatSamplesAre(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	addr := func() netip.Addr {
		return []netip.Addr{{}, netip.MustParseAddr("203.0.113.7"), netip.MustParseAddr("2001:db8::7"), netip.MustParseAddr(`fe80::1%a"b\`)}[rng.IntN(4)]
	}
	metrics := make([]Metric, 0, len(help))
	for m := range help {
		metrics = append(metrics, m)
	}
	for range 100 {
		var samples []Sample
		seen := map[seriesKey]bool{}
		for range rng.IntN(40) {
			s := Sample{metrics[rng.IntN(len(metrics))], Dimensions{
				FrontendIPAddress: addr(), BackendIPAddress: addr(), InsideIPAddress: addr(), RemoteIPAddress: addr(),
				BackendPort: uint16(rng.IntN(3)), FrontendPort: uint16(rng.IntN(3)), RemotePort: uint16(rng.IntN(3)),
				Protocol: snat.Protocol(rng.IntN(3)), ConnectionState: ConnectionState(rng.IntN(int(numConnectionStates))),
				Direction: Direction(rng.IntN(int(numDirections))), HeldAfter: Hold(rng.IntN(int(numHolds))), IsAwaitingRemoval: rng.IntN(2) == 0,
			}, []float64{0, 1, 66.66666666666667, 1e15, math.MaxUint32}[rng.IntN(5)]}
			if k := (seriesKey{s.Metric, s.Dimensions}); !seen[k] {
				seen[k] = true
				samples = append(samples, s)
			}
		}
		var b strings.Builder
		require.NoError(t, WriteText(&b, samples))
		lines, types := parse(t, b.String())
		var got, want []string
		for _, l := range lines {
			m := Metric(strings.TrimSuffix(strings.TrimPrefix(l.name, "natplane_"), "_total"))
			assert.Equal(t, map[bool]string{true: "counter", false: "gauge"}[strings.HasSuffix(l.name, "_total")], types[l.name])
			assert.Equal(t, m.counts(), types[l.name] == "counter")
			text := string(m)
			for d := range (Dimensions{
				FrontendIPAddress: addrOf(l, "FrontendIPAddress"), BackendIPAddress: addrOf(l, "BackendIPAddress"),
				InsideIPAddress: addrOf(l, "InsideIPAddress"), RemoteIPAddress: addrOf(l, "RemoteIPAddress"),
			}).named() {
				text += " " + d.name + "=" + d.value
			}
			for _, name := range []string{"RemotePort", "FrontendPort", "BackendPort", "Protocol", "ConnectionState", "Direction", "HeldAfter", "IsAwaitingRemoval"} {
				if v, ok := l.labels[name]; ok {
					text += " " + name + "=" + v
				}
			}
			got = append(got, text+" "+strconv.FormatFloat(l.value, 'g', -1, 64))
		}
		for _, s := range samples {
			want = append(want, strings.TrimSuffix(s.String(), " "+lastField(s.String()))+" "+strconv.FormatFloat(s.Value, 'g', -1, 64))
		}
		assert.ElementsMatch(t, want, got)
	}
}

func lastField(s string) string { return s[strings.LastIndexByte(s, ' ')+1:] }

// addrOf reads an address of a label, the zero Addr if there is none.
func addrOf(l line, name string) netip.Addr {
	text := strings.NewReplacer(`\\`, `\`, `\"`, `"`).Replace(l.labels[name])
	a, _ := netip.ParseAddr(text)
	return a
}

// Every metric of a load balancer, a NAT gateway and holders has a sentence, no two sources share a series, and what
// has an error writes nothing.
func TestTextOfTranslators(t *testing.T) {
	backend := netip.MustParseAddr("10.0.0.4")
	n, err := snat.New(snat.Config{
		Instances: []snat.Instance{{
			Name: "vm", Addrs: []netip.Addr{backend}, Ports: []snat.PortRange{{Frontend: netip.MustParseAddr("203.0.113.10"), First: 1024, Count: 8}},
		}},
		Dataplane: snat.Dataplane{CountTraffic: true, CountHolders: snat.CountHolders{On: true}},
	})
	require.NoError(t, err)
	defer n.Close()
	n.Outbound(0, pkttest.TCP("10.0.0.4:40000", "198.51.100.7:443", pkttest.SYN))
	of := func(string, bool) netip.Addr { return backend }
	samples := append(append(LoadBalancer(n, of), NATGateway(n)...), Holders(n, 0, 10, of)...)
	var b strings.Builder
	require.NoError(t, WriteText(&b, samples))
	lines, types := parse(t, b.String())
	assert.Len(t, lines, len(samples))
	assert.Equal(t, "gauge", types["natplane_TotalConnectionCount"])
	assert.Contains(t, b.String(), `natplane_SnatConnectionCount_total{FrontendIPAddress="203.0.113.10",BackendIPAddress="10.0.0.4",ConnectionState="successful"} 1`+"\n")
	assert.Contains(t, b.String(), `natplane_HolderSnatPorts{RemoteIPAddress="198.51.100.7",RemotePort="443",Protocol="TCP"} 1`+"\n")

	b.Reset()
	assert.ErrorContains(t, WriteText(&b, append(samples, samples[3])), "two samples of one series: "+samples[3].String())
	assert.Empty(t, b.String())
	reader, w := io.Pipe()
	reader.CloseWithError(errors.New("gone"))
	assert.ErrorContains(t, WriteText(w, samples), "gone")
}
