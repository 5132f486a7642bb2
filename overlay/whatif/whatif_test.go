package whatif_test

import (
	"fmt"
	"net/netip"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/whatif"
	"github.com/seed-a61be3fe/natplane/snat"
)

// newCluster returns a cluster with pods web-0, web-1 .. on each node in turn.
func newCluster(t testing.TB, c overlay.ClusterConfig, pods int) *overlay.Cluster {
	t.Helper()
	cluster, err := overlay.New(c)
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	nodes := cluster.Nodes()
	for i := range pods {
		_, err := cluster.AddPod(nodes[i%len(nodes)].Name, fmt.Sprintf("web-%d", i))
		require.NoError(t, err)
	}
	return cluster
}

// newSimulation returns a simulation that has to be possible.
func newSimulation(t testing.TB, c whatif.Config) *whatif.Simulation {
	t.Helper()
	s, err := whatif.New(c)
	require.NoError(t, err)
	return s
}

var internet = whatif.Destination{Addr: netip.MustParseAddrPort("203.0.113.9:443")}

// tape is the packets of a simulation as hosts and the outside see them, a line each: the
// time, ports and flags, and the numbers relative to the first of each connection.
type tape struct {
	t               testing.TB
	inside, outside []string
	first           map[string]uint32
}

var numbers = regexp.MustCompile(`(seq|ack)=(\d+)`)

func (p *tape) packet(at flow.Time, side flow.Side, pkt []byte) {
	pkttest.Check(p.t, pkt, pkttest.ChecksumsOK())
	f := strings.Fields(pkttest.String(pkt)) // TCP src > dst flags seq= ack= len=
	src, dst, rest := f[1], f[3], strings.Join(f[4:], " ")
	line := strings.TrimPrefix(src[strings.LastIndexByte(src, ':'):]+">"+dst[strings.LastIndexByte(dst, ':')+1:], ":")
	rest = numbers.ReplaceAllStringFunc(rest, func(s string) string {
		n, _ := strconv.ParseUint(s[4:], 10, 32)
		key := src + dst
		if s[:3] == "ack" {
			key = dst + src
		}
		if _, ok := p.first[key]; !ok || strings.HasPrefix(rest, "S ") {
			p.first[key] = uint32(n)
		}
		return s[:4] + fmt.Sprint(uint32(n)-p.first[key])
	})
	line = fmt.Sprint(at.Duration(), " ", line, " ", rest)
	if side == flow.Inside {
		p.inside = append(p.inside, line)
	} else {
		p.outside = append(p.outside, line)
	}
}

// play runs one Traffic through a node with so many ports and one host, for a while.
func play(t testing.TB, tr whatif.Traffic, ports int, p snat.Policy, until time.Duration) (whatif.Counts, *tape) {
	t.Helper()
	n, hosts := newNAT(t, ports, p)
	tr.Name = "test"
	def := tr.To == nil
	if def {
		tr.To = []whatif.Destination{internet}
	}
	if tr.Rate.PerHost == 0 {
		tr.Rate = whatif.Rate{PerHost: 1e-3, Even: true, Bursts: []whatif.Burst{{Length: time.Second, Factor: 1000}}} // one, at 1 s
	}
	got := &tape{t: t, first: make(map[string]uint32)}
	s := newSimulation(t, whatif.Config{World: n, Hosts: hosts, Workload: whatif.Workload{Traffic: []whatif.Traffic{tr}}, Packets: got.packet})
	s.Advance(until)
	r := s.Result()
	assert.Equal(t, r.Traffic[0].Conversations, r.Total.Conversations)
	assert.Zero(t, n.Stats().OutOfWindow, "segments that fit their connection")
	assert.Zero(t, n.Stats().BadChecksum)
	counts := r.Traffic[0]
	counts.Name = ""
	return counts, got
}

