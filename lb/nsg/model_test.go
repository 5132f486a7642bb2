package nsg

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
)

// model decides by reading the configuration's texts anew for every flow.
type model struct{ Config }

func (m model) evaluate(f Flow) Decision {
	at := f.Interface
	if !at.IsValid() {
		if at = f.Source.Addr(); f.Direction == Inbound {
			at = f.Destination.Addr()
		}
	}
	subnet, nic := "", ""
	for _, s := range m.Subnets {
		for _, p := range s.AddressPrefixes {
			if p.Contains(at) {
				subnet = s.NetworkSecurityGroup
			}
		}
	}
	for _, n := range m.NetworkInterfaces {
		if slices.Contains(n.Addrs, at) {
			nic = n.NetworkSecurityGroup
		}
	}
	switch {
	case subnet == "" && nic == "" && (f.Direction == Outbound || m.WithoutGroup == Open):
		return Decision{Access: Allow}
	case subnet == "" && nic == "":
		return m.ask(NetworkSecurityGroup{}, NoLevel, f)
	case subnet == "":
		return m.ask(m.group(nic), InterfaceLevel, f)
	case nic == "":
		return m.ask(m.group(subnet), SubnetLevel, f)
	}
	first, second := m.ask(m.group(subnet), SubnetLevel, f), m.ask(m.group(nic), InterfaceLevel, f)
	if f.Direction == Outbound {
		first, second = second, first
	}
	if first.Access == Deny {
		return first
	}
	return second
}

func (m model) group(name string) NetworkSecurityGroup {
	return m.NetworkSecurityGroups[slices.IndexFunc(m.NetworkSecurityGroups, func(g NetworkSecurityGroup) bool { return g.Name == name })]
}

func (m model) ask(g NetworkSecurityGroup, level Level, f Flow) Decision {
	rules := append(slices.Clone(g.SecurityRules), DefaultRules(f.Direction)...)
	slices.SortFunc(rules, func(a, b SecurityRule) int { return a.Priority - b.Priority })
	toPlatform := f.Direction == Outbound && (f.Destination.Addr().String() == "168.63.129.16" || f.Destination.Addr().String() == "169.254.169.254")
	for _, r := range rules {
		if r.Direction != f.Direction || !m.fits(r, f) {
			continue
		}
		if toPlatform && (len(r.DestinationAddressPrefixes) != 1 || !strings.HasPrefix(r.DestinationAddressPrefixes[0], "AzurePlatform")) {
			continue
		}
		return Decision{r.Access, level, g.Name, r.Name, r.Priority}
	}
	return Decision{Allow, level, g.Name, "AzurePlatform", 0} // only the platform meets no default rule
}

func (m model) fits(r SecurityRule, f Flow) bool {
	protocols := map[Protocol][]uint8{TCP: {6}, UDP: {17}, ICMP: {1, 58}, ESP: {50}, AH: {51}}
	if r.Protocol != Any && !slices.Contains(protocols[r.Protocol], f.Protocol) {
		return false
	}
	ported := f.Protocol == 6 || f.Protocol == 17 || f.Protocol == 132
	return m.addrFits(r.SourceAddressPrefixes, r.SourceApplicationSecurityGroups, f.Source.Addr()) &&
		m.addrFits(r.DestinationAddressPrefixes, r.DestinationApplicationSecurityGroups, f.Destination.Addr()) &&
		portFits(r.SourcePortRanges, ported, f.Source.Port()) && portFits(r.DestinationPortRanges, ported, f.Destination.Port())
}

