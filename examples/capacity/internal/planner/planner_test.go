package planner

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/examples/capacity/internal/answer"
	"github.com/seed-a61be3fe/natplane/examples/internal/command"
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/snat"
)

var update = flag.Bool("update", false, "write golden files anew")

// capacity runs the command and returns what it printed.
func capacity(t testing.TB, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, complaints bytes.Buffer
	status = Command{}.Run(t.Context(), args, &out, &complaints)
	return status, out.String(), complaints.String()
}

// decoded runs the command with -json, which must succeed and print one object.
func decoded(t testing.TB, args ...string) (d *answer.Answer) {
	t.Helper()
	status, stdout, stderr := capacity(t, append(args, "-json")...)
	require.Zero(t, status, stderr)
	assert.Empty(t, stderr)
	d, err := answer.ReadJSON(strings.NewReader(stdout))
	require.NoError(t, err)
	return d
}

// watched skips a test that takes minutes where every step is watched.
func watched(t *testing.T) {
	t.Helper()
	if pkttest.Short() {
		t.Skip("takes minutes where every step is watched; TestDeterminism runs the same goroutines")
	}
}

// The story teaches what it is for, and fits a screen of 80 columns without colours.
func TestStory(t *testing.T) {
	watched(t)
	t.Setenv("COLUMNS", "80")
	status, stdout, stderr := capacity(t)
	require.Zero(t, status, stderr)
	assert.Empty(t, stderr)
	const golden = "testdata/story.txt"
	if *update {
		require.NoError(t, os.WriteFile(golden, []byte(stdout), 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	assert.Equal(t, string(want), stdout, "go test -update writes it anew")
	for line := range strings.Lines(stdout) {
		assert.LessOrEqual(t, utf8.RuneCountInString(strings.TrimSuffix(line, "\n")), 80, line)
		assert.NotContains(t, line, "\x1b")
	}
}

// The same flags print the same bytes on one core and on many; another seed prints others.
func TestDeterminism(t *testing.T) {
	run := func(cores int, seed string) string {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cores))
		status, stdout, stderr := capacity(t, "-until", "5m", "-sweep", "ports=auto,64,256 idle=4m", "-recommend", "-seed", seed, "-json")
		require.Zero(t, status, stderr)
		return stdout
	}
	one := run(1, "7")
	for _, cores := range []int{2, 8} {
		assert.Equal(t, one, run(cores, "7"))
	}
	assert.NotEqual(t, one, run(2, "8"))
}

// What the object says hangs together, and the lines of -csv say the same.
func TestReportsForPrograms(t *testing.T) {
	watched(t)
	args := []string{"-until", "10m", "-scale", "nodepool1=2", "-sweep", "ips=2,100 ports=64,64000", "-recommend", "-headroom", "50"}
	d := decoded(t, args...)
	assert.True(t, d.Complete)
	assert.Equal(t, map[string]int{"nodepool1": 2}, d.Settings.Scale)
	assert.Equal(t, []any{2, 30, "loadBalancer", 1, 1024, 1800.0}, []any{d.Cluster.Nodes, d.Cluster.Pods, d.Cluster.OutboundType, d.Cluster.IPs, d.Cluster.PortsPerNode, d.Cluster.IdleSeconds})
	assert.Zero(t, d.AsItIs.Total.Refused)
	assert.Len(t, d.AsItIs.Traffic, 5)
	assert.Len(t, d.AsItIs.Nodes, 4, "of two protocols")
	require.Len(t, d.Sweep, 4)
	assert.Equal(t, "ips=2 ports=64", d.Sweep[0].Setting)
	assert.NotZero(t, d.Sweep[0].Result.Total.Refused)
	assert.NotZero(t, d.Sweep[0].Result.Total.FirstRefusedSeconds)
	assert.InDelta(t, 1, d.Sweep[0].Result.PeakShare, 0)
	assert.Contains(t, d.Sweep[1].Error, "192000 ports")
	assert.Nil(t, d.Sweep[1].Result)
	assert.Zero(t, d.Sweep[3].Result.Total.Refused)
	r := d.Recommendation
	require.NotNil(t, r)
	assert.Zero(t, r.Result.Total.Refused)
	assert.NotZero(t, r.Refusing.Total.Refused)
	assert.Less(t, r.LeastPorts, r.PortsPerNode)
	assert.LessOrEqual(t, r.Result.PeakShare, 0.5)
	assert.Contains(t, r.Command, "--load-balancer-managed-outbound-ip-count 1 --load-balancer-outbound-ports ")
	assert.Equal(t, []any{600.0, 600.0, 0.0}, []any{r.IdleSeconds, r.ShortestIdleSeconds, r.TooLongIdleSeconds})
	again := decoded(t, "-until", "10m", "-scale", "nodepool1=2", "-sweep", fmt.Sprintf("ips=1 ports=%d idle=4m,30m", r.PortsPerNode))
	assert.NotZero(t, again.Sweep[0].Result.Total.Ended(), "a shorter one cuts")
	assert.Equal(t, r.Result.Total, again.Sweep[1].Result.Total, "what is longer does not show")

	status, stdout, stderr := capacity(t, append(args, "-csv")...)
	require.Zero(t, status, stderr)
	lines, err := csv.NewReader(strings.NewReader(stdout)).ReadAll()
	require.NoError(t, err)
	require.Len(t, lines, 1+1+4+1)
	assert.Equal(t, []string{"as it is", d.Sweep[0].Setting}, []string{lines[1][0], lines[2][0]})
	assert.Equal(t, lines[3][len(lines[0])-1], d.Sweep[1].Error)
	assert.Contains(t, lines[6][0], "recommended ips=1 ports=")
	assert.Equal(t, "0", lines[6][2])
}

// Cuts are recommended to those only who accept them, and then told.
func TestAcceptCuts(t *testing.T) {
	watched(t)
	t.Setenv("COLUMNS", "200")
	args := []string{"-until", "20m", "-recommend"}
	d := decoded(t, args...)
	require.NotNil(t, d.Recommendation)
	assert.Equal(t, []any{600.0, uint64(0)}, []any{d.Recommendation.IdleSeconds, d.Recommendation.Result.Total.Cut})
	args = append(args, "-accept-cuts")
	d = decoded(t, args...)
	require.NotNil(t, d.Recommendation)
	assert.Equal(t, 240.0, d.Recommendation.IdleSeconds)
	assert.NotZero(t, d.Recommendation.Result.Total.Cut)
	status, stdout, stderr := capacity(t, args...)
	require.Zero(t, status, stderr)
	assert.Regexp(t, `Mind .* conversations cut or broken after an idle timeout, as it is 0`, stdout)
}

// What a NAT forgets without a RST is told as well as what it cuts.
func TestBroken(t *testing.T) {
	pkttest.OneGoroutine(t)
	t.Setenv("COLUMNS", "80")
	site := builtIn()
	site.Config.LoadBalancerProfile.IdleTimeout, site.Config.LoadBalancerProfile.DisableTCPReset = 4*time.Minute, true
	c := Command{
		Cluster:  func([]string) (*Site, error) { return site, nil },
		Workload: func(string) (*Traffic, error) { return &Traffic{Workload: builtInWorkload()}, nil },
	}
	var out, complaints bytes.Buffer
	status := c.Run(t.Context(), []string{"-cluster", "a", "-workload", "b", "-until", "20m", "-sweep", "idle=4m,10m"}, &out, &complaints)
	require.Zero(t, status, complaints.String())
	assert.Regexp(t, `setting +refused +share +peak +cut +broken`, out.String())
	assert.Regexp(t, `idle=4m +0 +0 % +\d+ % +0 +[1-9]`, out.String())
	assert.Regexp(t, `idle=10m +0 +0 % +\d+ % +0 +0`, out.String())
	assert.Contains(t, out.String(), "said nothing for 4m")
}

// What cannot be is told once, below the table.
func TestImpossibleSettings(t *testing.T) {
	t.Setenv("COLUMNS", "80")
	status, stdout, stderr := capacity(t, "-until", "1m", "-sweep", "ports=64000 idle=4m,5m")
	require.Zero(t, status, stderr)
	assert.Equal(t, 1, strings.Count(stdout, "InsufficientOutboundPorts"))
	assert.Contains(t, stdout, "OTHER SETTINGS  (0 of 2 refuse nothing)")
	for line := range strings.Lines(stdout) {
		assert.LessOrEqual(t, utf8.RuneCountInString(strings.TrimSuffix(line, "\n")), 80, line)
	}
}

// Where no setting does it is said why.
func TestNoSetting(t *testing.T) {
	t.Setenv("COLUMNS", "300")
	site := builtIn()
	site.Config.NetworkPolicy = func(snat.NewFlow) bool { return false }
	c := Command{
		Cluster:  func([]string) (*Site, error) { return site, nil },
		Workload: func(string) (*Traffic, error) { return &Traffic{Workload: builtInWorkload()}, nil },
	}
	for _, format := range []string{"-json", "-csv=false"} {
		var out, complaints bytes.Buffer
		status := c.Run(t.Context(), []string{"-cluster", "a", "-workload", "b", "-until", "1m", "-recommend", format}, &out, &complaints)
		require.Zero(t, status, complaints.String())
		assert.Contains(t, out.String(), "no setting that does: with 64000 ports for each node on 100 outbound IPs")
	}
}

// What fails before any packet leaves is told apart.
func TestEphemeralPorts(t *testing.T) {
	pkttest.OneGoroutine(t)
	trace := filepath.Join(t.TempDir(), "flows.csv")
	var text strings.Builder
	text.WriteString("start,src,dst,port,duration,end\n")
	for range 28_232 + 10 { // more than a pod has ephemeral ports
		text.WriteString("1,10.244.0.2,203.0.113.9,443,1000,open\n")
	}
	require.NoError(t, os.WriteFile(trace, []byte(text.String()), 0o600))
	d := decoded(t, "-trace", trace, "-until", "1m")
	assert.Equal(t, uint64(10), d.AsItIs.Total.NoPort)
	assert.Equal(t, "ephemeral", d.Findings[len(d.Findings)-1].Code)
}

// What of a trace begins after the run is left out, and told.
func TestLongTrace(t *testing.T) {
	trace := filepath.Join(t.TempDir(), "flows.csv")
	require.NoError(t, os.WriteFile(trace, []byte("start,src,dst,port\n0,10.0.0.1,203.0.113.9,443\n1m,10.0.0.1,203.0.113.9,443\n59.9,10.0.0.1,203.0.113.9,443\n2h,10.0.0.1,203.0.113.9,443\n"), 0o600))
	d := decoded(t, "-trace", trace, "-until", "1m")
	assert.Equal(t, uint64(2), d.AsItIs.Total.Conversations)
	assert.Equal(t, []string{"2 conversations: after -until"}, d.Skipped)
}

// It is told that a recommendation changes the addresses that packets leave from.
func TestAddressesGivenUp(t *testing.T) {
	t.Setenv("COLUMNS", "300")
	for text, change := range map[string]func(*overlay.LoadBalancerProfile){
		"":                              func(*overlay.LoadBalancerProfile) {},
		"2 outbound IPs fewer: packets": func(p *overlay.LoadBalancerProfile) { p.ManagedOutboundIPCount = 3 },
		"packets leave from other addresses: managed": func(p *overlay.LoadBalancerProfile) {
			p.ManagedOutboundIPCount, p.OutboundIPs = 0, []netip.Addr{netip.MustParseAddr("20.50.9.9")}
		},
	} {
		site := builtIn()
		change(&site.Config.LoadBalancerProfile)
		c := Command{
			Cluster:  func([]string) (*Site, error) { return site, nil },
			Workload: func(string) (*Traffic, error) { return &Traffic{Workload: builtInWorkload()}, nil },
		}
		var out, complaints bytes.Buffer
		status := c.Run(t.Context(), []string{"-cluster", "a", "-workload", "b", "-until", "1m", "-recommend"}, &out, &complaints)
		require.Zero(t, status, complaints.String())
		if text == "" {
			assert.NotContains(t, out.String(), "Mind")
		} else {
			assert.Regexp(t, `Mind +`+text, out.String())
		}
	}
}

// A trace is had again: of a log as of a capture, whose hosts are those of -inside.
func TestTraces(t *testing.T) {
	const pcap = "../../../egress/testdata/conversations.pcap"
	d := decoded(t, "-trace", pcap, "-inside", "192.0.2.0/24", "-until", "10m")
	assert.NotZero(t, d.AsItIs.Total.Conversations)
	assert.Equal(t, "trace", d.AsItIs.Traffic[0].Name)
	assert.NotEmpty(t, d.Skipped, "IPv6 is not inside")

	status, stdout, stderr := capacity(t, "-trace", pcap)
	assert.Equal(t, 1, status)
	assert.Empty(t, stdout)
	assert.Equal(t, "capacity: -trace "+pcap+": no host begins a conversation in it\ncapacity: left out 939 records: within one side\n", stderr)

	bad := filepath.Join(t.TempDir(), "bad.csv")
	require.NoError(t, os.WriteFile(bad, []byte("start,src,dst,port\nx,10.0.0.1,203.0.113.9,443\n1,10.0.0.1,y,443\n"), 0o600))
	status, stdout, stderr = capacity(t, "-trace", bad)
	assert.Equal(t, 1, status)
	assert.Empty(t, stdout)
	assert.Equal(t, 2, strings.Count(stderr, "capacity: "+bad+":"), stderr)

	six := filepath.Join(t.TempDir(), "six.csv")
	require.NoError(t, os.WriteFile(six, []byte("start,src,dst,port\n1,10.0.0.1,203.0.113.9,443\n2.5,fd00::1,2001:db8::9,443\n"), 0o600))
	status, stdout, stderr = capacity(t, "-trace", six)
	assert.Equal(t, []any{1, ""}, []any{status, stdout})
	assert.Regexp(t, `^capacity: -trace `+six+`: the conversation of fd00::1 with \[2001:db8::9\]:443 at 1.5s: dst \[2001:db8::9\]:443: not the address of a single host: ".*" has no address of that family\n$`, stderr)

	status, _, stderr = capacity(t, "-trace", filepath.Join(t.TempDir(), "none"))
	assert.Equal(t, 1, status)
	assert.Regexp(t, `^capacity: -trace .*none: no such file`, stderr)
}

// Every refused packet is one that a pod, its workload and a destination have suffered, and that one pod and workload
// is to blame for; and what was foretold of ports that ran out had them run out in the range.
func TestHoldings(t *testing.T) {
	watched(t)
	r := &decoded(t, "-until", "45m", "-sweep", "ports=64000").AsItIs
	sums := func(all []answer.Holding) (created, suffered, blamed uint64) {
		for _, h := range all {
			created, suffered, blamed = created+h.Created, suffered+h.Suffered, blamed+h.Blamed
		}
		return created, suffered, blamed
	}
	created, suffered, blamed := sums(r.Groups)
	require.Len(t, r.Refusals, 1)
	assert.Equal(t, []uint64{r.Refusals[0].Packets, r.Refusals[0].Packets}, []uint64{suffered, blamed})
	for _, list := range [][]answer.Holding{r.Hosts, r.Destinations} {
		c, s, _ := sums(list)
		assert.Equal(t, []uint64{created, suffered}, []uint64{c, s})
	}
	_, _, blamed = sums(r.Hosts)
	assert.Equal(t, suffered, blamed)
	require.Len(t, r.Foretold, 3, "one node each")
	for _, f := range r.Foretold {
		assert.Equal(t, "idle connections", f.Cause)
		assert.Less(t, f.SaidSeconds, f.EarliestSeconds)
		assert.True(t, f.EarliestSeconds <= f.ExhaustedSeconds && f.ExhaustedSeconds <= f.LatestSeconds, "%+v", f)
	}
}

// With a warm-up the settings change the cluster while it runs: what was refused before remains, and what cannot be
// changed then is told.
func TestWarmUp(t *testing.T) {
	watched(t)
	warm, whole := decoded(t, "-until", "55m", "-warm-up", "43m", "-sweep", "ports=1024,4096 reuse=off,on"), decoded(t, "-until", "55m", "-sweep", "ports=4096")
	assert.EqualValues(t, 43*60, warm.Settings.WarmUpSeconds)
	assert.Zero(t, whole.Settings.WarmUpSeconds)
	require.Len(t, warm.Sweep, 4)
	same, more := warm.Sweep[0].Result, warm.Sweep[2].Result
	assert.Equal(t, warm.AsItIs.Total, same.Total, "the ports are as they were")
	assert.Zero(t, whole.Sweep[0].Result.Total.Refused)
	assert.Equal(t, same.Total.FirstRefusedSeconds, more.Total.FirstRefusedSeconds, "that was before")
	assert.Positive(t, more.Total.Refused)
	assert.Less(t, more.Total.Refused, same.Total.Refused)
	for _, i := range []int{1, 3} {
		assert.Contains(t, warm.Sweep[i].Error, "cannot change it after a WarmUp")
	}
	_, stdout, _ := capacity(t, "-until", "10m", "-warm-up", "5m", "-sweep", "ports=2048")
	assert.Contains(t, stdout, "OTHER SETTINGS  (1 of 1 refuse nothing, in force after 5m)\n")
}

func TestWrongFlags(t *testing.T) {
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"-until", "0s"}, []string{"-until 0s: must be above 0 and at most 744h"}},
		{[]string{"-until", "745h"}, []string{"-until 745h0m0s: must be above 0 and at most 744h"}},
		{[]string{"-until", "x"}, []string{`invalid value "x" for flag -until: parse error`}},
		{[]string{"-headroom", "91"}, []string{"-headroom 91: must be 0 to 90"}},
		{[]string{"-trace", "a", "-headroom", "5"}, []string{"-headroom: needs -recommend"}},
		{[]string{"-sweep", "ips=1", "-headroom", "5"}, []string{"-headroom: needs -recommend"}},
		{[]string{"-warm-up", "5m"}, []string{"-warm-up: needs -sweep"}},
		{[]string{"-upgrade", "pool=nodepool1 at=11m", "-until", "10m"}, []string{`-upgrade "at=11m": "11m" must be a duration, at least 0s and less than -until`}},
		{[]string{"-upgrade", "pool=nodepool1 at=-1m"}, []string{`-upgrade "at=-1m": "-1m" must be a duration, at least 0s and less than -until`}},
		{[]string{"-upgrade", "pool=nodepool1 at=600m"}, []string{`-upgrade "at=600m": "600m" must be a duration, at least 0s and less than -until`}},
		{[]string{"-upgrade", "pool=nodepool1 at=soon", "-until", "0s"}, []string{"-until 0s: must be above 0 and at most 744h", `-upgrade "at=soon": "soon" must be a duration, at least 0s and less than -until`}},
		{[]string{"-trace", "log.csv", "-html", "log.csv"}, []string{"-html log.csv: it is read as well"}},
		{[]string{"-sweep", "ips=1", "-until", "10m", "-warm-up", "10m"}, []string{"-warm-up 10m0s: must be 0s or more, and less than -until"}},
		{[]string{"-story", "keepalive", "-warm-up", "5m"}, []string{"-warm-up: a story has its own"}},
		{[]string{"-sweep", "ips=1", "-accept-cuts"}, []string{"-accept-cuts: needs -recommend"}},
		{[]string{"-inside", "10.0.0.0/8"}, []string{"-inside: needs -trace"}},
		{[]string{"-trace", "a", "-inside", "10.0.0.0,x"}, []string{`-inside "10.0.0.0": is no CIDR such as 10.0.0.0/8`, `-inside "x": is no CIDR such as 10.0.0.0/8`}},
		{[]string{"-cluster", "a"}, []string{"-cluster: needs -workload or -trace, which say what is sent"}},
		{[]string{"-cluster", ""}, []string{`invalid value "" for flag -cluster: must not be empty`}},
		{[]string{"-cluster", "-", "-workload", "-"}, []string{"-: the standard input can be one file only"}},
		{[]string{"-sweep", "ips=1", "-sweep", "ips=2", "-until", "1m", "-until", "2m"}, []string{`-sweep: is given twice, as "ips=1" and as "ips=2"`, `-until: is given twice, as "1m" and as "2m"`}},
		{[]string{"-json", "-csv"}, []string{"-csv: with -json there is one object"}},
		{[]string{"-scale", "a,b=0,c=1,c=2"}, []string{`-scale "a": must be such as nodepool1=80`, `-scale "b=0": nodes must be 1 to 1000`, `-scale "c=2": c is there twice`}},
		{[]string{"-sweep", "ips=0 x=1", "-until", "0s"}, []string{"-until 0s: must be above 0 and at most 744h", `-sweep "ips=0": "0" must be a number or range, 1 to 100`, `-sweep "x=1": there is no setting "x"; there are ips, ports, idle, ` + others()}},
		{[]string{"-story", "x", "-scale", "nodepool1=3"}, []string{`-story "x": must be list, or one of connection-reuse, dns-cache, udp-idle-timeout, abandoned-connections, keepalive, more-ports, more-ips, nat-gateway`, "-scale: a story has its own"}},
		{[]string{"-story", "list", "-until", "0s", "-json", "-headroom", "5"}, []string{"-headroom: not with -story list", "-json: not with -story list", "-until: not with -story list"}},
		{[]string{"-story", "keepalive", "-inside", "10.0.0.0/8", "-cluster", "a"}, []string{"-cluster: a story has its own", "-inside: a story has its own"}},
		{[]string{"-upgrade", "at=5m"}, []string{`-upgrade "at=5m": must name a pool, such as pool=nodepool1`}},
		{[]string{"-html", "."}, []string{"-html .: must be a file"}},
		{[]string{"-upgrade", "at=5m at=2h x=1 pool"}, []string{`-upgrade "at=2h": at is there twice`, `-upgrade "x=1": there is no setting "x"; there are pool, at, surge, unavailable, drain, soak, reimage`, `-upgrade "pool": must be such as pool=nodepool1`}},
		{[]string{"-upgrade", "pool=a surge=x soak=31m drain=25h unavailable=-1 reimage=1"}, []string{`-upgrade "surge=x": "x" must be a number or percentage, such as 1 or 33%`, `-upgrade "soak=31m": "31m" must be a duration, up to 30m`, `-upgrade "drain=25h": "25h" must be a duration, up to 24h`, `-upgrade "unavailable=-1": "-1" must be a number, 0 to 1000`, `-upgrade "reimage=1": "1" must be a duration, up to 24h`}},
		{[]string{"-sweeps", "ips=1"}, []string{"flag provided but not defined: -sweeps; did you mean -sweep?"}},
		{[]string{"now"}, []string{`unexpected argument "now": all is said by flags, see -h`}},
	} {
		status, stdout, stderr := capacity(t, c.args...)
		assert.Equal(t, command.Misuse, status, c.args)
		assert.Empty(t, stdout)
		assert.Equal(t, "capacity: "+strings.Join(c.want, "\ncapacity: ")+"\n", stderr)
	}
	status, stdout, stderr := capacity(t, "-scale", "a=1", "-sweep", "nodes(b)=1")
	assert.Equal(t, command.Failure, status)
	assert.Empty(t, stdout)
	assert.Equal(t, "capacity: -scale: the cluster has no pool \"a\"; it has nodepool1\ncapacity: -sweep: the cluster has no pool \"b\"; it has nodepool1\n", stderr)

	status, stdout, stderr = capacity(t, "-h")
	assert.Equal(t, []any{0, ""}, []any{status, stderr})
	assert.Contains(t, stdout, "Usage: capacity [flags]")
}