// Each class puts on the wire what its documentation says: a connection's segments acknowledge each
// other exactly, probes come between, and ends are as chosen.
func TestClasses(t *testing.T) {
	handshake := []string{
		"1s 32768>443 S seq=0 len=0",
		"1.02s 443>32768 SA seq=0 ack=1 len=0",
		"1.02s 32768>443 A seq=1 ack=1 len=0",
		"1.02s 32768>443 PA seq=1 ack=1 len=200",
	}
	answer := append(handshake, "1.04s 443>32768 PA seq=1 ack=201 len=1000", "1.04s 32768>443 A seq=201 ack=1001 len=0")
	done := whatif.Counts{Arrivals: 1, Conversations: 1, Established: 1, Exchanges: 1, Completed: 1}
	with := func(c whatif.Counts, change func(*whatif.Counts)) whatif.Counts { change(&c); return c }
	for _, x := range []struct {
		name  string
		class whatif.Class
		want  []string
		count whatif.Counts
	}{
		{"client closes", whatif.Class{}, append(answer[:6:6],
			"1.04s 32768>443 FA seq=201 ack=1001 len=0",
			"1.06s 443>32768 FA seq=1001 ack=202 len=0",
			"1.06s 32768>443 A seq=202 ack=1002 len=0",
		), done},
		{"server closes after the second of two", whatif.Class{End: whatif.ServerCloses, Requests: 2, Pause: time.Second, Think: 30 * time.Millisecond, RTT: 40 * time.Millisecond, RequestBytes: 7, AnswerBytes: 1440}, []string{
			"1s 32768>443 S seq=0 len=0",
			"1.04s 443>32768 SA seq=0 ack=1 len=0",
			"1.04s 32768>443 A seq=1 ack=1 len=0",
			"1.04s 32768>443 PA seq=1 ack=1 len=7",
			"1.11s 443>32768 PA seq=1 ack=8 len=1440",
			"1.11s 32768>443 A seq=8 ack=1441 len=0",
			"2.11s 32768>443 PA seq=8 ack=1441 len=7",
			"2.18s 443>32768 FPA seq=1441 ack=15 len=1440",
			"2.18s 32768>443 FA seq=15 ack=2882 len=0",
			"2.22s 443>32768 A seq=2882 ack=16 len=0",
		}, with(done, func(c *whatif.Counts) { c.Exchanges = 2 })},
		{"client resets", whatif.Class{End: whatif.ClientResets}, append(answer[:6:6], "1.04s 32768>443 RA seq=201 ack=1001 len=0"), done},
		{"abandoned", whatif.Class{End: whatif.Abandoned}, answer, with(done, func(c *whatif.Counts) { c.Completed, c.Abandoned = 0, 1 })},
		{"keep-alive in a long pause", whatif.Class{Requests: 2, Pause: 50 * time.Second, KeepAlive: 20 * time.Second, End: whatif.ClientResets}, append(answer[:6:6],
			"21.04s 32768>443 A seq=200 ack=1001 len=0",
			"21.06s 443>32768 A seq=1001 ack=201 len=0",
			"41.06s 32768>443 A seq=200 ack=1001 len=0",
			"41.08s 443>32768 A seq=1001 ack=201 len=0",
			"51.04s 32768>443 PA seq=201 ack=1001 len=200",
			"51.06s 443>32768 PA seq=1001 ack=401 len=1000",
			"51.06s 32768>443 A seq=401 ack=2001 len=0",
			"51.06s 32768>443 RA seq=401 ack=2001 len=0",
		), with(done, func(c *whatif.Counts) { c.Exchanges = 2 })},
		{"retries of what nobody answers", whatif.Class{Unanswered: 1, ConnectTimeout: 5 * time.Second, Retry: whatif.Retry{Attempts: 2, Backoff: 2 * time.Second, Factor: 3}}, []string{
			"1s 32768>443 S seq=0 len=0", "2s 32768>443 S seq=0 len=0", "4s 32768>443 S seq=0 len=0", // over at 6 s
			"8s 32769>443 S seq=0 len=0", "9s 32769>443 S seq=0 len=0", "11s 32769>443 S seq=0 len=0", // 13 s
			"19s 32770>443 S seq=0 len=0", "20s 32770>443 S seq=0 len=0", "22s 32770>443 S seq=0 len=0",
		}, whatif.Counts{Arrivals: 1, Conversations: 3, Retries: 2, Failed: 3}},
		{"a connection of a pool that the server closes", whatif.Class{Kind: whatif.Pool, PoolIdle: 3 * time.Second, KeepAlive: 2 * time.Second, End: whatif.ServerCloses}, append(answer[:6:6],
			"3.04s 32768>443 A seq=200 ack=1001 len=0",
			"3.06s 443>32768 A seq=1001 ack=201 len=0",
			"4.05s 443>32768 FA seq=1001 ack=201 len=0",
			"4.05s 32768>443 FA seq=201 ack=1002 len=0",
			"4.07s 443>32768 A seq=1002 ack=202 len=0",
		), done},
		{"lookup", whatif.Class{Kind: whatif.Lookup, RequestBytes: 40, AnswerBytes: 90}, []string{"1s 32768>443 len=40", "1.02s 443>32768 len=90"}, done},
		{"lookup without answer", whatif.Class{Kind: whatif.Lookup, Unanswered: 1}, []string{"1s 32768>443 len=200", "6s 32768>443 len=200"}, whatif.Counts{Arrivals: 1, Conversations: 1, Failed: 1}},
		{"media", whatif.Class{Kind: whatif.Media, Interval: 20 * time.Millisecond, Duration: 60 * time.Millisecond, AnswerBytes: 300}, []string{
			"1s 32768>443 len=200",
			"1.02s 443>32768 len=300", "1.02s 32768>443 len=200",
			"1.04s 443>32768 len=300", "1.04s 32768>443 len=200",
		}, with(done, func(c *whatif.Counts) { c.Exchanges = 0 })},
	} {
		t.Run(x.name, func(t *testing.T) {
			got, tape := play(t, whatif.Traffic{Class: x.class}, 64, snat.Policy{}, time.Minute*2)
			assert.Equal(t, x.want, tape.inside)
			for i, l := range tape.outside { // the same, by the outside port
				assert.Equal(t, strings.NewReplacer("32768", "1024", "32769", "1025", "32770", "1026").Replace(x.want[i]), l)
			}
			assert.Equal(t, x.count, got)
		})
	}
}