func (m model) addrFits(texts, groups []string, a netip.Addr) bool {
	for _, g := range m.ApplicationSecurityGroups {
		if slices.Contains(groups, g.Name) && slices.Contains(g.Addrs, a) {
			return true
		}
	}
	return slices.ContainsFunc(texts, func(text string) bool {
		if one, err := netip.ParseAddr(text); err == nil {
			return one == a
		}
		if p, err := netip.ParsePrefix(text); err == nil {
			return p.Contains(a)
		}
		host := a.String() == "168.63.129.16"
		platform := host || a.String() == "169.254.169.254" || a.Is6() && a.IsLinkLocalUnicast()
		local := host || slices.ContainsFunc(m.VirtualNetwork, func(p netip.Prefix) bool { return p.Contains(a) })
		switch strings.ToLower(text) {
		case "*", "any":
			return true
		case "virtualnetwork":
			return local
		case "internet":
			return !local && !platform
		case "azureloadbalancer":
			return host || a.Is6() && a.IsLinkLocalUnicast()
		case "azureplatformdns":
			return host
		case "azureplatformimds":
			return a.String() == "169.254.169.254"
		}
		return slices.ContainsFunc(m.ServiceTags, func(t ServiceTag) bool {
			return t.Name == text && slices.ContainsFunc(t.Prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
		})
	})
}

func portFits(texts []string, ported bool, port uint16) bool {
	covered := map[int]bool{}
	for _, text := range texts {
		if text == "*" {
			return true
		}
		first, last, ok := strings.Cut(text, "-")
		if !ok {
			last = first
		}
		a, _ := strconv.Atoi(first)
		b, _ := strconv.Atoi(last)
		if ported && a <= int(port) && int(port) <= b || a == 0 && b == 0xffff {
			return true
		}
		if !ported { // together they may be all ports there are
			for p := a; p <= b; p++ {
				covered[p] = true
			}
		}
	}
	return len(texts) == 0 || len(covered) == 1<<16
}

// world makes configurations and flows that have much to do with each other.
type world struct{ *rand.Rand }

func (w world) pick(of ...string) string { return of[w.IntN(len(of))] }

// addr returns one of few addresses, or any.
func (w world) addr(is6 bool) netip.Addr {
	if !is6 {
		if w.IntN(12) == 0 {
			return netip.MustParseAddr(w.pick("168.63.129.16", "169.254.169.254", "0.0.0.0", "255.255.255.255"))
		}
		return netip.AddrFrom4([4]byte{byte(10 + w.IntN(3)), byte(w.IntN(2)), byte(w.IntN(2)), byte(w.IntN(4))})
	}
	if w.IntN(12) == 0 {
		return netip.MustParseAddr(w.pick("fe80::1234:5678:9abc", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"))
	}
	a := netip.MustParseAddr("fd00::").As16()
	a[1], a[7], a[15] = byte(w.IntN(2)), byte(w.IntN(2)), byte(w.IntN(4))
	return netip.AddrFrom16(a)
}

// host returns an address that an interface can have.
func (w world) host(is6 bool) netip.Addr {
	for {
		if a := w.addr(is6); a.IsPrivate() {
			return a
		}
	}
}

func (w world) prefix(is6 bool) netip.Prefix {
	a := w.addr(is6)
	lengths := []int{0, 7, 8, 16, 24, 31, 32}
	if is6 {
		lengths = []int{0, 10, 16, 64, 126, 128}
	}
	return netip.PrefixFrom(a, lengths[w.IntN(len(lengths))]).Masked()
}

func (w world) ports() []string {
	if w.IntN(3) == 0 {
		return []string{"*"}
	}
	var texts []string
	for range 1 + w.IntN(3) {
		a := w.IntN(6)
		texts = append(texts, w.pick(strconv.Itoa(a), fmt.Sprintf("%d-%d", a, a+w.IntN(3)), "65535", "3-65535", "0-2"))
	}
	return texts
}

func (w world) end(is6 bool) (texts, groups []string) {
	switch w.IntN(4) {
	case 0:
		return []string{w.pick("*", "Any", "Internet", "VirtualNetwork", "AzureLoadBalancer", "AzurePlatformDNS", "AzurePlatformIMDS", "AzurePlatformLKM", "Sql")}, nil
	case 1:
		return nil, []string{w.pick("web", "db")}
	}
	var all []netip.Prefix
	for range 1 + w.IntN(3) {
		if p := w.prefix(is6); !slices.ContainsFunc(all, p.Overlaps) {
			all = append(all, p)
			if p.IsSingleIP() && w.IntN(2) == 0 {
				texts = append(texts, p.Addr().String())
			} else {
				texts = append(texts, p.String())
			}
		}
	}
	return texts, nil
}

func (w world) config(rules int) Config {
	c := Config{WithoutGroup: WithoutGroup(w.IntN(2))}
	for range w.IntN(4) {
		c.VirtualNetwork = append(c.VirtualNetwork, w.prefix(w.IntN(2) == 0))
	}
	for _, name := range []string{"Sql", "AzurePlatformLKM"} {
		t := ServiceTag{Name: name}
		for range w.IntN(4) {
			t.Prefixes = append(t.Prefixes, w.prefix(w.IntN(2) == 0))
		}
		c.ServiceTags = append(c.ServiceTags, t)
	}
	for _, name := range []string{"web", "db"} {
		g := ApplicationSecurityGroup{Name: name}
		for range w.IntN(4) {
			if a := w.host(w.IntN(2) == 0); !slices.Contains(g.Addrs, a) {
				g.Addrs = append(g.Addrs, a)
			}
		}
		c.ApplicationSecurityGroups = append(c.ApplicationSecurityGroups, g)
	}
	for _, name := range []string{"g0", "g1"} {
		g := NetworkSecurityGroup{Name: name}
		for i := range w.IntN(rules + 1) {
			r := SecurityRule{
				Name: fmt.Sprintf("r%d", i), Priority: minPriority + i*7%3997, Direction: Direction(w.IntN(2)),
				Access: Access(w.IntN(2)), Protocol: Protocol(w.IntN(int(numProtocols))),
			}
			is6 := w.IntN(2) == 0
			r.SourceAddressPrefixes, r.SourceApplicationSecurityGroups = w.end(is6)
			r.DestinationAddressPrefixes, r.DestinationApplicationSecurityGroups = w.end(is6)
			if r.Protocol <= UDP {
				r.DestinationPortRanges = w.ports()
				if w.IntN(2) == 0 {
					r.SourcePortRanges = w.ports()
				}
			}
			g.SecurityRules = append(g.SecurityRules, r)
		}
		w.Shuffle(len(g.SecurityRules), func(i, j int) {
			g.SecurityRules[i], g.SecurityRules[j] = g.SecurityRules[j], g.SecurityRules[i]
		})
		c.NetworkSecurityGroups = append(c.NetworkSecurityGroups, g)
	}
	for i, p := range []string{"10.0.0.0/24", "10.0.1.0/32", "10.0.1.1/32", "11.0.0.0/8", "fd00::/16", "fd01::/64"} {
		c.Subnets = append(c.Subnets, Subnet{fmt.Sprint(i), []netip.Prefix{netip.MustParsePrefix(p)}, w.pick("", "g0", "g1")})
	}
	seen := map[netip.Addr]bool{}
	for i := range w.IntN(8) {
		if a := w.host(w.IntN(2) == 0); !seen[a] {
			seen[a] = true
			c.NetworkInterfaces = append(c.NetworkInterfaces, NetworkInterface{fmt.Sprint(i), []netip.Addr{a}, w.pick("", "g0", "g1")})
		}
	}
	return c
}

func (w world) flow() Flow {
	is6 := w.IntN(2) == 0
	socket := func() netip.AddrPort {
		port := uint16(w.IntN(7))
		if w.IntN(8) == 0 {
			port = 0xffff
		}
		return netip.AddrPortFrom(w.addr(is6), port)
	}
	f := Flow{Direction(w.IntN(2)), []uint8{6, 6, 6, 17, 17, 1, 58, 50, 51, 132, 47, 0}[w.IntN(12)], socket(), socket(), netip.Addr{}}
	if w.IntN(4) == 0 {
		f.Interface = w.addr(is6)
	}
	return f
}

// check compares all that a configuration says about some flows with the model.
func check(t *testing.T, w world, rules, flows int) {
	t.Helper()
	config := w.config(rules)
	c, err := Compile(config)
	if err != nil {
		t.Fatalf("%v\n%+v", err, config)
	}
	for range flows {
		f := w.flow()
		got, want := c.Evaluate(f), model{config}.evaluate(f)
		if got != want {
			t.Fatalf("%v: got %+v, want %+v\n%v", f, got, want, c.Explain(f))
		}
		e := c.Explain(f)
		if n := len(e.Stages); e.Decision != got || (n == 0) != (got.Rule == "") {
			t.Fatalf("%v: decided %+v, explained %v", f, got, e)
		} else if n > 0 {
			last := e.Stages[n-1]
			rule := last.Rules[len(last.Rules)-1]
			if explained := (Decision{last.Access, last.Level, last.Group, rule.Rule.Name, rule.Rule.Priority}); explained != got || rule.Mismatch != NoField {
				t.Fatalf("%v: decided %+v, explained %v", f, got, e)
			}
		}
		inside, remote := f.Source, f.Destination
		if f.Direction == Inbound {
			inside, remote = remote, inside
		}
		if r := c.Admit(f.Direction, f.Protocol, inside, remote, f.Interface); (r == 0) != (got.Access == Allow) {
			t.Fatalf("%v: decided %+v, admitted with %v", f, got, r)
		}
	}
}

func TestModel(t *testing.T) {
	pkttest.OneGoroutine(t)
	rounds := pkttest.Operations(200, 2000, 20_000)
	for seed := range uint64(rounds) {
		rules := 6
		if seed%20 == 0 {
			rules = 150 // several words of bits
		}
		check(t, world{rand.New(rand.NewPCG(seed, 0))}, rules, 200)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func FuzzModel(f *testing.F) {
	f.Add(uint64(1), uint8(10))
	f.Add(uint64(2), uint8(130))
	f.Fuzz(func(t *testing.T, seed uint64, rules uint8) {
		check(t, world{rand.New(rand.NewPCG(seed, 1))}, int(rules), 50)
	})
}
