package labs

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/netlab"
	"github.com/seed-a61be3fe/natplane/overlay"
)

// The hosts of the lab of Services: two nodes with a pod each, of which web serves, a machine of
// the virtual network and a client on the Internet.
var serviceHosts = map[string]string{
	"node0": "10.224.0.4", "node1": "10.224.0.5", "near": "10.244.0.2", "web": "10.244.1.2", "vm": "10.224.9.9", "client": "198.51.100.9",
}

// A Service in two implementations, ours and the rules that kube-proxy writes into two kernels:
// whom does the real server see, when whoever it is asks with a real curl?
func TestLabServices(t *testing.T) {
	netlab.Require(t, "curl", "nft")
	for _, policy := range []overlay.TrafficPolicy{overlay.PolicyCluster, overlay.PolicyLocal} {
		t.Run(policy.String(), func(t *testing.T) {
			ours, svc := newServiceCluster(t, policy)
			kernel := newServiceKernel(t, policy, svc)
			cluster, balancer := svc.ClusterIPs[0].String()+":80", svc.LoadBalancerIPs[0].String()+":80"
			port := fmt.Sprint(":", svc.Ports[0].NodePort)
			host := serviceHosts
			for _, tt := range []struct{ from, to, cluster, local string }{
				{"near", cluster, host["near"], host["near"]},
				{"near", balancer, host["node0"], host["near"]},
				{"web", cluster, host["node1"], host["node1"]}, // to itself
				{"node0", cluster, host["node0"], host["node0"]},
				{"node0", balancer, host["node0"], host["node0"]},
				{"vm", host["node0"] + port, host["node0"], ""},
				{"vm", host["node1"] + port, host["node1"], host["vm"]},
			} {
				want := tt.cluster
				if policy == overlay.PolicyLocal {
					want = tt.local
				}
				require.Equal(t, want, curl(t, ours[tt.from], tt.to), "ours: %s to %s", tt.from, tt.to)
				require.Equal(t, want, curl(t, kernel[tt.from], tt.to), "kernel: %s to %s", tt.from, tt.to)
			}
			// By the load balancer, which chooses the node: any, or one with an endpoint.
			nodes, want := []string{"node0", "node1"}, []string{host["node0"], host["node1"]}
			if policy == overlay.PolicyLocal {
				nodes, want = nodes[1:], []string{host["client"]}
			}
			var seen, seenByKernel []string
			for range 24 {
				seen = append(seen, curl(t, ours["client"], balancer))
			}
			for _, node := range nodes {
				kernel["fabric"].Run(fmt.Sprintf("ip route replace %s/32 via %s dev %s onlink", svc.LoadBalancerIPs[0], host[node], node))
				seenByKernel = append(seenByKernel, curl(t, kernel["client"], balancer))
			}
			slices.Sort(seen)
			require.Equal(t, want, slices.Compact(seen))
			require.Equal(t, want, seenByKernel)
		})
	}
}

// curl asks a server from a host and returns whom it has seen, "" if there is no answer.
func curl(t *testing.T, from *netlab.Namespace, to string) string {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	out, err := from.Command(ctx, "curl", "-s", "--max-time", "3", "http://"+to+"/").Output()
	if err != nil {
		return ""
	}
	return string(out)
}

// serve answers with the address of who asks.
func serve(t *testing.T, web *netlab.Namespace) {
	l, err := web.Listen("tcp", serviceHosts["web"]+":8080")
	require.NoError(t, err)
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		fmt.Fprint(w, host)
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
}

// newServiceCluster starts hosts whose network is a cluster of package overlay, which is the
// nodes as well: what pods and processes of nodes send comes to it.
func newServiceCluster(t *testing.T, policy overlay.TrafficPolicy) (map[string]*netlab.Namespace, overlay.ServiceStatus) {
	c, err := overlay.New(overlay.ClusterConfig{NodePools: []overlay.NodePool{{Count: 2}}})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	for i, pod := range []string{"near", "web"} {
		p, err := c.AddPod(c.Nodes()[i].Name, pod)
		require.NoError(t, err)
		require.Equal(t, serviceHosts[pod], p.Addrs[0].String())
		require.Equal(t, serviceHosts[fmt.Sprint("node", i)], c.Nodes()[i].Addrs[0].String())
	}
	svc, err := c.AddService(0, overlay.Service{
		Name: "web", Type: overlay.LoadBalancer, ExternalTrafficPolicy: policy, Ports: []overlay.ServicePort{{Port: 80, TargetPort: 8080}},
	})
	require.NoError(t, err)
	require.NoError(t, c.SetEndpoints("web", overlay.Endpoint{Pod: "web"}))
	probed := flow.At(time.Minute)
	c.Advance(probed, nil)

	f := &fabric{c: c, began: time.Now().Add(-time.Minute), tuns: map[netip.Addr]*os.File{}}
	lab, hosts := netlab.New(t), map[string]*netlab.Namespace{}
	for name, a := range serviceHosts {
		hosts[name] = lab.Namespace(name)
		f.tuns[netip.MustParseAddr(a)] = hosts[name].TUN("fab", a+"/32")
		hosts[name].Run("ip route add default dev fab")
	}
	for _, tun := range f.tuns {
		go f.read(tun)
		t.Cleanup(func() { _ = tun.Close() })
	}
	serve(t, hosts["web"])
	return hosts, svc
}