// Requests that come together share what a pool has: two connections, and a third request waits for
// the first that is free; the next one takes the connection that was used last.
func TestPool(t *testing.T) {
	c, tape := play(t, whatif.Traffic{
		Rate:  whatif.Rate{PerHost: 1e-3, Even: true, Bursts: []whatif.Burst{{At: time.Second, Length: 30 * time.Millisecond, Factor: 1e5}, {At: 5 * time.Second, Length: time.Second, Factor: 1e3}}},
		Class: whatif.Class{Kind: whatif.Pool, PoolSize: 2, PoolIdle: 10 * time.Second},
	}, 64, snat.Policy{}, time.Minute)
	assert.Equal(t, whatif.Counts{Arrivals: 4, Waited: 1, Conversations: 2, Established: 2, Exchanges: 4, Completed: 2}, c)
	var requests []string
	for _, l := range tape.inside {
		if strings.Contains(l, "len=200") {
			requests = append(requests, strings.Join(strings.Fields(l)[:2], " "))
		}
	}
	assert.Equal(t, []string{"1.02s 32768>443", "1.03s 32769>443", "1.04s 32768>443", "5.99s 32768>443"}, requests)
}

// A host's cache answers what it knows, until the answer is too old.
func TestCache(t *testing.T) {
	for ttl, want := range map[time.Duration]uint64{0: 100, 10 * time.Second: 20, 250 * time.Second: 2} { // each answer is for 5 questions, one every 2 s
		c, _ := play(t, whatif.Traffic{
			Rate: whatif.Rate{PerHost: 0.5, Even: true}, Class: whatif.Class{Kind: whatif.Lookup, CacheTTL: ttl, Names: 1},
		}, 64, snat.Policy{}, 201*time.Second)
		if ttl == 250*time.Second {
			want = 1
		}
		assert.InDelta(t, want, c.Conversations, 4, "%v", ttl)
		assert.Equal(t, c.Arrivals, c.Conversations+c.Cached)
	}
}

