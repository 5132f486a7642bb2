package story

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/overlay"
)

func TestExplain(t *testing.T) {
	status, stdout, stderr := egress(t, "-explain", "tcp pod/pod-1-0 > 203.0.113.80:443", "-explain", "tcp 203.0.113.80:443 > 20.50.1.1:1024 ack")
	require.Zero(t, status, stderr)
	assert.Contains(t, stdout, "tcp 10.244.1.2:40000 > 203.0.113.80:443: forward")
	assert.Contains(t, stdout, "It goes on, with the addresses that the steps give it")
	assert.Contains(t, stdout, "The source becomes 20.50.1.1, with a port of it that is free for 203.0.113.80:443.")
	assert.Contains(t, stdout, "tcp 203.0.113.80:443 > 20.50.1.1:1024: drop no_flow")

	status, stdout, stderr = egress(t, "-json", "-explain", "icmp pod/pod-1-0 > [2001:db8::1]", "-explain", "udp a > b")
	assert.Equal(t, 2, status)
	assert.Empty(t, stdout)
	assert.Contains(t, stderr, `-explain: "[2001:db8::1]": must be an address`)
	assert.Contains(t, stderr, `-explain: "a": must be an address`)

	status, stdout, stderr = egress(t, "-json", "-explain", "icmp pod/pod-1-0 > 2001:db8::1")
	require.Zero(t, status, stderr)
	var all []explanation
	require.NoError(t, json.Unmarshal([]byte(stdout), &all))
	require.Len(t, all, 1)
	assert.Equal(t, "icmp fd12:3456:789a:0:1::2 > 2001:db8::1", all[0].Bytes)
	assert.Equal(t, "drop", all[0].Action)
	assert.Equal(t, "unsupported_proto", all[0].Reason)
	assert.Equal(t, "node aks-nodepool1-vmss000001", all[0].Steps[0].At)

	for name, want := range map[string]string{
		"pod/x": "there is no such pod, but pod-0-0, pod-0-1, pod-0-2 and 21 more", "pod/2-7": "there is no such pod; did you mean pod-2-7?",
		"node/x": "there is no such node, but aks-nodepool1-vmss000000, ", "service/x": "there is no Service at all", "lb/x": "there is no Service at all",
	} {
		status, _, stderr := egress(t, "-explain", "tcp "+name+" > 203.0.113.80:443")
		assert.Equal(t, 1, status)
		assert.Contains(t, stderr, `-explain: "`+name+`": `+want)
	}
}

// What the files say and the cluster is without is told beside explanations, too.
func TestExplainTellsWhatIsLeftOut(t *testing.T) {
	var out, complaints pipe
	c := siteOf(overlay.ClusterConfig{NodePools: []overlay.NodePool{{Count: 2}}}, func(c *overlay.Cluster, _ *Site) {
		for i, n := range c.Nodes() {
			_, err := c.AddPod(n.Name, []string{"n/x", "n/y"}[i])
			require.NoError(t, err)
		}
	})
	require.Zero(t, c.Run(t.Context(), []string{"-cluster", "a.yaml", "-explain", "tcp pod/x > pod/y:80", "-explain", "udp pod/x > 10.0.0.10:53"}, &out, &complaints), string(complaints))
	assert.Contains(t, string(out), ": bypass\nIt goes on as it is: no address is changed")
	assert.Contains(t, string(out), "10.0.0.10 is the cluster's DNS, and no Service")
	assert.Contains(t, string(out), "\nOf what the files say the cluster is without:\n- a.yaml:1: nothing much\n")
}

// A name is that of one of its namespace, or of the only one of all namespaces.
func TestFind(t *testing.T) {
	all := []string{"default/a-0", "x/a-0", "x/b-0", "x/c-0", "y/c-0"}
	for name, want := range map[string]string{"a-0": "default/a-0", "x/a-0": "x/a-0", "b-0": "x/b-0", "c-0": "there are several: x/c-0, y/c-0", "a": "there is no such pod; did you mean default/a-0, x/a-0?"} {
		got, err := find("pod", name, all)
		if err != nil {
			got = err.Error()
		}
		assert.Equal(t, want, got)
	}
}

