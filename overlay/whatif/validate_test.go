package whatif_test

import (
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/overlay/whatif"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Every field out of its range is told, by its path, all at once.
func TestValidate(t *testing.T) {
	err := whatif.Workload{Traffic: []whatif.Traffic{
		{},
		{Name: "a", To: []whatif.Destination{internet}, Rate: whatif.Rate{PerHost: 1}},
		{
			Name: "a", From: whatif.Selector{Count: -1},
			To: []whatif.Destination{
				{Addr: netip.MustParseAddrPort("203.0.113.9:0"), Weight: -1},
				{Addr: netip.MustParseAddrPort("223.255.255.0:53"), Addresses: 257},
				{Addr: netip.MustParseAddrPort("0.0.0.0:53"), Addresses: 70_000},
			},
			Rate: whatif.Rate{PerHost: 1, Total: math.NaN(), Daily: []float64{-1}, Bursts: []whatif.Burst{{Every: time.Second, Length: time.Minute, Factor: math.Inf(1)}, {At: -1}}},
			Class: whatif.Class{
				RTT: -1, Think: 32 * 24 * time.Hour, RequestBytes: 1441, AnswerBytes: -1, Requests: -1, Unanswered: 1.1, End: 4,
				Retry: whatif.Retry{Attempts: 1001, Factor: 0.5}, PoolSize: 10_001, CacheTTL: -time.Second, Names: -1,
			},
		},
		{Name: "b", To: []whatif.Destination{internet}, Rate: whatif.Rate{Total: 1}, Class: whatif.Class{Kind: whatif.Media, Requests: 3, Retry: whatif.Retry{Attempts: 1}}},
		{Name: "c", To: []whatif.Destination{internet}, Rate: whatif.Rate{Total: 1}, Class: whatif.Class{Kind: 4}},
	}}.Validate()
	require.Error(t, err)
	lines := strings.Split(err.Error(), "\n")
	for i, want := range []string{
		"Traffic[0].Name: missing",
		"Traffic[0].Rate: missing: PerHost or Total must be above 0",
		"Traffic[0].To: missing",
		"Traffic[2].AnswerBytes -1: out of range: 0..1440",
		"Traffic[2].CacheTTL -1s: out of range",
		"Traffic[2].CacheTTL: conflict: means nothing with Kind PerRequest",
		"Traffic[2].End 4: out of range: 0..3",
		"Traffic[2].From.Count -1: out of range",
		`Traffic[2].Name "a": duplicate name: as Traffic[1]`,
		"Traffic[2].Names -1: out of range",
		"Traffic[2].Names: conflict",
		"Traffic[2].PoolSize 10001: out of range: 0..10000",
		"Traffic[2].PoolSize: conflict",
		"Traffic[2].RTT -1ns: out of range: 0s..744h0m0s",
		"Traffic[2].Rate.Bursts[0].Every 1s: out of range: must be above Length 1m0s",
		"Traffic[2].Rate.Bursts[0].Factor +Inf: out of range",
		"Traffic[2].Rate.Bursts[1].At -1ns: out of range",
		"Traffic[2].Rate.Bursts[1].Length 0s: out of range: 1ms..744h0m0s",
		"Traffic[2].Rate.Daily 1 factors: out of range: must be 24, or none",
		"Traffic[2].Rate.Daily[0] -1: out of range",
		"Traffic[2].Rate.Total NaN: out of range: 0..1e+06",
		"Traffic[2].Rate.Total NaN: conflict: with PerHost 1",
		"Traffic[2].RequestBytes 1441: out of range",
		"Traffic[2].Requests -1: out of range",
		"Traffic[2].Retry.Attempts 1001: out of range",
		"Traffic[2].Retry.Factor 0.5: out of range: 1..100",
		"Traffic[2].Think 768h0m0s: out of range",
		"Traffic[2].To[0].Addr 203.0.113.9:0: out of range: needs a port",
		"Traffic[2].To[0].Weight -1: out of range",
		"Traffic[2].To[1].Addresses 257: out of range: there are not so many addresses from 223.255.255.0 on",
		"Traffic[2].To[2].Addr 0.0.0.0:53: not the address of a single host",
		"Traffic[2].Unanswered 1.1: out of range: 0..1",
		"Traffic[3].Requests: conflict: means nothing with Kind Media",
		"Traffic[3].Retry: conflict: means nothing with Kind Media",
		"Traffic[4].Kind 4: out of range: 0..3",
	} {
		if assert.Less(t, i, len(lines), want) {
			assert.True(t, strings.HasPrefix(lines[i], want), "%q, want %q", lines[i], want)
		}
	}
	assert.Len(t, lines, 35)
	assert.ErrorContains(t, whatif.Workload{}.Validate(), "Traffic: missing: nothing is sent")
}

// What depends on the hosts is told by New.
func TestNewErrors(t *testing.T) {
	n, hosts := newNAT(t, 64, snat.Policy{})
	_, err := whatif.New(whatif.Config{Begin: -1, Step: 1500 * time.Microsecond, SampleInterval: time.Millisecond})
	for _, want := range []string{"World: missing", "Hosts: missing", "Workload.Traffic: missing", "Begin -1ns", "Step 1.5ms", "SampleInterval 1ms"} {
		assert.ErrorContains(t, err, want)
	}
	_, err = whatif.New(whatif.Config{World: n, Hosts: append(hosts, hosts[0], whatif.Host{Addrs: []netip.Addr{{}}}, whatif.Host{Name: "x"}), Workload: everything(1)})
	for _, want := range []string{
		`Hosts[1].Name "vm": duplicate name: as Hosts[0]`, "Hosts[1].Addrs[0] 10.0.0.4: conflict", "Hosts[2].Name: missing", "Hosts[2].Addrs[0]", "Hosts[3].Addrs: missing",
	} {
		assert.ErrorContains(t, err, want)
	}
	tr := func(change func(*whatif.Traffic)) whatif.Traffic {
		x := whatif.Traffic{To: []whatif.Destination{internet}, Rate: whatif.Rate{PerHost: 1}}
		change(&x)
		return x
	}
	w := whatif.Workload{Traffic: []whatif.Traffic{
		tr(func(x *whatif.Traffic) { x.Name, x.From.Pods = "a", "who" }),
		tr(func(x *whatif.Traffic) { x.Name, x.From.Count = "b", 2 }),
		tr(func(x *whatif.Traffic) {
			x.Name, x.To[0].Addr = "c", netip.MustParseAddrPort("[2001:db8::1]:53")
		}),
		tr(func(x *whatif.Traffic) {
			x.Name = "d"
			for range 17 {
				x.To = append(x.To, whatif.Destination{Addr: netip.MustParseAddrPort("203.0.113.9:53"), Addresses: 1 << 16})
			}
		}),
	}}
	_, err = whatif.New(whatif.Config{World: n, Hosts: hosts, Workload: w})
	require.Error(t, err)
	assert.Equal(t, []string{
		`Workload.Traffic[0].From.Pods "who": unknown name: no host and no group of hosts is named so`,
		"Workload.Traffic[1].From.Count 2: out of range: there are 1 of them",
		`Workload.Traffic[2].To[0].Addr [2001:db8::1]:53: not the address of a single host: "vm" has no address of that family`,
		"Workload.Traffic[3].To has 1114113 addresses: too many: at most 1000000",
	}, strings.Split(err.Error(), "\n"))
}