// The ninth connection to one destination through eight ports is refused: its SYN comes again
// until the client gives up or a port is free, and all is counted.
func TestRefusals(t *testing.T) {
	n, hosts := newNAT(t, 8, snat.Policy{Timeouts: flow.Timeouts{TCPReset: 2 * time.Second}})
	s := newSimulation(t, whatif.Config{World: n, Hosts: hosts, Workload: whatif.Workload{Traffic: []whatif.Traffic{{
		Name: "storm", To: []whatif.Destination{internet}, Rate: whatif.Rate{Total: 100, Even: true, Bursts: []whatif.Burst{{At: 100 * time.Millisecond, Length: time.Hour}}},
		Class: whatif.Class{Requests: 2, Pause: 4500 * time.Millisecond, End: whatif.ClientResets, ConnectTimeout: 8 * time.Second},
	}}}})
	s.Advance(time.Minute)
	r := s.Result()
	// Ten come at 0.01 .. 0.1 s; the first eight have their ports until 4.6 and then 2 s. The
	// others try at 0, 1, 3 and 7 s.
	assert.Equal(t, whatif.Counts{
		Name: "storm", Arrivals: 10, Conversations: 10, Established: 10, Exchanges: 20, Completed: 10,
		RefusedPackets: 6, Refused: 2, FirstRefused: 90 * time.Millisecond,
	}, r.Traffic[0])
	assert.Equal(t, []whatif.Refusal{{Reason: flow.ReasonPorts, Packets: 6, First: 90 * time.Millisecond}}, r.Refusals)
	assert.InDelta(t, 0.2, r.Total.RefusedShare(), 1e-9)
	assert.EqualValues(t, 6, r.OutboundDropped)
	assert.Equal(t, 8, r.Nodes[0].Peak)
	assert.InDelta(t, 1, r.Nodes[0].Share(), 1e-9)
}

// A connection that rests longer than the idle timeout is cut where the world resets it, and
// broken where it forgets it; a keep-alive prevents both. Those who try again do it all again.
func TestIdle(t *testing.T) {
	class := whatif.Class{Requests: 2, Pause: 5 * time.Minute, Retry: whatif.Retry{Attempts: 1}}
	cut, _ := play(t, whatif.Traffic{Class: class}, 64, snat.Policy{EnableTCPReset: true}, time.Hour)
	assert.Equal(t, whatif.Counts{Arrivals: 4, Conversations: 8, Retries: 4, Established: 8, Exchanges: 8, Cut: 8}, cut)
	broken, _ := play(t, whatif.Traffic{Class: class}, 64, snat.Policy{}, time.Hour+time.Minute)
	assert.Equal(t, whatif.Counts{Arrivals: 4, Conversations: 8, Retries: 4, Established: 8, Exchanges: 8, Broken: 8}, broken)
	class.KeepAlive = 3 * time.Minute
	alive, _ := play(t, whatif.Traffic{Class: class}, 64, snat.Policy{EnableTCPReset: true}, time.Hour)
	assert.Equal(t, whatif.Counts{Arrivals: 4, Conversations: 4, Established: 4, Exchanges: 8, Completed: 4}, alive)
	// One that is cut in its pool is gone, and the next request opens another.
	pool, _ := play(t, whatif.Traffic{Class: whatif.Class{Kind: whatif.Pool, PoolIdle: time.Hour}}, 64, snat.Policy{EnableTCPReset: true}, time.Hour)
	assert.Equal(t, whatif.Counts{Arrivals: 4, Conversations: 4, Established: 4, Exchanges: 4, Cut: 4}, pool)
}