func TestFlagsThatExcludeEachOther(t *testing.T) {
	status, _, stderr := egress(t, "-cluster", "a", "-nodes", "3", "-idle", "4m", "-explain", "tcp 1.2.3.4:1 > 5.6.7.8:9", "-copies", "2")
	assert.Equal(t, 2, status)
	for _, want := range []string{"-nodes: with -cluster", "-idle: with -cluster", "-copies: with -explain"} {
		assert.Contains(t, stderr, want)
	}
	status, _, stderr = egress(t, "-cluster", "", "-explain", "")
	assert.Equal(t, 2, status)
	assert.Contains(t, stderr, "must not be empty")
}

// siteOf returns a command whose files are a cluster of a configuration.
func siteOf(config overlay.ClusterConfig, build func(c *overlay.Cluster, site *Site)) Command {
	return Command{Open: func(files []string, adjust func(*overlay.ClusterConfig)) (*Site, error) {
		adjust(&config)
		c, err := overlay.New(config)
		if err != nil {
			return nil, err
		}
		site := &Site{Cluster: c, NotModelled: []string{"a.yaml:1: nothing much"}}
		if build != nil {
			build(c, site)
		}
		return site, nil
	}}
}

// with runs the command on a site and returns its report.
func with(t *testing.T, c Command, args ...string) document {
	t.Helper()
	var out, complaints pipe
	status := c.Run(t.Context(), append([]string{"-cluster", "a.yaml", "-json"}, args...), &out, &complaints)
	require.Zero(t, status, string(complaints))
	var d document
	require.NoError(t, json.Unmarshal(out, &d))
	return d
}

// pipe keeps what is written.
type pipe []byte

func (p *pipe) Write(b []byte) (int, error) { *p = append(*p, b...); return len(b), nil }

