package labs

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
)

// A site of two machines behind one frontend of each family, with real clients all the time,
// while the machines come and go: what becomes of connections and of UDP flows is the table
// of Azure's document about probes, for Standard. At the same time the machines call the
// Internet by the same frontend, and one of them is reached by an inbound NAT rule.
func TestLabBalance(t *testing.T) {
	for _, floating := range []bool{false, true} {
		if floating && testing.Short() {
			continue // half a minute for both
		}
		t.Run(fmt.Sprint("floating=", floating), func(t *testing.T) {
			p := newPool(t, floating)
			quiet := quietConnections(t, p)
			l := newLoad(t, p)
			defer l.end()
			both := func(begin func(*testing.T, Family) *talk) []*talk {
				return slices.Concat(l.each(t, IPv4, 2, begin), l.each(t, IPv6, 2, begin))
			}
			connections, flows := both(l.connect), both(l.send)
			l.expect(p.machines...)
			p.newcomers(t, "both serve", p.machines...)
			p.inboundNAT(t)

			a, b := p.machines[0], p.machines[1]
			connections = append(with(b, connections), killed(t, p, l, connections, flows)...)
			drained(t, p, l, connections, flows)
			frozen(t, p, l, connections, flows)
			allDown(t, p, l, connections, flows)

			alive(t, "to the end", with(a, connections), a)
			alive(t, "to the end", with(b, connections), b)
			quiet(t)
			if l.served.Load() == 0 {
				t.Error("there was no load")
			}
		})
	}
}

// killed kills the program of the first machine: its kernel ends the connections, and tells
// UDP clients. Whatever is new goes to the other. The result is connections with the first
// machine, when it serves again.
func killed(t *testing.T, p *pool, l *load, connections, flows []*talk) (again []*talk) {
	t.Helper()
	a, b := p.machines[0], p.machines[1]
	l.expect()
	a.program.Stop(syscall.SIGKILL)
	dead(t, "its machine was killed", with(a, connections))
	p.settled(a, false)
	l.expect(b)
	p.newcomers(t, "one machine was killed", b)
	alive(t, "the other machine was killed", with(b, connections), b)
	alive(t, "one machine was killed, UDP moves", flows, b)

	l.expect()
	a.program = launchBackend(t, a.Namespace, a.sockets)
	p.settled(a, true)
	l.expect(a, b)
	p.newcomers(t, "the machine is back", a, b)
	alive(t, "the other machine is back", with(b, connections), b)
	for _, f := range Families {
		again = append(again, with(a, l.each(t, f, 2, l.connect))...)
	}
	return again
}

// drained lets the first machine refuse new connections, as one that is to be taken out of
// service: those that are established stay on it.
func drained(t *testing.T, p *pool, l *load, connections, flows []*talk) {
	t.Helper()
	a, b := p.machines[0], p.machines[1]
	l.expect()
	a.program.Signal(refuse)
	p.settled(a, false)
	l.expect(b)
	p.newcomers(t, "one machine refuses", b)
	alive(t, "the machine is down", with(a, connections), a)
	alive(t, "the other machine is down", with(b, connections), b)
	alive(t, "one machine is down, UDP moves", flows, b)

	l.expect()
	a.program.Signal(accept)
	p.settled(a, true)
	l.expect(a, b)
	p.newcomers(t, "the machine accepts again", a, b)
}

// frozen cuts the second machine off for a while. Its connections wait, since nobody ends
// them and nobody else gets them, and go on without loss.
func frozen(t *testing.T, p *pool, l *load, connections, flows []*talk) {
	t.Helper()
	a, b := p.machines[0], p.machines[1]
	l.expect()
	b.freeze()
	p.settled(b, false)
	l.expect(a)
	p.newcomers(t, "one machine is frozen", a)
	alive(t, "the other machine is frozen", with(a, connections), a)
	alive(t, "one machine is frozen, UDP moves", flows, a)

	l.expect()
	b.thaw()
	p.settled(b, true)
	l.expect(a, b)
	p.newcomers(t, "the machine has thawed", a, b)
	alive(t, "the machine was frozen", with(b, connections), b)
	alive(t, "the other machine has thawed", with(a, connections), a)
}

