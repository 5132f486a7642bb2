package bench

import (
	"fmt"
	"net/netip"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/snat"
)

// BenchmarkChange adds something to a running cluster and takes it away again, while
// another goroutine sends segments of established connections: pods' to the Internet (from=inside),
// or clients' to a Service (from=outside). ns/op is what both changes take. hold-up-µs is the longest that a call,
// with a packet or a batch of them, has taken in a round of a millisecond or more, of the round where that was least:
// the rest is what else the machine does, which what=nothing shows. MB/op is what both changes allocate.
func BenchmarkChange(b *testing.B) {
	nodes := 4990 // of 5,000
	if testing.Short() {
		nodes = 500
	}
	const flows = 1024
	c, pods := newCluster(b, nodes*portsPerInstance, false)
	defer c.Close()
	inside := podTraffic(b, c, pods, flows)
	all := c.Nodes()
	status, err := c.AddService(0, overlay.Service{Name: "web", Type: overlay.LoadBalancer, Ports: []overlay.ServicePort{{Port: 443, TargetPort: 8443}}})
	if err != nil {
		b.Fatal(err)
	}
	var endpoints []overlay.Endpoint
	for p := range c.Pods() {
		if len(endpoints) < nodes {
			endpoints = append(endpoints, overlay.Endpoint{Pod: p.Name})
		}
	}
	if err := c.SetEndpoints("web", endpoints...); err != nil {
		b.Fatal(err)
	}
	w := &serviceWorld{c: c, public: netip.AddrPortFrom(status.LoadBalancerIPs[0], 443)}
	w.probed()
	w.establish(b, flows)
	now, outside := w.now, w.traffic(flow.Outside)
	must := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	addNode := func() []string {
		names, _, err := c.AddNodes(now, all[nodes-1].Pool, 1)
		must(err)
		return names
	}
	removeNodes := func(names []string) {
		_, err := c.RemoveNodes(now, names...)
		must(err)
	}
	service := func(name string, idle string) {
		s := overlay.Service{Name: name, Type: overlay.LoadBalancer, Ports: []overlay.ServicePort{{Port: 80}}}
		if idle != "" {
			s.Annotations = map[string]string{"service.beta.kubernetes.io/azure-load-balancer-tcp-idle-timeout": idle}
		}
		_, err := c.AddService(now, s)
		must(err)
		must(c.RemoveService(now, name))
	}
	for _, change := range []struct {
		name string
		do   func()
	}{
		{"nothing", func() { time.Sleep(time.Millisecond) }},
		{"pod", func() {
			_, err := c.AddPod(all[0].Name, "another")
			must(err)
			must(c.SetEndpoints("web", append(endpoints[:len(endpoints):len(endpoints)], overlay.Endpoint{Pod: "another"})...))
			must(c.RemovePod("another"))
		}},
		{"hostport", func() {
			_, err := c.AddPod(all[0].Name, "another")
			must(err)
			_, err = c.OpenHostPorts("another", "another", []overlay.ContainerPort{{Protocol: snat.TCP, Port: 80, HostPort: 8080}}, "")
			must(err)
			must(c.RemovePod("another"))
		}},
		{"clusterip", func() {
			_, err := c.AddService(now, overlay.Service{Name: "inner", Ports: []overlay.ServicePort{{Port: 80}}})
			must(err)
			must(c.RemoveService(now, "inner"))
		}},
		{"loadbalancer", func() { service("outer", "") }},
		{"policy", func() { service("patient", "30") }}, // a Service whose connections may idle for longer than all others
		{"node", func() { removeNodes(addNode()) }},
		{"busynode", func() { // whose pod has as many flows as there are ports when it goes
			names := addNode()
			p, err := c.AddPod(names[0], "another")
			must(err)
			pkt := buffers(1)[0]
			for i := range portsPerInstance {
				if v := c.Outbound(now, tcp(pkt, netip.AddrPortFrom(p.Addrs[0], uint16(20_000+i)), remote(false), flow.SYN)); v.Action != flow.Forward {
					b.Fatal(v.Reason)
				}
			}
			removeNodes(names)
		}},
		{"outboundip", func() {
			cfg := c.Config()
			for _, more := range []int{1, -1} {
				cfg.LoadBalancerProfile.ManagedOutboundIPCount += more
				_, err := c.Reconfigure(now, cfg)
				must(err)
			}
		}},
	} {
		for _, sender := range []struct {
			from  flow.Side
			batch int
		}{{flow.Inside, 1}, {flow.Inside, batch}, {flow.Outside, 1}, {flow.Outside, batch}} {
			b.Run(fmt.Sprintf("what=%s/nodes=%d/from=%v/batch=%d", change.name, nodes, sender.from, sender.batch), func(b *testing.B) {
				var longest atomic.Int64 // of the round
				var stop atomic.Bool
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					pkts, verdicts := buffers(sender.batch), make([]flow.Verdict, sender.batch)
					for !stop.Load() {
						if sender.from == flow.Inside {
							inside.copyIn(pkts)
						} else {
							outside.copyIn(pkts)
						}
						start := time.Now()
						w.sendAny(sender.from, pkts, verdicts)
						if took := int64(time.Since(start)); took > longest.Load() {
							longest.Store(took)
						}
						for i := range verdicts {
							if verdicts[i].Action != flow.Forward {
								panic(verdicts[i].Reason)
							}
						}
					}
				}()
				least, elapsed, done := time.Hour, time.Duration(0), 0
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				for b.Loop() {
					longest.Store(0)
					for start := time.Now(); ; {
						change.do()
						done++
						if took := time.Since(start); took > time.Millisecond {
							elapsed += took
							break
						}
					}
					if took := time.Duration(longest.Load()); took > 0 {
						least = min(least, took)
					}
				}
				runtime.ReadMemStats(&after)
				stop.Store(true)
				<-ended
				b.ReportMetric(float64(elapsed)/float64(done), "ns/op")
				b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/float64(done)/1e6, "MB/op")
				b.ReportMetric(float64(least)/1e3, "hold-up-µs")
			})
		}
	}
}