// An attempt that nobody has answered and that its host has given up is not abandoned: its port is free half a
// minute later, whatever the idle timeout, and there is nothing to close.
func TestGivenUp(t *testing.T) {
	n, hosts := newNAT(t, 64, snat.Policy{IdleTimeout: 30 * time.Minute})
	s := newSimulation(t, whatif.Config{World: n, Hosts: hosts, Workload: whatif.Workload{Traffic: []whatif.Traffic{{
		Name: "down", To: []whatif.Destination{internet}, Rate: whatif.Rate{Total: 1, Even: true, Bursts: []whatif.Burst{{At: 10 * time.Second, Length: time.Hour}}},
		Class: whatif.Class{Unanswered: 1, ConnectTimeout: 2 * time.Second},
	}}}})
	s.Advance(20 * time.Second)
	m := s.Moment()
	assert.Equal(t, m.Total.Conversations, m.Total.Failed)
	assert.NotZero(t, m.Uses.Busy)
	assert.Zero(t, m.Uses.Abandoned)
	s.Advance(time.Minute)
	assert.Zero(t, s.Moment().Uses.Ports)
}

// A workload of all classes at once, over IPv4 and IPv6.
func everything(seed uint64) whatif.Workload {
	to := []whatif.Destination{internet, {Addr: netip.MustParseAddrPort("[2001:db8::9]:443"), Addresses: 3, Weight: 2}}
	return whatif.Workload{Seed: seed, Traffic: []whatif.Traffic{
		{Name: "web", To: to, Rate: whatif.Rate{PerHost: 0.5}, Class: whatif.Class{Requests: 3, Pause: time.Second}},
		{Name: "server", To: to, Rate: whatif.Rate{Total: 2, Daily: []float64{1, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}}, Class: whatif.Class{End: whatif.ServerCloses}},
		{Name: "leak", From: whatif.Selector{Pods: "web", Count: 3}, To: to, Rate: whatif.Rate{PerHost: 0.3}, Class: whatif.Class{End: whatif.Abandoned}},
		{Name: "idle", From: whatif.Selector{Pods: "web-1"}, To: to, Rate: whatif.Rate{PerHost: 0.1}, Class: whatif.Class{Requests: 2, Pause: 6 * time.Minute, Retry: whatif.Retry{Attempts: 3}}},
		{Name: "pool", To: to, Rate: whatif.Rate{PerHost: 2}, Class: whatif.Class{Kind: whatif.Pool, Think: 200 * time.Millisecond, PoolSize: 2, PoolIdle: 5 * time.Second, KeepAlive: 2 * time.Second}},
		{Name: "dns", To: to, Rate: whatif.Rate{PerHost: 1}, Class: whatif.Class{Kind: whatif.Lookup, CacheTTL: 30 * time.Second, Unanswered: 0.05, Retry: whatif.Retry{Attempts: 1}}},
		{Name: "media", To: to, Rate: whatif.Rate{Total: 0.05}, Class: whatif.Class{Kind: whatif.Media, Interval: 100 * time.Millisecond, Duration: 20 * time.Second}},
		{Name: "storm", To: to, Rate: whatif.Rate{PerHost: 0.1, Bursts: []whatif.Burst{{At: time.Minute, Length: 10 * time.Second, Every: 2 * time.Minute, Factor: 50}}}, Class: whatif.Class{Unanswered: 0.3, Retry: whatif.Retry{Attempts: 5, Factor: 2}, End: whatif.ClientResets}},
	}}
}

// small is a cluster of two nodes with few ports.
func small() overlay.ClusterConfig {
	return overlay.ClusterConfig{
		IPFamilies: "ipv4,ipv6", NodePools: []overlay.NodePool{{Count: 2}},
		LoadBalancerProfile: overlay.LoadBalancerProfile{AllocatedOutboundPorts: 128, ManagedOutboundIPCount: 1, IdleTimeout: 4 * time.Minute},
	}
}

