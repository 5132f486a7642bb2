package whatif_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/whatif"
	"github.com/seed-a61be3fe/natplane/overlay/whatif/trace"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Flows of a trace begin and end when they did, as they did, with as many bytes and an exchange at
// least every minute.
func TestReplay(t *testing.T) {
	got, err := trace.Read("flows.csv", []byte(`start,src,dst,port,proto,duration,bytes,end
10,vm,203.0.113.9,443,tcp,0,600,fin
20,10.0.0.4,203.0.113.9,443,tcp,90.04,0,rst
130,10.0.0.4,203.0.113.53,53,udp,0.02,100,
140,10.0.0.4,203.0.113.54,5000,udp,90,40000,
300,10.0.0.4,203.0.113.9,443,tcp,1,0,open
`))
	require.NoError(t, err)
	n, hosts := newNAT(t, 64, snat.Policy{})
	tape := &tape{t: t, first: make(map[string]uint32)}
	s := newSimulation(t, whatif.Config{World: n, Hosts: hosts, Workload: whatif.Workload{Trace: got.Flows}, Packets: tape.packet})
	s.Advance(time.Hour)
	assert.Equal(t, []string{
		"0s 32768>443 S seq=0 len=0",
		"20ms 443>32768 SA seq=0 ack=1 len=0",
		"20ms 32768>443 A seq=1 ack=1 len=0",
		"20ms 32768>443 PA seq=1 ack=1 len=300",
		"40ms 443>32768 PA seq=1 ack=301 len=300",
		"40ms 32768>443 A seq=301 ack=301 len=0",
		"40ms 32768>443 FA seq=301 ack=301 len=0",
		"60ms 443>32768 FA seq=301 ack=302 len=0",
		"60ms 32768>443 A seq=302 ack=302 len=0",

		"10s 32769>443 S seq=0 len=0",
		"10.02s 443>32769 SA seq=0 ack=1 len=0",
		"10.02s 32769>443 A seq=1 ack=1 len=0",
		"10.02s 32769>443 PA seq=1 ack=1 len=200",
		"10.04s 443>32769 PA seq=1 ack=201 len=200",
		"10.04s 32769>443 A seq=201 ack=201 len=0",
		"55.02s 32769>443 PA seq=201 ack=201 len=200",
		"55.04s 443>32769 PA seq=201 ack=401 len=200",
		"55.04s 32769>443 A seq=401 ack=401 len=0",
		"1m40.02s 32769>443 PA seq=401 ack=401 len=200",
		"1m40.04s 443>32769 PA seq=401 ack=601 len=200",
		"1m40.04s 32769>443 A seq=601 ack=601 len=0",
		"1m40.04s 32769>443 RA seq=601 ack=601 len=0",

		"2m0s 32768>53 len=50",
		"2m0.02s 53>32768 len=50",

		"2m10s 32769>5000 len=1440",
		"2m54.99s 5000>32769 len=1440", "2m54.99s 32769>5000 len=1440",
		"3m39.98s 5000>32769 len=1440", "3m39.98s 32769>5000 len=1440",

		"4m50s 32770>443 S seq=0 len=0",
		"4m50.02s 443>32770 SA seq=0 ack=1 len=0",
		"4m50.02s 32770>443 A seq=1 ack=1 len=0",
		"4m50.02s 32770>443 PA seq=1 ack=1 len=200",
		"4m50.04s 443>32770 PA seq=1 ack=201 len=200",
		"4m50.04s 32770>443 A seq=201 ack=201 len=0",
		"4m50.98s 32770>443 PA seq=201 ack=201 len=200",
		"4m51s 443>32770 PA seq=201 ack=401 len=200",
		"4m51s 32770>443 A seq=401 ack=401 len=0",
	}, tape.inside)
	assert.Equal(t, whatif.Counts{
		Name: "trace", Arrivals: 5, Conversations: 5, Established: 5, Exchanges: 7, Completed: 4, Abandoned: 1,
	}, s.Result().Traffic[0])
}

// Hosts that a trace names have what they had; those of another cluster are dealt to the hosts in
// turn. A workload besides does not change when its flows come.
func TestReplayHosts(t *testing.T) {
	c := newCluster(t, overlay.ClusterConfig{NodePools: []overlay.NodePool{{Count: 1}}}, 3)
	flows := []trace.Flow{
		{Host: "web-2", Dst: internet.Addr}, {Src: netip.MustParseAddr("10.9.9.1"), Dst: internet.Addr}, {Host: "api-7", Dst: internet.Addr},
		{Src: netip.MustParseAddr("10.9.9.1"), Dst: internet.Addr}, {Src: c.Nodes()[0].PodBlocks[0].Addr().Next().Next().Next(), Dst: internet.Addr},
		{Host: "api-8", Dst: internet.Addr}, {Host: "api-9", Dst: internet.Addr},
	}
	for i := range flows {
		flows[i].Start = time.Duration(i) * time.Second
	}
	var from []string
	s := newSimulation(t, whatif.Config{World: c, Hosts: whatif.Pods(c), Workload: whatif.Workload{Trace: flows}, Packets: func(_ flow.Time, side flow.Side, pkt []byte) {
		if side == flow.Inside && pkt[33] == flow.SYN {
			p, _ := c.PodByAddr(netip.AddrFrom4([4]byte(pkt[12:16])))
			from = append(from, p.Name)
		}
	}})
	s.Advance(time.Minute)
	assert.Equal(t, []string{"web-2", "web-0", "web-1", "web-0", "web-1", "web-2", "web-0"}, from)
}

func TestReplayErrors(t *testing.T) {
	n, hosts := newNAT(t, 64, snat.Policy{})
	_, err := whatif.New(whatif.Config{World: n, Hosts: hosts, Workload: whatif.Workload{Trace: []trace.Flow{
		{Dst: internet.Addr, Start: 5}, {Start: 4, Duration: -1, End: 3},
	}}})
	for _, want := range []string{"Workload.Trace[1].Dst", "Workload.Trace[1].Start 4ns", "Workload.Trace[1] 4ns and -1ns", "Workload.Trace[1].End 3"} {
		assert.ErrorContains(t, err, want)
	}
	_, err = whatif.New(whatif.Config{World: n, Hosts: hosts, Workload: whatif.Workload{Trace: []trace.Flow{{Dst: netip.MustParseAddrPort("[2001:db8::1]:53")}}}})
	assert.ErrorContains(t, err, `Workload.Trace[0].Dst [2001:db8::1]:53: not the address of a single host: "vm" has no address of that family`)
	both := whatif.Workload{
		Traffic: []whatif.Traffic{{Name: "trace", To: []whatif.Destination{internet}, Rate: whatif.Rate{Total: 1}}},
		Trace:   []trace.Flow{{Dst: internet.Addr}},
	}
	assert.EqualError(t, both.Validate(), `Traffic[0].Name "trace": duplicate name: as that of Trace in results`)
	both.Trace = nil
	assert.NoError(t, both.Validate())
}
