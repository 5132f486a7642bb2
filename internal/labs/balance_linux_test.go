package labs

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/netlab"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/lb/probe"
)

// site is the frontend's socket of a family.
func site(f Family) netip.AddrPort { return netip.AddrPortFrom(f.Frontend, 80) }

// health answers a load balancer's probes: by a real TCP handshake with the backend, unless
// a test says that the backend is ill.
type health struct {
	mu   sync.Mutex
	from *netlab.Namespace // whose host knows the way to backends; nil before there is one
	ill  map[netip.Addr]bool
	told map[netip.Addr]probe.Result // the last answers
}

func (h *health) Probe(_ flow.Time, b probe.Backend, p *probe.Probe) probe.Result {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := probe.Failure
	if h.from != nil && !h.ill[b.Addr] {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if c, err := h.from.DialContext(ctx, "tcp", netip.AddrPortFrom(b.Addr, p.Port).String()); err == nil {
			c.Close()
			r = probe.Success
		}
	}
	h.told[b.Addr] = r
	return r
}

// set makes backends ill, the others well.
func (h *health) set(ill ...int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range Families {
		for i := range 2 {
			h.ill[f.Backend(i)] = slices.Contains(ill, i)
		}
	}
}

// await waits until the load balancer knows that backends are down, and the others up.
func (h *health) await(t *testing.T, down ...int) {
	t.Helper()
	eventually(t, fmt.Sprint("the load balancer has found these backends down, and no other: ", down), func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, f := range Families {
			for i := range 2 {
				if r, asked := h.told[f.Backend(i)]; !asked || (r == probe.Success) == slices.Contains(down, i) {
					return false
				}
			}
		}
		return true
	})
	time.Sleep(100 * time.Millisecond) // it has the answer, and is about to act on it
}

// balance runs a lab around a load balancer with a rule for the web in each family, and two
// backends.
func balance(t *testing.T) (*Lab, []*Backend, *health) {
	t.Helper()
	netlab.Require(t)
	h := &health{ill: map[netip.Addr]bool{}, told: map[netip.Addr]probe.Result{}}
	c := lb.Config{
		Probes: []probe.Probe{{Name: "tcp", Port: PortHTTP, Interval: 5 * time.Second, ProbeThreshold: 1}},
		Prober: h,
	}
	pool := lb.BackendAddressPool{Name: "pool"}
	for i := range 2 {
		name := fmt.Sprint("backend", i)
		c.Backends = append(c.Backends, lb.Backend{Name: name, Addrs: []netip.Addr{IPv4.Backend(i), IPv6.Backend(i)}})
		pool.Backends = append(pool.Backends, name)
	}
	c.BackendAddressPools = []lb.BackendAddressPool{pool}
	for _, f := range Families {
		c.FrontendIPConfigurations = append(c.FrontendIPConfigurations, lb.FrontendIPConfiguration{Name: f.Name, PublicIPAddress: f.Frontend})
		c.LoadBalancingRules = append(c.LoadBalancingRules, lb.LoadBalancingRule{
			Name: "web" + f.Name, FrontendIPConfiguration: f.Name, BackendAddressPool: "pool",
			FrontendPort: site(f).Port(), BackendPort: PortHTTP, Probe: "tcp", DisableOutboundSNAT: true,
		})
	}
	balancer, err := lb.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(balancer.Close)
	l := New(t, balancer)
	t.Cleanup(func() {
		if err := l.Stop(); err != nil {
			t.Error(err)
		}
	})
	backends := l.Backends(t, 2)
	h.mu.Lock()
	h.from = l.Client
	h.mu.Unlock()
	return l, backends, h
}

// regular is a visitor with a connection that it keeps.
type regular struct {
	f       Family
	c       *http.Client
	backend string
}

// visit makes a request over the connection of a visitor.
func (r *regular) visit(ctx context.Context) error {
	by, err := r.f.Visit(ctx, r.c, site(r.f), 5000)
	if err == nil && by != r.backend {
		err = fmt.Errorf("%s has answered instead of %s: the connection has been lost", by, r.backend)
	}
	return err
}

// regulars returns a visitor of each backend in each family.
func regulars(t *testing.T, l *Lab) (all []*regular) {
	t.Helper()
	for _, f := range Families {
		for _, backend := range []string{"backend0", "backend1"} {
			for found := false; !found; {
				r := &regular{f, l.Visitor(true), backend}
				by, err := f.Visit(t.Context(), r.c, site(f), 1)
				if err != nil {
					t.Fatal(err)
				}
				if found = by == backend; found {
					t.Cleanup(r.c.CloseIdleConnections)
					all = append(all, r)
				} else {
					r.c.CloseIdleConnections()
				}
			}
		}
	}
	return all
}

// newcomers makes new connections, and returns how many each backend has served.
func newcomers(t *testing.T, l *Lab, n int) map[string]int {
	t.Helper()
	served := map[string]int{}
	for _, f := range Families {
		c := l.Visitor(false)
		for range n {
			by, err := f.Visit(t.Context(), c, site(f), 1000)
			if err != nil {
				t.Fatalf("%s: %v", f.Name, err)
			}
			served[by]++
		}
	}
	return served
}

// A web site behind a frontend is served by two hosts. Its clients see nothing but the
// frontend: the lab's audit knows. What becomes of connections when backends go down, by
// what real probes find, is as Azure's document about probes says, for the Standard SKU.
func TestLabBalance(t *testing.T) {
	if testing.Short() {
		t.Skip("probes need 20 s to find out, of the real clock")
	}
	l, backends, h := balance(t)
	h.await(t)
	// Of 60 connections fewer than 5 go to one of two backends once in a trillion times.
	if served := newcomers(t, l, 30); served["backend0"] < 5 || served["backend1"] < 5 || len(served) != 2 {
		t.Errorf("both are up: %v", served)
	}
	all := regulars(t, l)
	visit := func(what string, dead string) {
		t.Helper()
		for _, r := range all {
			if err := r.visit(t.Context()); (err == nil) == (r.backend == dead) {
				t.Errorf("%s, a connection to %s over %s: %v", what, r.backend, r.f.Name, err)
			}
		}
	}

	h.set(0)
	h.await(t, 0)
	if served := newcomers(t, l, 10); served["backend1"] != 20 {
		t.Errorf("backend0 is down: %v", served)
	}
	visit("backend0 is down", "")

	h.set(0, 1)
	h.await(t, 0, 1)
	for _, f := range Families {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		c, err := l.Server.DialContext(ctx, "tcp", site(f).String())
		cancel()
		if err == nil {
			c.Close()
		}
		if netErr := net.Error(nil); !errors.As(err, &netErr) || !netErr.Timeout() {
			t.Errorf("all are down: a SYN over %s was answered: %v", f.Name, err)
		}
	}
	visit("all are down", "")

	h.set()
	h.await(t)
	if err := backends[0].Kill(); err != nil {
		t.Fatal(err)
	}
	visit("backend0 has been killed", "backend0")
	h.await(t, 0)
	if served := newcomers(t, l, 10); served["backend1"] != 20 {
		t.Errorf("backend0 is dead: %v", served)
	}
	visit("backend0 is dead", "backend0")
}