// The same seed gives the same result, whatever runs at once and in however many pieces; another
// seed another one. What arrives in one Traffic does not depend on the others.
func TestDeterminism(t *testing.T) {
	pkttest.OneGoroutine(t)
	result := func(w whatif.Workload, pieces int) *whatif.Result {
		c := newCluster(t, small(), 8)
		s := newSimulation(t, whatif.Config{World: c, Hosts: whatif.Pods(c), Workload: w})
		for i := range pieces {
			s.Advance(10 * time.Minute * time.Duration(i+1) / time.Duration(pieces))
			s.Result() // changes nothing
		}
		r := s.Result()
		assert.Zero(t, c.Stats().OutOfWindow)
		assert.Zero(t, c.Stats().BadChecksum)
		assert.Zero(t, c.Stats().Faults)
		return r
	}
	one := result(everything(1), 1)
	for _, n := range []int{1, 4} {
		before := runtime.GOMAXPROCS(n)
		assert.Equal(t, one, result(everything(1), 7))
		runtime.GOMAXPROCS(before)
	}
	assert.NotEqual(t, one, result(everything(2), 1))
	fewer := everything(1)
	fewer.Traffic = fewer.Traffic[:2]
	assert.Equal(t, one.Traffic[1].Arrivals, result(fewer, 1).Traffic[1].Arrivals)

	for _, c := range one.Traffic {
		assert.NotZero(t, c.Exchanges+c.Established, c.Name)
	}
	assert.NotZero(t, one.Total.Refused)
	assert.NotZero(t, one.Total.Cut)
	assert.NotZero(t, one.Peak.Abandoned)
	assert.NotZero(t, one.Peak.HeldFIN)
	assert.NotZero(t, one.Peak.UDPWaiting)
	assert.NotEmpty(t, one.Stranded)
	assert.Len(t, one.Nodes, 8) // two nodes, families and protocols
}

// All numbers of conversations come out even: each begins for an arrival or a retry and has one
// end, or is under way.
func TestBalance(t *testing.T) {
	pkttest.OneGoroutine(t)
	for seed := range uint64(5) {
		c := newCluster(t, small(), 8)
		w := everything(seed)
		for i := range w.Traffic { // until then, and no more
			w.Traffic[i].Rate.Bursts = append(w.Traffic[i].Rate.Bursts, whatif.Burst{At: 8 * time.Minute, Length: 24 * time.Hour})
		}
		s := newSimulation(t, whatif.Config{World: c, Hosts: whatif.Pods(c), Workload: w, SampleInterval: time.Hour})
		s.Advance(8 * time.Minute)
		half := s.Result().Total
		s.Advance(2 * time.Hour)
		r := s.Result()
		assert.Equal(t, half.Arrivals, r.Total.Arrivals)
		for _, c := range r.Traffic {
			assert.Equal(t, c.Conversations, c.Completed+c.Abandoned+c.Failed+c.Cut+c.Broken, "%+v", c)
			if c.Name != "pool" {
				assert.Equal(t, c.Arrivals, c.Conversations-c.Retries+c.Cached, "%+v", c)
			}
		}
		open, due := whatif.Open(s)
		assert.Zero(t, open, "conversations that are open")
		assert.Zero(t, due)
		assert.Zero(t, c.Stats().SessionsActive)
	}
}

// A rate is what it says, on average, by the hour of the day and in bursts; hosts and destinations
// have their shares.
func TestRates(t *testing.T) {
	pkttest.OneGoroutine(t)
	arrivals := func(r whatif.Rate, from, to time.Duration) float64 {
		n, hosts := newNAT(t, 1024, snat.Policy{})
		s := newSimulation(t, whatif.Config{World: n, Hosts: hosts, Workload: whatif.Workload{Traffic: []whatif.Traffic{{
			Name: "x", To: []whatif.Destination{internet}, Rate: r, Class: whatif.Class{Kind: whatif.Lookup, CacheTTL: 24 * time.Hour, Names: 1},
		}}}})
		s.Advance(from)
		before := s.Result().Total.Arrivals
		s.Advance(to)
		return float64(s.Result().Total.Arrivals - before)
	}
	day := make([]float64, 24)
	day[0], day[1], day[23] = 1, 3, 2
	for _, even := range []bool{false, true} {
		precise := 0.05
		if even {
			precise = 0.001
		}
		assert.InEpsilon(t, 5000, arrivals(whatif.Rate{PerHost: 10, Even: even}, 100*time.Second, 600*time.Second), precise)
		daily := whatif.Rate{Total: 2, Daily: day, Even: even}
		assert.InEpsilon(t, 2*3600*2, arrivals(daily, 0, time.Hour), precise)
		assert.InEpsilon(t, 2*3600*1.5, arrivals(daily, time.Hour, 2*time.Hour), precise)
		assert.Zero(t, arrivals(daily, 2*time.Hour+time.Minute, 22*time.Hour))
		assert.InEpsilon(t, 2*3600*(1+1.5), arrivals(daily, 22*time.Hour, 24*time.Hour), precise) // 0 to 2, 2 to 1
		bursts := whatif.Rate{Total: 2, Even: even, Bursts: []whatif.Burst{{At: time.Minute, Length: time.Second, Every: 10 * time.Second, Factor: 500}}}
		assert.InEpsilon(t, 60*1000+540*2, arrivals(bursts, time.Minute, 11*time.Minute), precise)
	}
}