// An interrupt prints what is done by then, and says so.
func TestInterrupt(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var starts, kept atomic.Int32
	var asItIs atomic.Pointer[overlay.Cluster]
	var ends func(overlay.ClusterConfig) bool // whether a simulation of such a cluster is interrupted
	run := func(args ...string) (status int, d answer.Answer, printed, complaint string) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		starts.Store(0)
		kept.Store(0)
		site := builtIn()
		start := site.Start
		site.Start = func(c overlay.ClusterConfig) (*Running, error) {
			if starts.Add(1); ends(c) {
				cancel()
			}
			running, err := start(c)
			if c.LoadBalancerProfile.AllocatedOutboundPorts == 0 {
				asItIs.Store(running.Cluster)
				kept.Add(1)
			}
			return running, err
		}
		c := Command{
			Cluster:  func([]string) (*Site, error) { return site, nil },
			Workload: func(string) (*Traffic, error) { return &Traffic{Workload: builtInWorkload()}, nil },
		}
		var out, complaints bytes.Buffer
		status = c.Run(ctx, append([]string{"-cluster", "a", "-workload", "b", "-until", "2m", "-json"}, args...), &out, &complaints)
		if out.Len() > 0 {
			require.NoError(t, json.Unmarshal(out.Bytes(), &d))
		}
		return status, d, out.String(), complaints.String()
	}
	interrupted := []any{command.Interrupted, "capacity: interrupted\n"}

	ends = func(overlay.ClusterConfig) bool { return starts.Load() == 4 } // after that of the try, as it is, and the first setting
	status, d, _, complaint := run("-sweep", "ports=64,128,256")
	assert.Equal(t, interrupted, []any{status, complaint})
	assert.False(t, d.Complete)
	assert.NotNil(t, d.Sweep[0].Result)
	assert.Equal(t, []string{answer.NotDone, answer.NotDone}, []string{d.Sweep[1].Error, d.Sweep[2].Error})

	ends = func(overlay.ClusterConfig) bool { return starts.Load() == 2 }
	status, _, printed, complaint := run()
	assert.Equal(t, interrupted, []any{status, complaint})
	assert.Empty(t, printed, "nothing is done")

	// The search for a recommendation begins with the most ports that there can be.
	ends = func(c overlay.ClusterConfig) bool {
		if c.LoadBalancerProfile.AllocatedOutboundPorts < 10_000 {
			return false
		}
		// The simulation of the cluster as it is goes on meanwhile, and closes it in the end.
		for kept.Load() < 2 || asItIs.Load().Outbound(0, nil).Reason != flow.ReasonClosed {
			runtime.Gosched()
		}
		return true
	}
	status, d, _, complaint = run("-recommend")
	assert.Equal(t, interrupted, []any{status, complaint})
	assert.False(t, d.Complete)
	assert.NotZero(t, d.AsItIs.Total.Conversations)
	assert.Nil(t, d.Recommendation)
}

