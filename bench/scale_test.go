package bench

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/overlay"
)

// The largest cluster that AKS supports, with Services.
const (
	scaleNodes       = overlay.MaxNodes
	scalePodsPerNode = 40
	scaleServices    = 200
	scaleMemory      = 1 << 30 // before traffic
)

// newScaleCluster returns it: each pod serves one Service, of which a tenth are of type LoadBalancer.
func newScaleCluster(tb testing.TB) *overlay.Cluster {
	cfg := overlay.ClusterConfig{
		PodCIDRs:     []netip.Prefix{netip.MustParsePrefix("10.192.0.0/11")},
		ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("172.20.0.0/16")},
		DNSServiceIP: netip.MustParseAddr("172.20.0.10"),
		VNet: overlay.VNet{
			AddressSpaces: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/12")},
			Subnets:       []overlay.Subnet{{Name: "nodes", AddressPrefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/16")}}},
		},
		LoadBalancerProfile: overlay.LoadBalancerProfile{ManagedOutboundIPCount: 6, AllocatedOutboundPorts: 64},
	}
	for i := range scaleNodes / overlay.MaxNodesPerPool {
		cfg.NodePools = append(cfg.NodePools, overlay.NodePool{Name: fmt.Sprint("pool", i), Count: overlay.MaxNodesPerPool})
	}
	c, err := overlay.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	var endpoints [scaleServices][]overlay.Endpoint
	for i, n := range c.Nodes() {
		for k := range scalePodsPerNode {
			pod := fmt.Sprint("pod-", i, "-", k)
			if _, err := c.AddPod(n.Name, pod); err != nil {
				tb.Fatal(err)
			}
			of := &endpoints[(i*scalePodsPerNode+k)%scaleServices]
			*of = append(*of, overlay.Endpoint{Pod: pod})
		}
	}
	for i := range endpoints {
		svc := overlay.Service{Name: fmt.Sprint("service-", i), Ports: []overlay.ServicePort{{Port: 80, TargetPort: 8080}}}
		if i%10 == 0 {
			svc.Type = overlay.LoadBalancer
		}
		if _, err := c.AddService(0, svc); err != nil {
			tb.Fatal(err)
		}
		if err := c.SetEndpoints(svc.Name, endpoints[i]...); err != nil {
			tb.Fatal(err)
		}
	}
	return c
}

// memory returns what is allocated, by Go, the garbage left out.
func memory() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// BenchmarkScale builds the cluster: s/op is how long that takes.
func BenchmarkScale(b *testing.B) {
	b.Run(fmt.Sprintf("nodes=%d/pods=%d/services=%d", scaleNodes, scaleNodes*scalePodsPerNode, scaleServices), func(b *testing.B) {
		for b.Loop() {
			before := memory()
			c := newScaleCluster(b)
			b.StopTimer()
			b.ReportMetric(float64(memory()-before+uint64(c.Stats().Bytes))/(1<<20), "MiB")
			c.Close()
			b.StartTimer()
		}
	})
}

// The largest cluster takes at most 1 GiB before its first packet.
func TestScaleMemory(t *testing.T) {
	pkttest.OneGoroutine(t)
	if testing.Short() {
		t.Skip("builds 200,000 pods")
	}
	before := memory()
	c := newScaleCluster(t)
	defer c.Close()
	pods, services := 0, c.Services()
	for range c.Pods() {
		pods++
	}
	if n := len(c.Nodes()); n != scaleNodes || pods != scaleNodes*scalePodsPerNode || len(services) != scaleServices {
		t.Fatalf("%d nodes, %d pods, %d Services", n, pods, len(services))
	}
	for _, s := range services {
		if len(s.Endpoints) != pods/scaleServices {
			t.Errorf("%s has %d endpoints", s.Name, len(s.Endpoints))
		}
	}
	heap, mapped := memory()-before, uint64(c.Stats().Bytes)
	t.Logf("%d MiB of Go's heap, %d MiB mapped", heap>>20, mapped>>20)
	if heap+mapped > scaleMemory {
		t.Errorf("%d MiB, at most %d", (heap+mapped)>>20, scaleMemory>>20)
	}
}
