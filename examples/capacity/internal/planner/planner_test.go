package planner

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"flag"
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

	"github.com/seed-a61be3fe/natplane/examples/internal/command"
	"github.com/seed-a61be3fe/natplane/examples/internal/page"
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/whatif"
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
func decoded(t testing.TB, args ...string) (d document) {
	t.Helper()
	status, stdout, stderr := capacity(t, append(args, "-json")...)
	require.Zero(t, status, stderr)
	assert.Empty(t, stderr)
	decoder := json.NewDecoder(strings.NewReader(stdout))
	decoder.DisallowUnknownFields()
	require.NoError(t, decoder.Decode(&d))
	_, err := decoder.Token()
	require.ErrorIs(t, err, io.EOF)
	return d
}

// The story teaches what it is for, and fits a screen of 80 columns without colours.
func TestStory(t *testing.T) {
	if raceEnabled {
		t.Skip("takes minutes with the race detector; TestDeterminism runs the same goroutines")
	}
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
	assert.Equal(t, one, run(8, "7"))
	assert.NotEqual(t, one, run(2, "8"))
}

// What the object says hangs together, and the lines of -csv say the same.
func TestReportsForPrograms(t *testing.T) {
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
	if raceEnabled {
		t.Skip("takes minutes with the race detector; TestDeterminism runs the same goroutines")
	}
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
	t.Setenv("COLUMNS", "80")
	site := builtIn()
	site.Config.LoadBalancerProfile.IdleTimeout, site.Config.LoadBalancerProfile.DisableTCPReset = 4*time.Minute, true
	c := Command{
		Cluster:  func([]string) (*Site, error) { return site, nil },
		Workload: func(string) (whatif.Workload, error) { return builtInWorkload(), nil },
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
		Workload: func(string) (whatif.Workload, error) { return builtInWorkload(), nil },
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
			Workload: func(string) (whatif.Workload, error) { return builtInWorkload(), nil },
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
	assert.Equal(t, "capacity: -trace "+pcap+": no host begins a conversation in it\n", stderr)

	bad := filepath.Join(t.TempDir(), "bad.csv")
	require.NoError(t, os.WriteFile(bad, []byte("start,src,dst,port\nx,10.0.0.1,203.0.113.9,443\n1,10.0.0.1,y,443\n"), 0o600))
	status, stdout, stderr = capacity(t, "-trace", bad)
	assert.Equal(t, 1, status)
	assert.Empty(t, stdout)
	assert.Equal(t, 2, strings.Count(stderr, "capacity: "+bad+":"), stderr)

	status, _, stderr = capacity(t, "-trace", filepath.Join(t.TempDir(), "none"))
	assert.Equal(t, 1, status)
	assert.Regexp(t, `^capacity: -trace .*none: no such file`, stderr)
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
		{[]string{"-sweep", "ips=1", "-accept-cuts"}, []string{"-accept-cuts: needs -recommend"}},
		{[]string{"-inside", "10.0.0.0/8"}, []string{"-inside: needs -trace"}},
		{[]string{"-trace", "a", "-inside", "10.0.0.0,x"}, []string{`-inside "10.0.0.0": is no CIDR such as 10.0.0.0/8`, `-inside "x": is no CIDR such as 10.0.0.0/8`}},
		{[]string{"-cluster", "a"}, []string{"-cluster: needs -workload or -trace, which say what is sent"}},
		{[]string{"-cluster", ""}, []string{`invalid value "" for flag -cluster: must not be empty`}},
		{[]string{"-cluster", "-", "-workload", "-"}, []string{"-: the standard input can be one file only"}},
		{[]string{"-json", "-csv"}, []string{"-csv: with -json there is one object"}},
		{[]string{"-scale", "a,b=0,c=1,c=2"}, []string{`-scale "a": must be such as nodepool1=80`, `-scale "b=0": nodes must be 1 to 1000`, `-scale "c=2": c is there twice`}},
		{[]string{"-sweep", "ips=0 x=1", "-until", "0s"}, []string{"-until 0s: must be above 0 and at most 744h", `-sweep "ips=0": "0" must be a number or range, 1 to 100`, `-sweep "x=1": there is no setting "x"; there are ips, ports, idle, ` + others()}},
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
	run := func(args ...string) (status int, d document, printed, complaint string) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		starts.Store(0)
		kept.Store(0)
		site := builtIn()
		start := site.Start
		site.Start = func(c overlay.ClusterConfig) (*overlay.Cluster, []whatif.Host, error) {
			if starts.Add(1); ends(c) {
				cancel()
			}
			cluster, hosts, err := start(c)
			if c.LoadBalancerProfile.AllocatedOutboundPorts == 0 {
				asItIs.Store(cluster)
				kept.Add(1)
			}
			return cluster, hosts, err
		}
		c := Command{
			Cluster:  func([]string) (*Site, error) { return site, nil },
			Workload: func(string) (whatif.Workload, error) { return builtInWorkload(), nil },
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
	assert.Equal(t, []string{"not done", "not done"}, []string{d.Sweep[1].Error, d.Sweep[2].Error})

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
		Workload: func(string) (whatif.Workload, error) { return workload, nil },
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

	var out, complaints bytes.Buffer
	status := c.Run(t.Context(), []string{"-cluster", "a", "-workload", "b", "-recommend", "-until", "1m"}, &out, &complaints)
	assert.Equal(t, command.Failure, status)
	assert.Empty(t, out.String())
	assert.Contains(t, complaints.String(), "capacity: -recommend: Plan.Cluster.OutboundType managedNATGateway: conflict")
}

// Findings say what held the ports, and only that.
func TestFindings(t *testing.T) {
	codes := func(r whatif.Result, idle time.Duration) (all []string) {
		a := answer{now: &r}
		a.config.LoadBalancerProfile.IdleTimeout = idle
		for i, f := range a.findings() {
			assert.Equal(t, i == 0 && strings.Contains("held abandoned udp", f.Code), strings.Contains(f.Text, " % of what held ports at the peak were "), f.Text)
			assert.Equal(t, idle > minIdle && f.Code != "held" && f.Code != "cut" && f.Code != "headroom", strings.Contains(f.Text, "shorter idle timeout"), f.Text)
			all = append(all, f.Code)
		}
		return all
	}
	node := []whatif.Fill{{Allocated: 100, Peak: 40}}
	assert.Equal(t, []string{"held", "headroom"}, codes(whatif.Result{Peak: whatif.Uses{HeldFIN: 90, UDPWaiting: 5, Abandoned: 5}, Nodes: node}, minIdle))
	assert.Equal(t, []string{"abandoned", "udp"}, codes(whatif.Result{Peak: whatif.Uses{UDPWaiting: 50, Abandoned: 50}, Total: whatif.Counts{Refused: 1}, Nodes: node}, minIdle))
	assert.Equal(t, []string{"abandoned", "udp"}, codes(whatif.Result{Peak: whatif.Uses{UDPWaiting: 50, Abandoned: 50}, Total: whatif.Counts{Refused: 1}, Nodes: node}, time.Hour))
	assert.Equal(t, []string{"cut"}, codes(whatif.Result{Total: whatif.Counts{Cut: 1}}, time.Hour))
	assert.Empty(t, codes(whatif.Result{}, time.Hour))
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

// Long lists are cut, and it is said where the rest is.
func TestLongReports(t *testing.T) {
	t.Setenv("COLUMNS", "80")
	a := answer{now: &whatif.Result{}, omitted: make([]string, 20)}
	for range 2 * mostRows {
		a.rows = append(a.rows, whatif.Row{Setting: "x", Result: &whatif.Result{}})
	}
	for range 2 * mostTraffic {
		a.now.Traffic = append(a.now.Traffic, whatif.Counts{Name: "y"})
	}
	var out bytes.Buffer
	a.writeText(page.New(&out, &out))
	for _, want := range []string{"and 40 more settings in -json and -csv", "and 12 more; -json has all", "and 20 more rows in -json"} {
		assert.Contains(t, out.String(), want)
	}
}