// A site without names of pools, without numbers of outbound IPs, and with shared ports is reported on, too.
func TestOtherClusters(t *testing.T) {
	site := builtIn()
	site.Config = overlay.ClusterConfig{Name: "prod", NodePools: []overlay.NodePool{{Count: 1}, {Count: 1}}}
	site.NotModelled = []string{"a.yaml:1: x y: z"}
	workload := builtInWorkload()
	workload.Seed = 5
	c := Command{
		Cluster:  func([]string) (*Site, error) { return site, nil },
		Workload: func(string) (*Traffic, error) { return &Traffic{Workload: workload}, nil },
	}
	run := func(args ...string) string {
		t.Setenv("COLUMNS", "300")
		var out, complaints bytes.Buffer
		status := c.Run(t.Context(), append([]string{"-cluster", "a", "-workload", "b", "-until", "3m"}, args...), &out, &complaints)
		require.Zero(t, status, complaints.String())
		return out.String()
	}
	text := run("-scale", "nodepool2=2", "-sweep", "ports=1024", "-recommend")
	for _, want := range []string{
		"Cluster       prod: 3 nodes in 2 pools, 45 pods, outbound type loadBalancer, 1 outbound IP, 1,024 SNAT ports per node, idle timeout 30m\n",
		"Files         a\n", "Not modelled  a.yaml:1: x y: z\n", "Workload      b, for 3m, seed 5\n",
		"OTHER SETTINGS  (1 of 1 refuse nothing)\n", "az aks update -g GROUP -n prod --load-balancer",
	} {
		assert.Contains(t, text, want)
	}
	site.Config.OutboundType = overlay.OutboundManagedNATGateway
	text = run("-seed", "6")
	assert.Contains(t, text, "outbound type managedNATGateway, 1 outbound IP, idle timeout 4m\n")
	assert.Contains(t, text, "Workload      b, for 3m, seed 6\n")
	assert.Contains(t, text, "64,512")

	// There are ports per node of a load balancer only.
	var out, complaints bytes.Buffer
	status := c.Run(t.Context(), []string{"-cluster", "a", "-workload", "b", "-recommend", "-sweep", "ips=1 ports=1024,auto", "-scale", "x=1", "-until", "1m"}, &out, &complaints)
	assert.Equal(t, command.Failure, status)
	assert.Empty(t, out.String())
	assert.Equal(t, `capacity: -scale: the cluster has no pool "x"; it has nodepool1, nodepool2
capacity: -sweep "ports=1024,auto": needs a Standard load balancer, whose nodes have ports of their own; the outbound type is managedNATGateway
capacity: -recommend: needs a Standard load balancer, whose nodes have ports of their own; the outbound type is managedNATGateway
`, complaints.String())
	text = run("-sweep", "outbound=managedNATGateway,loadBalancer ports=auto,1024 ips=1")
	assert.Contains(t, text, "OTHER SETTINGS  (3 of 4 refuse nothing)\n")
	assert.Contains(t, text, "-: ports=1024 needs a Standard load balancer, whose nodes have ports of their own; the outbound type is managedNATGateway\n")
	site.Config.OutboundType = overlay.OutboundLoadBalancer
	complaints.Reset()
	c.Run(t.Context(), []string{"-cluster", "a", "-workload", "b", "-sweep", "outbound=managedNATGateway,managedNATGatewayV2 ports=8", "-until", "1m"}, &out, &complaints)
	assert.Equal(t, "capacity: -sweep \"ports=8\": needs a Standard load balancer, whose nodes have ports of their own; the outbound type is managedNATGateway\n", complaints.String())
}