// fabric carries packets between hosts through a cluster.
type fabric struct {
	c     *overlay.Cluster
	began time.Time
	tuns  map[netip.Addr]*os.File
	mu    sync.Mutex
}

// read carries what a host sends, until its device is closed.
func (f *fabric) read(tun *os.File) {
	for buf := make([]byte, 2000); ; {
		n, err := tun.Read(buf)
		if err != nil {
			return
		}
		if n >= 20 && buf[0]>>4 == 4 {
			f.carry(buf[:n])
		}
	}
}

// carry takes a packet through the doors of the cluster, and to its receiver.
func (f *fabric) carry(pkt []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := flow.At(time.Since(f.began))
	dst := func() netip.Addr { return netip.AddrFrom4([4]byte(pkt[16:20])) }
	inside := func(a netip.Addr) bool { _, ok := f.c.NodeByAddr(a); return ok }
	v := flow.Verdict{Action: flow.Forward}
	if inside(netip.AddrFrom4([4]byte(pkt[12:16]))) {
		v = f.c.Outbound(now, pkt)
		if v.Action == flow.Drop || v.Action == flow.Forward && v.To == flow.Inside || !inside(dst()) {
			f.deliver(v, dst(), pkt)
			return
		}
	}
	v = f.c.Inbound(now, pkt)
	f.deliver(v, dst(), pkt)
}

func (f *fabric) deliver(v flow.Verdict, to netip.Addr, pkt []byte) {
	if tun := f.tuns[to]; tun != nil && v.Action != flow.Drop {
		_, _ = tun.Write(pkt)
	}
}

// newServiceKernel starts the same hosts, with nodes that are Linux and have the rules
// of kube-proxy, at a router that is their network.
func newServiceKernel(t *testing.T, policy overlay.TrafficPolicy, svc overlay.ServiceStatus) map[string]*netlab.Namespace {
	lab := netlab.New(t, "nft")
	hosts := map[string]*netlab.Namespace{"fabric": lab.Namespace("kernel fabric")}
	router := func(n *netlab.Namespace, devs ...string) {
		n.Sysctl("net.ipv4.ip_forward", "1")
		for _, dev := range devs {
			n.Sysctl("net.ipv4.conf."+dev+".proxy_arp", "1")
			n.Sysctl("net.ipv4.neigh."+dev+".proxy_delay", "0")
		}
	}
	for name, a := range serviceHosts {
		hosts[name] = lab.Namespace("kernel " + name)
		up, dev := hosts["fabric"], name
		if node, ok := map[string]string{"near": "node0", "web": "node1"}[name]; ok {
			up, dev = lab.Namespace("kernel "+node), "pod"
		}
		lab.Veth(netlab.End{In: up, Dev: dev}, netlab.End{In: hosts[name], Dev: "fab", Addrs: []string{a + "/32"}})
		hosts[name].Run("ip route add default dev fab")
		up.Run("ip route add " + a + "/32 dev " + dev)
		router(up, dev)
	}
	for i, pod := range []string{"near", "web"} {
		node := fmt.Sprint("node", i)
		hosts["fabric"].Run(fmt.Sprintf("ip route add %s/32 via %s dev %s onlink", serviceHosts[pod], serviceHosts[node], node))
		router(hosts[node], "fab")
		rules(t, hosts[node], policy, svc, pod == "web")
	}
	serve(t, hosts["web"])
	return hosts
}

// rules writes those of kube-proxy for a Service into a node: the chains KUBE-SERVICES, KUBE-EXT,
// KUBE-SVC, KUBE-SVL and KUBE-SEP.
func rules(t *testing.T, node *netlab.Namespace, policy overlay.TrafficPolicy, svc overlay.ServiceStatus, local bool) {
	ext, svl := "jump masq; goto svc", "drop"
	if policy == overlay.PolicyLocal {
		ext = "ip saddr 10.244.0.0/16 goto svc; fib saddr type local jump masq; fib saddr type local goto svc; goto svl"
	}
	if local {
		svl = "goto sep"
	}
	text := fmt.Sprintf(`table ip kube {
	chain masq { meta mark set meta mark or 0x4000; }
	chain sep { ip saddr %[1]s jump masq; meta l4proto tcp dnat ip to %[1]s:8080; }
	chain svc { goto sep; }
	chain svl { %[2]s; }
	chain ext { %[3]s; }
	chain cluster { ip saddr != 10.244.0.0/16 jump masq; goto svc; }
	chain services {
		ip daddr %[4]s tcp dport 80 goto cluster
		ip daddr %[5]s tcp dport 80 goto ext
		fib daddr type local tcp dport %[6]d goto ext
	}
	chain prerouting { type nat hook prerouting priority -100; jump services; }
	chain output { type nat hook output priority -100; jump services; }
	chain postrouting { type nat hook postrouting priority 100; meta mark & 0x4000 == 0x4000 masquerade; }
}`, serviceHosts["web"], svl, ext, svc.ClusterIPs[0], svc.LoadBalancerIPs[0], svc.Ports[0].NodePort)
	cmd := node.Command(t.Context(), "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
}
