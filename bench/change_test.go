package bench

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/snat"
)

// BenchmarkChange adds something to a running cluster and takes it away again, while
// another goroutine sends segments of established connections of pods, packet by packet.
// ns/op is what both changes take. hold-up-µs is the longest that a packet has taken in a
// round of a millisecond or more, of the round where that was least: the rest is what else
// the machine does, which what=nothing shows.
func BenchmarkChange(b *testing.B) {
	nodes := 4990 // of 5,000
	if testing.Short() {
		nodes = 500
	}
	const flows = 1024
	c, pods := newCluster(b, nodes*portsPerInstance, false)
	defer c.Close()
	t := podTraffic(b, c, pods, flows)
	all := c.Nodes()
	if _, err := c.AddService(0, overlay.Service{Name: "web", Type: overlay.LoadBalancer, Ports: []overlay.ServicePort{{Port: 443}}}); err != nil {
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
	must := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
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
			_, err := c.AddService(0, overlay.Service{Name: "inner", Ports: []overlay.ServicePort{{Port: 80}}})
			must(err)
			must(c.RemoveService(0, "inner"))
		}},
		{"loadbalancer", func() {
			_, err := c.AddService(0, overlay.Service{Name: "outer", Type: overlay.LoadBalancer, Ports: []overlay.ServicePort{{Port: 80}}})
			must(err)
			must(c.RemoveService(0, "outer"))
		}},
		{"node", func() {
			names, _, err := c.AddNodes(0, all[nodes-1].Pool, 1)
			must(err)
			_, err = c.RemoveNodes(0, names...)
			must(err)
		}},
		{"outboundip", func() {
			cfg := c.Config()
			for _, more := range []int{1, -1} {
				cfg.LoadBalancerProfile.ManagedOutboundIPCount += more
				_, err := c.Reconfigure(0, cfg)
				must(err)
			}
		}},
	} {
		b.Run(fmt.Sprintf("what=%s/nodes=%d", change.name, nodes), func(b *testing.B) {
			var longest atomic.Int64 // of the round
			var stop atomic.Bool
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				pkts := buffers(1)
				for !stop.Load() {
					t.copyIn(pkts)
					start := time.Now()
					v := c.Outbound(0, pkts[0])
					if took := int64(time.Since(start)); took > longest.Load() {
						longest.Store(took)
					}
					if v.Action != flow.Forward {
						panic(v.Reason)
					}
				}
			}()
			least, elapsed, done := time.Hour, time.Duration(0), 0
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
			stop.Store(true)
			<-ended
			b.ReportMetric(float64(elapsed)/float64(done), "ns/op")
			b.ReportMetric(float64(least)/1e3, "hold-up-µs")
		})
	}
}
