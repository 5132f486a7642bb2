package manifest_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/overlay/manifest"
	"github.com/seed-a61be3fe/natplane/overlay/whatif"
)

const workload = `apiVersion: natplane/v1
kind: Workload
seed: 7
traffic:
- name: orders
  from: {pods: default/orders, count: 2}
  to: [{addr: '203.0.113.9:443', weight: 3}, {addr: '203.0.113.10:443', addresses: 4}]
  rate: {perHost: 2.5, even: true, bursts: [{at: 10m, length: 1m, every: 1h, factor: 20}]}
  kind: Pool
  end: ServerCloses
  rtt: 30ms
  keepAlive: 3m
  retry: {attempts: 2, backoff: 500ms, factor: 2}
- {name: dns, to: [{addr: '9.9.9.9:53'}], rate: {total: 3}, kind: Lookup, cacheTTL: 30s}
`

// A workload file says what whatif takes, and pods of a Deployment are the hosts of its group.
func TestReadWorkload(t *testing.T) {
	w, err := manifest.ReadWorkload(file("f", workload))
	require.NoError(t, err)
	assert.Equal(t, whatif.Workload{Seed: 7, Traffic: []whatif.Traffic{
		{
			Name: "orders", From: whatif.Selector{Pods: "default/orders", Count: 2},
			To:    []whatif.Destination{{Addr: netip.MustParseAddrPort("203.0.113.9:443"), Weight: 3}, {Addr: netip.MustParseAddrPort("203.0.113.10:443"), Addresses: 4}},
			Rate:  whatif.Rate{PerHost: 2.5, Even: true, Bursts: []whatif.Burst{{At: 10 * time.Minute, Length: time.Minute, Every: time.Hour, Factor: 20}}},
			Class: whatif.Class{Kind: whatif.Pool, End: whatif.ServerCloses, RTT: 30 * time.Millisecond, KeepAlive: 3 * time.Minute, Retry: whatif.Retry{Attempts: 2, Backoff: 500 * time.Millisecond, Factor: 2}},
		},
		{Name: "dns", To: []whatif.Destination{{Addr: netip.MustParseAddrPort("9.9.9.9:53")}}, Rate: whatif.Rate{Total: 3}, Class: whatif.Class{Kind: whatif.Lookup, CacheTTL: 30 * time.Second}},
	}}, w)

	c, err := manifest.Read(file("m", deployment("orders", 3, "")+deployment("other", 1, "      hostNetwork: true\n")))
	require.NoError(t, err)
	r, err := c.Start(0)
	require.NoError(t, err)
	defer r.Close()
	hosts := r.Hosts()
	require.Len(t, hosts, 3)
	for _, h := range hosts {
		assert.Equal(t, "default/orders", h.Group)
	}
	s, err := whatif.New(whatif.Config{World: r, Hosts: hosts, Workload: w})
	require.NoError(t, err)
	s.Advance(time.Minute)
	assert.Equal(t, uint64(299), s.Result().Traffic[0].Exchanges)
}

func TestReadWorkloadErrors(t *testing.T) {
	for text, want := range map[string]string{
		"":                  "f 0 documents: cannot be read: must be one workload",
		"a: [1\nb: c\n":     "f:2: cannot be read: is no YAML",
		"a: 1\n---\nb: 2\n": "f 2 documents: cannot be read: must be one workload",
		"kind: Cluster\n":   "f:1: missing: apiVersion must be natplane/v1\nf:1: kind \"Cluster\": out of range: must be Workload",
		strings.Replace(workload, "seed", "sed", 1): `f:3: sed 7: unknown name: did you mean seed?`,
		strings.NewReplacer("2.5", "-1", "'203.0.113.9:443'", "nowhere", "Lookup", "Look", "name: dns", "name: orders", "30ms", "30").Replace(workload): `f:7: traffic[0].to[0].addr "nowhere": not the address of a single host: must be an address and a port such as 10.0.0.1:443 or [fd00::1]:443
f:8: traffic[0].rate.perHost -1: out of range: 0..1e+06
f:11: traffic[0].rtt 30: cannot be read: must be a duration such as 30m or 5s
f:14: traffic[1].kind "Look": out of range: must be one of PerRequest, Pool, Lookup, Media
f:14: traffic[1].name "orders": duplicate name: as Traffic[0]`,
	} {
		w, err := manifest.ReadWorkload(file("f", text))
		assert.Zero(t, w)
		assert.ErrorContains(t, err, want, text)
	}
}

// FuzzWorkload reads any text as a workload: it is refused, or valid.
func FuzzWorkload(f *testing.F) {
	f.Add(workload)
	f.Add("{}")
	f.Fuzz(func(t *testing.T, text string) {
		w, err := manifest.ReadWorkload(file("f", text))
		if err != nil {
			for _, line := range strings.Split(err.Error(), "\n") {
				assert.Regexp(t, `(?s)^f.*`, line+" f")
			}
			return
		}
		require.NoError(t, w.Validate())
	})
}

// What only a cluster shows to be wrong is told by where it stands, too, and all else as it was.
func TestLocate(t *testing.T) {
	w, err := manifest.ReadWorkloadFile(file("f", workload))
	require.NoError(t, err)
	_, err = whatif.New(whatif.Config{Hosts: []whatif.Host{{Name: "a", Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}}, Workload: w.Workload, Step: 1})
	require.Error(t, err)
	assert.Regexp(t, `^Step 1ns: out of range: .*\nWorld: missing`, w.Locate(err).Error())
	err = errors.Join(flow.ErrMissing, fmt.Errorf("Workload.Traffic[0].From.Pods %q: %w: nobody", "x", flow.ErrUnknownName), fmt.Errorf("Workload.Traffic[1].To[0].Addr 1: %w", flow.ErrAddress))
	located := w.Locate(err)
	assert.ErrorIs(t, located, flow.ErrUnknownName)
	assert.ErrorIs(t, located, flow.ErrMissing)
	assert.Regexp(t, `(?m)^f:\d+: traffic\[0\]\.from\.pods "x": unknown name: nobody$`, located.Error())
	assert.Regexp(t, `(?m)^f:\d+: traffic\[1\]\.to\[0\]\.addr 1: not the address`, located.Error())
	assert.NoError(t, w.Locate(nil))
}
