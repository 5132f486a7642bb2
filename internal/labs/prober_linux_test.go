package labs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/netlab"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/lb/probe"
)

// prober sends real probes from the addresses that Azure's come from, over cables beside the
// load balancer. It asks all the time, and answers with what it heard last, so nobody waits
// for a machine that says nothing. Only several attempts without an answer count as one
// failure, so that a machine stays healthy when everything here has to wait for a processor.
type prober struct {
	from *netlab.Namespace

	mu    sync.Mutex
	heard map[netip.Addr]probe.Result
	said  map[netip.Addr]answers
	known map[netip.Addr]answers // as said, as far as the load balancer has acted on it
	wrong error                  // of a probe that came from somewhere else
}

// answers are how often in a row the load balancer was told the same.
type answers struct {
	healthy bool
	row     int
}

const (
	probePause    = 50 * time.Millisecond
	probePatience = 400 * time.Millisecond // with one attempt
	probeMisses   = 3                      // in a row before a machine is taken for frozen: a pause of all that runs here costs one
)

func newProber(from *netlab.Namespace) *prober {
	from.Run(fmt.Sprintf("ip addr add %v/32 dev lo", probe.Source4))
	return &prober{from: from, heard: map[netip.Addr]probe.Result{}, said: map[netip.Addr]answers{}}
}

// reach lays a cable to a machine. The sources of probes are on the link, and what is sent
// there from the machine's address stays on it.
func (p *prober) reach(net *netlab.Lab, m *machine) {
	dev, link := fmt.Sprint("to", m.number), fmt.Sprintf("fe80::%d", 100+m.number)
	net.Veth(
		netlab.End{In: p.from, Dev: dev, Addrs: []string{probe.Source4.String() + "/32", probe.Source6.String() + "/64"}},
		netlab.End{In: m.Namespace, Dev: "eth0", Addrs: []string{link + "/64"}})
	p.from.Run(fmt.Sprintf("ip route add %v dev %s src %v", IPv4.Backend(m.number), dev, probe.Source4))
	p.from.Run(fmt.Sprintf("ip -6 route add %v via %s dev %s src %v", IPv6.Backend(m.number), link, dev, probe.Source6))
	m.Run(fmt.Sprintf("ip route add %v dev eth0 src %v", probe.Source4, IPv4.Backend(m.number)))
}

// start asks until the test ends.
func (p *prober) start(t *testing.T, backends []lb.Backend) {
	ctx, cancel := context.WithCancel(context.Background())
	var asking sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		asking.Wait()
		if p.wrong != nil {
			t.Error(p.wrong)
		}
	})
	for _, b := range backends {
		for _, a := range b.Addrs {
			asking.Go(func() {
				client := &http.Client{Transport: &http.Transport{DialContext: p.from.DialContext, DisableKeepAlives: true}, Timeout: probePatience}
				for misses := 0; ctx.Err() == nil; {
					r := p.ask(ctx, client, a)
					if misses++; r != probe.Failure {
						misses = 0
					}
					if misses == 0 || misses >= probeMisses {
						p.mu.Lock()
						p.heard[a] = r
						p.mu.Unlock()
					}
					time.Sleep(probePause)
				}
			})
		}
	}
}

// ask makes one probe.
func (p *prober) ask(ctx context.Context, client *http.Client, a netip.Addr) probe.Result {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%v/bytes?n=1", netip.AddrPortFrom(a, machineWeb)), nil)
	if err != nil {
		return probe.Failure
	}
	answer, err := client.Do(request)
	switch {
	case errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.ECONNREFUSED):
		return probe.Refusal
	case err != nil:
		return probe.Failure
	}
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	from, parseErr := netip.ParseAddrPort(answer.Header.Get("Client-Address"))
	switch source := from.Addr().WithZone(""); {
	case err != nil:
		return probe.Failure
	case answer.StatusCode != http.StatusOK:
		return probe.Refusal
	case parseErr != nil || source != probe.Source4 && source != probe.Source6:
		p.mu.Lock()
		p.wrong = fmt.Errorf("a probe of %v came from %v", a, from)
		p.mu.Unlock()
	}
	return probe.Success
}

// Probe implements probe.Prober.
func (p *prober) Probe(_ flow.Time, b probe.Backend, _ *probe.Probe) probe.Result {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.heard[b.Addr]
	said := p.said[b.Addr]
	if healthy := r == probe.Success; healthy != said.healthy {
		said = answers{healthy: healthy}
	}
	said.row++
	p.said[b.Addr] = said
	return r
}

// acted notes that the load balancer has acted on all that was said.
func (p *prober) acted() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.known = maps.Clone(p.said)
}

// told reports whether the load balancer was told, at both addresses of a machine and as
// often as its threshold demands, that it is healthy, or that it is not, and has acted on it.
func (p *prober) told(machine int, healthy bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range Families {
		if s := p.known[f.Backend(machine)]; s.healthy != healthy || s.row < probe.DefaultThreshold {
			return false
		}
	}
	return true
}
