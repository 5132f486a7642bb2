package nsg

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
)

// large returns a group as large as Azure allows: 1,000 inbound rules with 4,000 source and
// 4,000 destination prefixes, none of which fits the flows that a benchmark asks about,
// except by addresses: of each address several rules know.
func large(is6 bool, rules int) Config {
	rng := rand.New(rand.NewPCG(1, 2))
	text := func(bits int) string {
		if is6 {
			var b [16]byte
			b[0] = 0xfd
			for i := 1; i < bits/8; i++ {
				b[i] = byte(rng.Uint32())
			}
			return netip.PrefixFrom(netip.AddrFrom16(b), bits).Masked().String()
		}
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(11 + rng.IntN(200)), byte(rng.Uint32()), byte(rng.Uint32()), 0}), 24).String()
	}
	g := NetworkSecurityGroup{Name: "large"}
	for i := range rules {
		r := SecurityRule{
			Name: fmt.Sprintf("r%d", i), Priority: minPriority + i, Protocol: TCP, Access: Allow,
			DestinationPortRanges: []string{fmt.Sprint(10000 + 10*i), fmt.Sprintf("%d-%d", 10003+10*i, 10007+10*i)},
		}
		for range 4 {
			r.SourceAddressPrefixes = append(r.SourceAddressPrefixes, text(64))
			r.DestinationAddressPrefixes = append(r.DestinationAddressPrefixes, text(64))
		}
		g.SecurityRules = append(g.SecurityRules, r)
	}
	all := netip.MustParsePrefix("0.0.0.0/0")
	if is6 {
		all = netip.MustParsePrefix("::/0")
	}
	return Config{NetworkSecurityGroups: []NetworkSecurityGroup{g}, Subnets: []Subnet{{"all", []netip.Prefix{all}, "large"}}}
}

// flowsOf returns flows to random addresses that the rules of a large group name.
func flowsOf(c Config, n int) []Flow {
	rng := rand.New(rand.NewPCG(3, 4))
	rules := c.NetworkSecurityGroups[0].SecurityRules
	end := func(texts []string, port uint16) netip.AddrPort {
		return netip.AddrPortFrom(netip.MustParsePrefix(texts[rng.IntN(len(texts))]).Addr().Next(), port)
	}
	flows := make([]Flow, n)
	for i := range flows {
		src, dst := &rules[rng.IntN(len(rules))], &rules[rng.IntN(len(rules))]
		flows[i] = Flow{Inbound, 6, end(src.SourceAddressPrefixes, uint16(rng.Uint32())), end(dst.DestinationAddressPrefixes, uint16(10000+rng.IntN(10*len(rules)))), netip.Addr{}}
	}
	return flows
}

func TestNothingAllocates(t *testing.T) {
	for _, is6 := range []bool{false, true} {
		config := large(is6, 300)
		c, err := Compile(config)
		if err != nil {
			t.Fatal(err)
		}
		f := flowsOf(config, 1)[0]
		if n := testing.AllocsPerRun(100, func() { c.Evaluate(f) }); n != 0 {
			t.Errorf("Evaluate: %v allocs, want 0", n)
		}
		if n := testing.AllocsPerRun(100, func() { c.Admit(Inbound, 6, f.Destination, f.Source, netip.Addr{}) }); n != 0 {
			t.Errorf("Admit: %v allocs, want 0", n)
		}
	}
}

func BenchmarkEvaluate(b *testing.B) {
	for _, ip := range []int{4, 6} {
		for _, rules := range []int{10, 100, 1000} {
			b.Run(fmt.Sprintf("ip=%d/rules=%d", ip, rules), func(b *testing.B) {
				config := large(ip == 6, rules)
				c, err := Compile(config)
				if err != nil {
					b.Fatal(err)
				}
				flows := flowsOf(config, 1024)
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					c.Evaluate(flows[i%len(flows)])
				}
			})
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	config := large(false, 1000)
	for b.Loop() {
		if _, err := Compile(config); err != nil {
			b.Fatal(err)
		}
	}
}
