package apiserver

import (
	"net/netip"
	"strings"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/overlay"
)

// Defaults of a Config. All are our choice; where they come from stands at the fields.
const (
	DefaultPort           = 443
	DefaultKeepAlive      = 30 * time.Second
	DefaultBackoff        = time.Second
	DefaultBackoffMax     = 30 * time.Second
	DefaultFollowInterval = 10 * time.Second
)

// maxInterval bounds every interval.
const maxInterval = 24 * time.Hour

// Config says who keeps a connection to which API server. Cluster and Server must be given;
// the zero value of every other field is a documented default.
type Config struct {
	Cluster *overlay.Cluster // whose nodes and pods are clients

	// Server is where the API server listens; port 0 means DefaultPort. An address that is
	// local to the cluster, as that of a private cluster, needs no outbound port.
	Server netip.AddrPort

	// SystemPod reports whether a pod is a client. nil means that those are whose name begins
	// with "kube-system/": pods that package overlay/manifest starts are named by namespace
	// and name. It must not call the Traffic.
	SystemPod func(overlay.Pod) bool

	// KeepAlive is the time between two keep-alives of a client, 1 ms to 24 h; 0 means
	// DefaultKeepAlive, what Kubernetes' client library sets for its TCP connections.
	KeepAlive time.Duration

	// Backoff is how long a client waits after a cut, or after the first attempt that failed,
	// 1 ms to 24 h; 0 means DefaultBackoff, the time until a SYN is sent again (RFC 6298). It
	// doubles with every further failure, up to BackoffMax.
	Backoff time.Duration

	// BackoffMax is how long a client waits at most, Backoff to 24 h; 0 means
	// DefaultBackoffMax, or Backoff if that is longer.
	BackoffMax time.Duration

	// FollowInterval is how often Advance looks for nodes and pods that have come or gone, 1 ms
	// to 24 h; 0 means DefaultFollowInterval, the heartbeat of a kubelet. Cost of a look:
	// O(nodes + pods).
	FollowInterval time.Duration

	// Inbound is the door by which the answers of the API server come. nil means that of Cluster;
	// where [overlay.ClusterConfig].NextHop translates, answers must come back by it first.
	Inbound func(now flow.Time, pkt []byte) flow.Verdict

	// Deliver, if set, gets every packet as its receiver gets it: to the Outside the API
	// server, to the Inside a client. pkt is valid until it returns. It must not call the Traffic.
	Deliver func(now flow.Time, to flow.Side, pkt []byte)
}

// withDefaults returns the configuration with its defaults, or all that is wrong with it.
func (c Config) withDefaults() (Config, error) {
	var p problems.List
	if c.Cluster == nil {
		p.Add("Cluster", problems.None, flow.ErrMissing, "the cluster whose nodes are clients")
	}
	addr := c.Server.Addr().Unmap()
	switch {
	case !c.Server.IsValid():
		p.Add("Server", problems.None, flow.ErrMissing, "address and port of the API server")
	case !flow.IsHost(addr):
		p.Add("Server", c.Server, flow.ErrAddress, "")
	case c.Cluster != nil && addr.Is6() && !strings.Contains(c.Cluster.Config().IPFamilies, "ipv6"):
		p.Add("Server", c.Server, overlay.ErrFamily, "the cluster has IPv4 only")
	}
	interval := func(field string, value *time.Duration, usual, least time.Duration) {
		if *value == 0 {
			*value = usual
		} else if *value < least || *value > maxInterval {
			p.Add(field, *value, flow.ErrOutOfRange, "%v to %v", least, maxInterval)
		}
	}
	interval("KeepAlive", &c.KeepAlive, DefaultKeepAlive, flow.Tick)
	interval("Backoff", &c.Backoff, DefaultBackoff, flow.Tick)
	interval("BackoffMax", &c.BackoffMax, max(DefaultBackoffMax, c.Backoff), min(max(flow.Tick, c.Backoff), maxInterval))
	interval("FollowInterval", &c.FollowInterval, DefaultFollowInterval, flow.Tick)
	port := c.Server.Port()
	if port == 0 {
		port = DefaultPort
	}
	c.Server = netip.AddrPortFrom(addr, port)
	if c.SystemPod == nil {
		c.SystemPod = func(p overlay.Pod) bool { return strings.HasPrefix(p.Name, "kube-system/") }
	}
	if c.Inbound == nil && c.Cluster != nil {
		c.Inbound = c.Cluster.Inbound
	}
	return c, p.Err()
}