// Tasks are all done, each once.
func TestTogether(t *testing.T) {
	done := make([]int, 100)
	var tasks []func()
	for i := range done {
		tasks = append(tasks, func() { done[i]++ })
	}
	together(tasks)
	together(nil)
	for _, n := range done {
		assert.Equal(t, 1, n)
	}
}

// The documentation of the command has every flag, and every setting.
func TestDocumented(t *testing.T) {
	text, err := os.ReadFile("../../main.go")
	require.NoError(t, err)
	doc, _, _ := strings.Cut(string(text), "package main")
	_, stdout, _ := capacity(t, "-h")
	flags := 0
	for line := range strings.Lines(stdout) {
		if name, ok := strings.CutPrefix(line, "  -"); ok {
			flags++
			assert.Contains(t, doc, "-"+strings.Fields(name)[0])
		}
	}
	assert.Greater(t, flags, 15)
	for _, k := range axisKinds {
		assert.Contains(t, doc, "//\t"+k.name+"=")
	}
	for _, k := range upgradeKinds {
		assert.Contains(t, doc, "//\t"+k.name+"=")
	}
}

// An upgrade moves pods, ends their conversations, and goes through its steps; the cluster as it is stays
// as it is.
func TestUpgrade(t *testing.T) {
	watched(t)
	args := []string{"-until", "30m", "-sweep", "ips=1"}
	plain := decoded(t, args...)
	d := decoded(t, append(args, "-upgrade", "pool=nodepool1 at=5m surge=1 drain=1m reimage=3m")...)
	assert.Equal(t, plain.AsItIs, d.AsItIs)
	u := d.Upgrade
	require.NotNil(t, u)
	assert.Equal(t, []any{"nodepool1", 300.0, 4}, []any{u.Pool, u.BeginSeconds, u.MostNodes})
	assert.Greater(t, u.EndSeconds, u.BeginSeconds)
	assert.GreaterOrEqual(t, u.Moved, 45, "each pod at least once")
	assert.NotZero(t, u.Lost)
	assert.Equal(t, []string{"surge", "cordon", "drain"}, []string{u.Steps[0].Action, u.Steps[1].Action, u.Steps[2].Action})
	assert.Equal(t, "remove", u.Steps[len(u.Steps)-1].Action)
	assert.InDelta(t, float64(plain.AsItIs.Total.Conversations), float64(u.Result.Total.Conversations), float64(plain.AsItIs.Total.Conversations)/20)
	assert.Contains(t, d.Findings[len(d.Findings)-1].Text, "The upgrade of nodepool1 moved pods ")
	assert.Equal(t, u, decoded(t, append(args, "-upgrade", "pool=nodepool1 at=5m surge=1 drain=1m reimage=3m")...).Upgrade)

	// One without room for it is not over by the end.
	assert.Zero(t, decoded(t, "-until", "6m", "-sweep", "ips=1", "-upgrade", "pool=nodepool1 at=5m").Upgrade.EndSeconds)
	status, stdout, stderr := capacity(t, "-upgrade", "pool=x")
	assert.Equal(t, []any{command.Failure, ""}, []any{status, stdout})
	assert.Equal(t, "capacity: -upgrade: the cluster has no pool \"x\"; it has nodepool1\n", stderr)
}