// Destinations get connections by weight, and their addresses alike; hosts of a group and a number
// are the first.
func TestShares(t *testing.T) {
	pkttest.OneGoroutine(t)
	c := newCluster(t, overlay.ClusterConfig{NodePools: []overlay.NodePool{{Count: 1}}, Timeouts: flow.Timeouts{UDP: time.Second, UDPReplied: time.Second}}, 6)
	got := map[string]int{}
	s := newSimulation(t, whatif.Config{World: c, Hosts: whatif.Pods(c), Workload: whatif.Workload{Traffic: []whatif.Traffic{{
		Name: "x", From: whatif.Selector{Pods: "web", Count: 4}, Rate: whatif.Rate{PerHost: 50},
		To:    []whatif.Destination{{Addr: netip.MustParseAddrPort("203.0.112.255:53"), Addresses: 2, Weight: 3}, {Addr: netip.MustParseAddrPort("203.0.113.9:53")}},
		Class: whatif.Class{Kind: whatif.Lookup},
	}}}, Packets: func(_ flow.Time, side flow.Side, pkt []byte) {
		if side == flow.Inside && pkt[16] == 203 {
			got[netip.AddrFrom4([4]byte(pkt[16:20])).String()]++
			got[netip.AddrFrom4([4]byte(pkt[12:16])).String()]++
		}
	}})
	s.Advance(100 * time.Second)
	assert.Len(t, got, 7)
	for name, want := range map[string]int{"203.0.112.255": 7500, "203.0.113.0": 7500, "203.0.113.9": 5000, "10.244.0.2": 5000, "10.244.0.5": 5000} {
		assert.InEpsilon(t, want, got[name], 0.05, name)
	}
}

// A host that has given all its ephemeral ports to open connections fails to begin another one.
func TestEphemeralPorts(t *testing.T) {
	pkttest.OneGoroutine(t)
	n, hosts := newNAT(t, 1024, snat.Policy{IdleTimeout: 2 * time.Hour})
	s := newSimulation(t, whatif.Config{World: n, Hosts: hosts, Workload: whatif.Workload{Traffic: []whatif.Traffic{{
		Name:  "x",
		To:    []whatif.Destination{{Addr: internet.Addr, Addresses: 1000}},
		Rate:  whatif.Rate{PerHost: 1000, Even: true},
		Class: whatif.Class{Requests: 2, Pause: time.Hour},
	}}}})
	s.Advance(29 * time.Second)
	c := s.Result().Total
	assert.EqualValues(t, c.Conversations-28232, c.NoPort)
	assert.Equal(t, c.NoPort, c.Failed)
	assert.NotZero(t, c.NoPort)
}

