package bench

import (
	"net/netip"
	"testing"
	"time"

	"github.com/seed-a61be3fe/natplane/overlay/whatif"
)

// BenchmarkWorkload simulates connections of a workload, from SYN to the last ACK and, in the
// world, the end of their holds, through a cluster of 100 nodes and 800 pods: 1,400 a second to 20
// destinations. Figures are per connection; packets/conn are those that hosts and destinations
// send.
func BenchmarkWorkload(b *testing.B) {
	const rate = 1400
	c, _ := newCluster(b, 100*portsPerInstance, false)
	defer c.Close()
	s, err := whatif.New(whatif.Config{World: c, Hosts: whatif.Pods(c), Workload: whatif.Workload{Traffic: []whatif.Traffic{{
		Name: "requests", Rate: whatif.Rate{Total: rate, Even: true},
		To: []whatif.Destination{{Addr: netip.MustParseAddrPort("203.0.113.1:443"), Addresses: 20}},
	}}}})
	if err != nil {
		b.Fatal(err)
	}
	const warm = 5 * time.Minute // until as many holds end as begin
	s.Advance(warm)
	before := s.Result()
	b.ReportAllocs()
	b.ResetTimer()
	s.Advance(warm + time.Duration(b.N)*time.Second/rate)
	b.StopTimer()
	r := s.Result()
	if r.Total.Refused > 0 || r.Total.Broken > 0 {
		b.Fatalf("%+v", r.Total)
	}
	n := float64(r.Total.Conversations - before.Total.Conversations)
	b.ReportMetric(float64(r.Outbound+r.Inbound-before.Outbound-before.Inbound)/max(n, 1), "packets/conn")
}