// Clusters of files play the recording, whatever their traffic leaves through, and every run ends.
func TestSites(t *testing.T) {
	pkttest.OneGoroutine(t)
	pools := []overlay.NodePool{{Name: "a", Count: 2}, {Name: "b", Count: 1}}
	pods := func(c *overlay.Cluster, site *Site) {
		for i, n := range c.Nodes() {
			p, err := c.AddPod(n.Name, []string{"n/x", "n/y", "n/z"}[i])
			require.NoError(t, err)
			site.Pods = append(site.Pods, p.Name)
		}
	}
	t.Run("load balancer", func(t *testing.T) {
		d := with(t, siteOf(overlay.ClusterConfig{NodePools: pools}, pods))
		assert.Len(t, d.Pods, 3)
		assert.Equal(t, []string{"a.yaml"}, d.Settings.Cluster)
		assert.Equal(t, []string{"a.yaml:1: nothing much"}, d.Settings.NotModelled)
		assert.Equal(t, 3, d.Settings.Nodes)
		assert.EqualValues(t, 1800, d.Settings.IdleSeconds)
		assert.Positive(t, d.SNAT.Connections.Successful)
		assert.Zero(t, d.Packets.Dropped)
		assert.Len(t, d.Pods[0].IPs, 1, "one family")
	})
	t.Run("a Service with probes", func(t *testing.T) {
		d := with(t, siteOf(overlay.ClusterConfig{NodePools: pools, IPFamilies: "ipv4,ipv6"}, func(c *overlay.Cluster, site *Site) {
			pods(c, site)
			_, err := c.AddService(flow.At(0), overlay.Service{Name: "n/s", Type: overlay.LoadBalancer, Ports: []overlay.ServicePort{{Port: 80}}})
			require.NoError(t, err)
		}))
		assert.Positive(t, d.SNAT.Connections.Successful)
		assert.Len(t, d.Pods[0].IPs, 2)
	})
	t.Run("NAT gateway", func(t *testing.T) {
		d := with(t, siteOf(overlay.ClusterConfig{NodePools: pools, OutboundType: overlay.OutboundManagedNATGateway}, pods))
		assert.Positive(t, d.SNAT.Connections.Successful)
		assert.EqualValues(t, 240, d.Settings.IdleSeconds)
	})
	t.Run("user's route", func(t *testing.T) {
		d := with(t, siteOf(overlay.ClusterConfig{NodePools: pools, OutboundType: overlay.OutboundUserDefinedRouting}, pods))
		assert.Positive(t, d.Packets.Forwarded)
		assert.Empty(t, d.SNAT.Frontends)
	})
	t.Run("node public IPs", func(t *testing.T) {
		public := []overlay.NodePool{{Name: "a", Count: 3, NodePublicIP: overlay.NodePublicIP{Enabled: true}}}
		d := with(t, siteOf(overlay.ClusterConfig{NodePools: public}, pods))
		assert.Zero(t, d.Conversations.Local)
		assert.Positive(t, d.Packets.Forwarded)
	})
	t.Run("no pods", func(t *testing.T) {
		d := with(t, siteOf(overlay.ClusterConfig{NodePools: pools}, nil), "-pods-per-node", "2", "-seed", "7")
		assert.Len(t, d.Pods, 6)
		assert.Equal(t, "pod-0-0", d.Pods[0].Name)
	})
	t.Run("a capture", func(t *testing.T) {
		d := with(t, siteOf(overlay.ClusterConfig{NodePools: pools}, pods), "-pcap", "../../testdata/conversations.pcap")
		assert.Contains(t, d.Settings.Placement, "each one of the 3 pods of the files")
	})
	t.Run("text", func(t *testing.T) {
		var out, complaints pipe
		status := siteOf(overlay.ClusterConfig{NodePools: pools, Name: "mine"}, pods).Run(t.Context(), []string{"-cluster", "a.yaml", "-cluster", "b.json"}, &out, &complaints)
		require.Zero(t, status, string(complaints))
		for _, want := range []string{"mine: 3 nodes in 2 pools, 3 pods, 0 Services", "a.yaml, b.json", "a.yaml:1: nothing much", "of IPv6, which the cluster has not"} {
			assert.Contains(t, string(out), want)
		}
	})
	t.Run("explain", func(t *testing.T) {
		var out, complaints pipe
		status := siteOf(overlay.ClusterConfig{NodePools: pools}, pods).Run(t.Context(), []string{"-cluster", "a", "-explain", "tcp pod/n/y > 203.0.113.80:443"}, &out, &complaints)
		require.Zero(t, status, string(complaints))
		assert.Contains(t, string(out), "10.244.1.2 is pod n/y.")
	})
	t.Run("nothing leaves", func(t *testing.T) {
		var out, complaints pipe
		status := siteOf(overlay.ClusterConfig{NodePools: pools, OutboundType: overlay.OutboundNone}, pods).Run(t.Context(), []string{"-cluster", "a"}, &out, &complaints)
		assert.Equal(t, 1, status)
		assert.Contains(t, string(complaints), "nothing was translated")
	})
	t.Run("unreadable", func(t *testing.T) {
		var out, complaints pipe
		c := Command{Open: func([]string, func(*overlay.ClusterConfig)) (*Site, error) {
			return nil, errors.New("f:1: wrong\nf:2: too")
		}}
		assert.Equal(t, 1, c.Run(t.Context(), []string{"-cluster", "f"}, &out, &complaints))
		assert.Equal(t, "egress: f:1: wrong\negress: f:2: too\n", string(complaints))
	})
}

func TestHandOver(t *testing.T) {
	var got []string
	c := Command{HandOver: func(_ context.Context, args []string, stdout, _ io.Writer) (int, error) {
		got = args
		_, err := io.WriteString(stdout, "there")
		return 3, err
	}}
	var out, complaints pipe
	args := []string{"-cluster", "f", "-json"}
	assert.Equal(t, 3, c.Run(t.Context(), args, &out, &complaints))
	assert.Equal(t, args, got)
	assert.Equal(t, "there", string(out))
	c.HandOver = func(context.Context, []string, io.Writer, io.Writer) (int, error) { return 0, errors.New("no go") }
	assert.Equal(t, 1, c.Run(t.Context(), args, &out, &complaints))
	assert.Equal(t, "egress: no go\n", string(complaints))
}

func TestPlaceAmong(t *testing.T) {
	hosts := []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.3")}
	p := placeAmong(hosts, 2)
	assert.Equal(t, []int{0, 1, 0}, p.pods)
	assert.Equal(t, "3 hosts of the capture, each one of the 2 pods of the files; up to 2 hosts share one", p.how)
}