// What is over leaves no memory behind: after a million packets there are records for what goes on at
// once, and no more.
func TestMemory(t *testing.T) {
	pkttest.OneGoroutine(t)
	n, hosts := newNAT(t, 1024, snat.Policy{Timeouts: flow.Timeouts{TCPTimeWait: time.Second, TCPClosing: time.Second}})
	s := newSimulation(t, whatif.Config{World: n, Hosts: hosts, SampleInterval: 24 * time.Hour, Workload: whatif.Workload{Traffic: []whatif.Traffic{{
		Name: "x", To: []whatif.Destination{internet}, Rate: whatif.Rate{Total: 500},
	}}}})
	s.Advance(4 * time.Minute)
	r := s.Result()
	assert.Greater(t, r.Outbound+r.Inbound, uint64(1_000_000))
	assert.Less(t, whatif.Records(s), 200)
	open, due := whatif.Open(s)
	assert.Less(t, open, 200)
	assert.Less(t, due, 200)
}

// What is wrong with the packet that fills a batch ends its conversation once, as for any other: many that the
// NAT has forgotten send a probe, or a RST, at the same time.
func TestFullBatches(t *testing.T) {
	const many = 1000
	for name, class := range map[string]whatif.Class{
		"probes": {Requests: 2, Pause: 10 * time.Minute, KeepAlive: 5 * time.Minute},
		"resets": {Kind: whatif.Pool, PoolSize: many, PoolIdle: 5 * time.Minute, End: whatif.ClientResets},
		"FINs":   {Kind: whatif.Pool, PoolSize: many, PoolIdle: 5 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			n, hosts := newNAT(t, 2048, snat.Policy{IdleTimeout: 4 * time.Minute})
			s := newSimulation(t, whatif.Config{World: n, Hosts: hosts, Step: time.Second, Workload: whatif.Workload{Traffic: []whatif.Traffic{{
				Name: "x", To: []whatif.Destination{internet}, Class: class,
				Rate: whatif.Rate{Total: 1, Even: true, Bursts: []whatif.Burst{{Length: time.Second, Factor: many}, {At: time.Second, Length: time.Hour}}},
			}}}})
			s.Advance(time.Hour)
			c := s.Result().Total
			assert.InDelta(t, many, c.Conversations, 1)
			assert.Zero(t, c.Refused)
			assert.Equal(t, c.Conversations, c.Completed+c.Broken, "%+v", c)
			open, due := whatif.Open(s)
			assert.Equal(t, []int{0, 0}, []int{open, due}, "conversations that are open, and due")
		})
	}
}

// A RST for a connection that its host has abandoned does not cut a later one from the same port, and
// the flow still counts as abandoned.
func TestPortAgain(t *testing.T) {
	pkttest.OneGoroutine(t)
	n, hosts := newNAT(t, 1024, snat.Policy{EnableTCPReset: true})
	const ephemerals = 28232
	s := newSimulation(t, whatif.Config{World: n, Hosts: hosts, SampleInterval: time.Minute, Workload: whatif.Workload{Traffic: []whatif.Traffic{
		{
			Name: "leak", To: []whatif.Destination{{Addr: internet.Addr, Addresses: 1000}}, Class: whatif.Class{End: whatif.Abandoned},
			Rate: whatif.Rate{Total: 1000, Even: true, Bursts: []whatif.Burst{{At: ephemerals*time.Millisecond + 500*time.Microsecond, Length: 24 * time.Hour}}},
		},
		{
			Name: "alive", To: []whatif.Destination{{Addr: netip.MustParseAddrPort("198.51.100.99:443")}}, Class: whatif.Class{Requests: 2, Pause: 20 * time.Minute, KeepAlive: time.Minute},
			Rate: whatif.Rate{Total: 1e-3, Even: true, Bursts: []whatif.Burst{{At: time.Minute, Length: time.Second, Factor: 1000}, {At: 2 * time.Minute, Length: 24 * time.Hour}}},
		},
	}}})
	s.Advance(2 * time.Minute)
	assert.Equal(t, ephemerals, s.Result().Peak.Abandoned)
	s.Advance(30 * time.Minute)
	r := s.Result()
	assert.EqualValues(t, ephemerals, r.Traffic[0].Abandoned)
	assert.EqualValues(t, ephemerals, r.Resets)
	assert.EqualValues(t, 1, r.Traffic[1].Completed)
	assert.Zero(t, r.Total.Cut)
}
