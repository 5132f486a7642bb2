package labs

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/netlab"
	"github.com/seed-a61be3fe/natplane/snat"
)

// hop is a translator that carries ICMP and counts as a hop.
func hop() snat.Config {
	return snat.Config{Dataplane: snat.Dataplane{ICMP: snat.ICMP{
		Queries: true, Errors: true, TTL: snat.TTLRouter, ErrorRate: 1000, ErrorBurst: 1000,
		RouterAddrs: []netip.Addr{IPv4.Router, IPv6.Router},
	}}}
}

// farMTU is that of the cable to the far host.
const farMTU = 1300

// extend puts another host, far, behind the server, which becomes a router to
// it over a cable of a smaller MTU, and returns it, with its address in each
// family.
func (l *Lab) extend(t *testing.T) (far *netlab.Namespace, at map[Family]netip.Addr) {
	t.Helper()
	far = l.Net.Namespace("far")
	l.Net.Veth(
		netlab.End{In: l.Server, Dev: "eth0", Addrs: []string{"192.0.2.1/24", "2001:db8:81::1/64"}},
		netlab.End{In: far, Dev: "eth0", Addrs: []string{"192.0.2.2/24", "2001:db8:81::2/64"}})
	l.Server.Sysctl("net.ipv4.ip_forward", "1")
	l.Server.Sysctl("net.ipv6.conf.all.forwarding", "1")
	for _, n := range []*netlab.Namespace{l.Server, far} {
		n.Run(fmt.Sprint("ip link set eth0 mtu ", farMTU))
		n.Sysctl("net.ipv4.icmp_ratelimit", "0") // every probe shall be answered
		n.Sysctl("net.ipv6.icmp.ratelimit", "0")
	}
	// It offers segments as if its cable were as wide as others.
	far.Run("ip route add default via 192.0.2.1 advmss 1460")
	far.Run("ip -6 route add default via 2001:db8:81::1 advmss 1440")
	return far, map[Family]netip.Addr{IPv4: netip.MustParseAddr("192.0.2.2"), IPv6: netip.MustParseAddr("2001:db8:81::2")}
}

func TestLabPing(t *testing.T) {
	l, nat := startWith(t, hop(), 1024, "ping")
	families(t, func(t *testing.T, f Family) {
		before := nat.Stats()
		for _, size := range []string{"0", "56", "1400"} {
			out := l.Client.Run("ping -n -c 3 -i 0.05 -W 60 -s " + size + " " + f.Server.String())
			if !strings.Contains(out, " bytes from "+f.Server.String()) { // ping does not wait long for the last ones
				t.Error(out)
			}
		}
		eventually(t, "nine requests and their replies have crossed", func() bool {
			s := nat.Stats()
			return s.Outbound.Forwarded-before.Outbound.Forwarded >= 9 && s.Inbound.Forwarded-before.Inbound.Forwarded >= 9
		})
		s := nat.Stats()
		if n := s.SessionsCreated - before.SessionsCreated; n == 0 || n > 3 {
			t.Errorf("%d sessions for 3 runs of ping", n)
		}
		// What cannot go on is told to its sender by an error that ping believes.
		out, err := l.Client.Try("ping -n -c 1 -t 1 -W 60 " + f.Server.String())
		if err == nil || !strings.Contains(strings.ToLower(out), "from "+f.Router.String()) || !strings.Contains(out, "Time") {
			t.Errorf("ping with TTL 1 does not say that %v has discarded it:\n%s", f.Router, out)
		}
		if n := nat.Stats().ICMPErrors - s.ICMPErrors; n == 0 {
			t.Error("the translator has sent no error")
		}
	})
}

// The translator is the first hop, the server the second, and the far host the
// third: its answer is an error about a probe that it has seen translated.
func TestLabTraceroute(t *testing.T) {
	l, _ := startWith(t, hop(), 1024, "traceroute")
	_, at := l.extend(t)
	families(t, func(t *testing.T, f Family) {
		for _, how := range []string{"-U -p 33434", "-I", "-T -p 80"} {
			want := fmt.Sprint([]string{f.Router.String(), f.Server.String(), at[f].String()})
			var got, out string
			// The program sometimes misses an answer that comes within microseconds.
			for tries := 0; got != want && tries < 5; tries++ {
				out = l.Client.Run("traceroute -n -q 1 -N 1 -w 5 -m 5 " + how + " " + at[f].String())
				var hops []string
				for _, m := range regexp.MustCompile(`(?m)^ *\d+ +(\S+)`).FindAllStringSubmatch(out, -1) {
					hops = append(hops, m[1])
				}
				got = fmt.Sprint(hops)
			}
			if got != want {
				t.Errorf("traceroute %s: hops %v, want %v\n%s", how, got, want, out)
			}
		}
	})
}

// A hop behind the translator has a smaller MTU and says so: the client's kernel
// learns it from the translated error, and the transfer goes on with shorter
// packets.
func TestLabPathMTU(t *testing.T) {
	l, nat := startWith(t, hop(), 1024)
	far, at := l.extend(t)
	families(t, func(t *testing.T, f Family) {
		before := nat.Stats()
		const size = 1 << 20
		if err := upload(t, l.Client, far, netip.AddrPortFrom(at[f], 80), size); err != nil {
			t.Fatal(err)
		}
		if route := l.Client.Run("ip route get " + at[f].String()); !strings.Contains(route, fmt.Sprint("mtu ", farMTU)) {
			t.Errorf("the client has not learned the MTU of %d:\n%s", farMTU, route)
		}
		s := nat.Stats()
		if n := s.SessionsCreated - before.SessionsCreated; n != 1 {
			t.Errorf("%d sessions, want the one of the upload", n)
		}
		if n := s.Inbound.Drops[flow.ReasonICMPNoFlow] - before.Inbound.Drops[flow.ReasonICMPNoFlow]; n != 0 {
			t.Errorf("%d errors belonged to no flow", n)
		}
	})
}