// allDown lets all machines refuse: established connections go on, what is new is not
// answered at all, and UDP is silent.
func allDown(t *testing.T, p *pool, l *load, connections, flows []*talk) {
	t.Helper()
	a, b := p.machines[0], p.machines[1]
	l.expect()
	for _, m := range p.machines {
		m.program.Signal(refuse)
	}
	p.settled(a, false)
	p.settled(b, false)
	for _, f := range Families {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		c, err := p.Server.DialContext(ctx, "tcp", site(f).String())
		cancel()
		if err == nil {
			c.Close()
		}
		if netErr := net.Error(nil); !errors.As(err, &netErr) || !netErr.Timeout() {
			t.Errorf("%s: all machines are down, and a SYN was answered: %v", f.Name, err)
		}
	}
	if n := p.balancer.Stats().Inbound.Drops[flow.ReasonNoTarget]; n < 2 {
		t.Errorf("%d packets dropped as %v, want each SYN", n, flow.ReasonNoTarget)
	}
	alive(t, "all machines are down", with(a, connections), a)
	alive(t, "all machines are down", with(b, connections), b)
	time.Sleep(pace) // an answer may have been under way
	silent := make([]int64, len(flows))
	for i, tk := range flows {
		silent[i] = tk.answers.Load()
	}
	time.Sleep(5 * pace)
	for i, tk := range flows {
		if n := tk.answers.Load() - silent[i]; n != 0 {
			t.Errorf("all machines are down, and %s was answered %d times", tk.what, n)
		}
	}

	for _, m := range p.machines {
		m.program.Signal(accept)
	}
	p.settled(a, true)
	p.settled(b, true)
	l.expect(a, b)
	p.newcomers(t, "all machines accept again", a, b)
	alive(t, "all machines accept again", flows, nil)
}

// newcomers makes new connections until each of some machines has served some, and demands
// that no other has.
func (p *pool) newcomers(t *testing.T, why string, machines ...*machine) {
	t.Helper()
	for _, f := range Families {
		c, served := p.Visitor(false), map[string]int{}
		for range 10 * len(machines) { // so both but once in 2^19
			by, err := f.Visit(t.Context(), c, site(f), 1000)
			if err != nil {
				t.Fatalf("%s: %s: %v", why, f.Name, err)
			}
			served[by]++
		}
		for _, m := range machines {
			if served[m.Name()] == 0 {
				t.Errorf("%s: %s: %s has served nobody: %v", why, f.Name, m.Name(), served)
			}
			delete(served, m.Name())
		}
		if len(served) > 0 {
			t.Errorf("%s: %s: also served: %v", why, f.Name, served)
		}
	}
}

// inboundNAT reaches one machine, whichever others there are, by the port that is its own. A
// datagram that nobody is there for is answered by the machine's kernel, in an ICMP error
// that the client's understands.
func (p *pool) inboundNAT(t *testing.T) {
	t.Helper()
	for _, f := range Families {
		client, server := p.connectOne(t, f)
		echo(t, client, server)

		ctx, cancel := context.WithTimeout(t.Context(), labTimeout)
		c, err := p.Server.DialContext(ctx, "udp", netip.AddrPortFrom(f.Frontend, portOne).String())
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		eventually(t, f.Name+": the client hears that nobody is there", func() bool {
			_, err := fmt.Fprint(c, "hello")
			return errors.Is(err, syscall.ECONNREFUSED)
		})
	}
}

// connectOne returns both ends of a connection by the inbound NAT rule.
func (p *pool) connectOne(t *testing.T, f Family) (client, server net.Conn) {
	t.Helper()
	at := netip.AddrPortFrom(f.Backend(0), machineOne).String()
	return join(t, p.Server, netip.AddrPortFrom(f.Frontend, portOne).String(), p.machines[0].Namespace, at)
}

// quietConnections begins connections on which nothing is said. After the 4 minutes of the
// rule both ends must be told.
func quietConnections(t *testing.T, p *pool) (end func(*testing.T)) {
	t.Helper()
	var ends []net.Conn
	for _, f := range Families {
		client, server := p.connectOne(t, f)
		echo(t, client, server)
		ends = append(ends, client, server)
	}
	return func(t *testing.T) {
		t.Helper()
		for _, c := range ends {
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("%v - %v: %v, want %v", c.LocalAddr(), c.RemoteAddr(), err, syscall.ECONNRESET)
			}
		}
		if n := p.balancer.Stats().Resets; n < uint64(len(ends)) {
			t.Errorf("%d resets for %d ends", n, len(ends))
		}
	}
}