// The page is there as a whole, or the file is as it was.
func TestPage(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "report.html")
	require.NoError(t, os.WriteFile(name, []byte("before"), 0o600))
	var out, complaints bytes.Buffer
	run := func(draw func(io.Reader, io.Writer) error, makeReady error) int {
		out.Reset()
		complaints.Reset()
		c := Command{Page: func(context.Context, io.Writer) (func(io.Reader, io.Writer) error, func() error, error) {
			return draw, func() error { return nil }, makeReady
		}}
		return c.Run(t.Context(), []string{"-until", "1s", "-sweep", "ips=1", "-html", name}, &out, &complaints)
	}
	there := func() string {
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Len(t, entries, 1, "nothing else is left")
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		return string(text)
	}
	assert.Equal(t, command.Failure, run(nil, errors.New("no go command")))
	assert.Equal(t, "capacity: no go command\n", complaints.String())
	half := func(_ io.Reader, w io.Writer) error {
		_, _ = io.WriteString(w, "half")
		return errors.New("broken")
	}
	assert.Equal(t, command.Failure, run(half, nil))
	assert.Equal(t, []string{"before", "", "capacity: -html " + name + ": broken\n"}, []string{there(), out.String(), complaints.String()})
	whole := func(r io.Reader, w io.Writer) error {
		a, err := answer.ReadJSON(r)
		if err == nil {
			_, err = io.WriteString(w, a.Headline.Verdict)
		}
		return err
	}
	require.Zero(t, run(whole, nil), complaints.String())
	assert.Regexp(t, "^none of .* conversations? refused$", there())
	assert.NotEmpty(t, out.String(), "the report as well")
	name = filepath.Join(dir, "none", "report.html")
	assert.Equal(t, command.Misuse, run(whole, nil))
	assert.Contains(t, complaints.String(), "capacity: -html "+name+": there is no directory "+filepath.Dir(name))
}
