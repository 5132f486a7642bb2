package policy

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat"
)

const (
	tcp, udp, icmp = 6, 17, 1

	web, db, other, node0, node1, internet = "10.244.0.2", "10.244.1.2", "10.244.1.3", "10.224.0.4", "10.224.0.5", "203.0.113.9"
)

// selector parses a selector; "" is everything.
func selector(t *testing.T, text string) labels.Selector {
	t.Helper()
	s, err := labels.Parse(text)
	require.NoError(t, err)
	return s
}

// rules are of a web pod on node 0, and of a db and another namespace's pod on node 1.
func rules(outward bool, policies ...Policy) *Rules {
	groups := []Group{
		{Namespace: "shop", Labels: map[string]string{"app": "web"}},
		{Namespace: "shop", Labels: map[string]string{"app": "db"}, Ports: []NamedPort{{"sql", tcp, 5432}, {"sql", udp, 99}}},
		{Namespace: "other", Labels: map[string]string{"app": "web"}},
	}
	namespaces := map[string]map[string]string{"shop": {"team": "a"}, "other": {"team": "b"}}
	r := Compile(policies, namespaces, groups, outward)
	for i, addr := range []string{web, db, other} {
		r.Bind([]netip.Addr{netip.MustParseAddr(addr)}, i, min(i, 1))
	}
	r.BindNode([]netip.Addr{netip.MustParseAddr(node0)}, 0)
	r.BindNode([]netip.Addr{netip.MustParseAddr(node1)}, 1)
	return r
}

// begin is a flow, told as both sides tell it.
func begin(r *Rules, t *testing.T, protocol uint8, from, to string, port uint16) bool {
	t.Helper()
	a, b := netip.AddrPortFrom(netip.MustParseAddr(from), 40000), netip.AddrPortFrom(netip.MustParseAddr(to), port)
	out := r.Admit(snat.NewFlow{From: flow.Inside, Protocol: protocol, Inside: a, Remote: b})
	in := r.Admit(snat.NewFlow{From: flow.Outside, Protocol: protocol, Inside: b, Remote: a})
	require.Equal(t, out, in)
	return out
}

func TestAdmit(t *testing.T) {
	all, dbs := selector(t, ""), selector(t, "app=db")
	webs, teamB := selector(t, "app=web"), selector(t, "team=b")
	in := func(rules ...Rule) Policy { return Policy{Namespace: "shop", Selects: dbs, Ingress: true, In: rules} }
	out := func(rules ...Rule) Policy {
		return Policy{Namespace: "shop", Selects: webs, Egress: true, Out: rules}
	}
	block := func(text string, except ...string) Peer {
		p := Peer{Block: netip.MustParsePrefix(text)}
		for _, e := range except {
			p.Except = append(p.Except, netip.MustParsePrefix(e))
		}
		return p
	}
	type try struct {
		protocol uint8
		from, to string
		port     uint16
		want     bool
	}
	for name, tt := range map[string]struct {
		policies []Policy
		tries    []try
	}{
		"none": {nil, []try{{tcp, web, db, 1, true}, {udp, internet, web, 1, true}}},
		"deny all": {[]Policy{in()}, []try{
			{tcp, web, db, 5432, false}, {tcp, internet, db, 5432, false}, {icmp, web, db, 0, false},
			{tcp, db, web, 80, true}, {tcp, web, other, 80, true}, // other direction, other pods
			{tcp, db, db, 80, true},      // itself
			{tcp, node1, db, 80, true},   // its own node
			{tcp, node0, db, 80, false}}, // another one
		},
		"allow all": {[]Policy{in(Rule{})}, []try{{tcp, web, db, 1, true}, {icmp, internet, db, 0, true}}},
		"pods": {[]Policy{in(Rule{Peers: []Peer{{Pods: webs}}})}, []try{
			{tcp, web, db, 1, true}, {tcp, other, db, 1, false}, {tcp, internet, db, 1, false}, {udp, web, db, 1, true}}},
		"pods of a namespace":  {[]Policy{in(Rule{Peers: []Peer{{Pods: webs, Namespaces: teamB}}})}, []try{{tcp, web, db, 1, false}, {tcp, other, db, 1, true}}},
		"all namespaces":       {[]Policy{in(Rule{Peers: []Peer{{Pods: all, Namespaces: all}}})}, []try{{tcp, web, db, 1, true}, {tcp, other, db, 1, true}, {tcp, internet, db, 1, false}}},
		"one of several peers": {[]Policy{in(Rule{Peers: []Peer{{Pods: dbs}, {Pods: webs}}})}, []try{{tcp, web, db, 1, true}}},
		"policies add up":      {[]Policy{in(), in(Rule{Peers: []Peer{{Pods: webs}}})}, []try{{tcp, web, db, 1, true}, {tcp, other, db, 1, false}}},
		"port":                 {[]Policy{in(Rule{Ports: []Port{{Protocol: tcp, First: 5432, Last: 5432}}})}, []try{{tcp, web, db, 5432, true}, {tcp, web, db, 5433, false}, {udp, web, db, 5432, false}, {icmp, web, db, 0, false}}},
		"ports":                {[]Policy{in(Rule{Ports: []Port{{Protocol: udp, First: 10, Last: 20}}})}, []try{{udp, web, db, 10, true}, {udp, web, db, 20, true}, {udp, web, db, 21, false}, {udp, web, db, 9, false}}},
		"all ports":            {[]Policy{in(Rule{Ports: []Port{{Protocol: udp}}})}, []try{{udp, web, db, 10, true}, {tcp, web, db, 10, false}}},
		"name of a port":       {[]Policy{in(Rule{Ports: []Port{{Protocol: tcp, Name: "sql"}}})}, []try{{tcp, web, db, 5432, true}, {tcp, web, db, 99, false}, {udp, web, db, 99, false}}},
		"block": {[]Policy{in(Rule{Peers: []Peer{block("203.0.113.0/24", "203.0.113.8/31")}})}, []try{
			{tcp, internet, db, 1, false}, {tcp, "203.0.113.10", db, 1, true}, {tcp, web, db, 1, false}}},
		"block with a pod": {[]Policy{in(Rule{Peers: []Peer{block("10.0.0.0/8")}})}, []try{{tcp, web, db, 1, true}, {tcp, node0, db, 1, true}}},
		"egress": {[]Policy{out(Rule{Peers: []Peer{{Pods: dbs}}})}, []try{
			{tcp, web, db, 1, true}, {tcp, web, internet, 443, false}, {tcp, internet, web, 443, true},
			{tcp, web, node0, 10250, true}, {tcp, web, node1, 10250, false}}},
		"egress by name":    {[]Policy{out(Rule{Ports: []Port{{Protocol: tcp, Name: "sql"}}})}, []try{{tcp, web, db, 5432, true}, {tcp, web, internet, 5432, false}}},
		"both have to":      {[]Policy{out(Rule{}), in(Rule{Peers: []Peer{{Pods: dbs}}})}, []try{{tcp, web, db, 1, false}, {tcp, web, internet, 1, true}}},
		"only one protects": {[]Policy{out(Rule{Peers: []Peer{{Pods: webs}}}), in(Rule{})}, []try{{tcp, web, db, 1, false}, {tcp, other, db, 1, true}}},
	} {
		t.Run(name, func(t *testing.T) {
			r := rules(false, tt.policies...)
			for _, f := range tt.tries {
				assert.Equal(t, f.want, begin(r, t, f.protocol, f.from, f.to, f.port), "%+v", f)
			}
		})
	}

	t.Run("blocks of what is outside", func(t *testing.T) {
		r := rules(true, in(Rule{Peers: []Peer{block("0.0.0.0/0")}}))
		assert.True(t, begin(r, t, tcp, internet, db, 1))
		assert.False(t, begin(r, t, tcp, web, db, 1))
		assert.False(t, begin(r, t, tcp, node0, db, 1))
	})
	t.Run("no allocation", func(t *testing.T) {
		r := rules(false, in(Rule{Peers: []Peer{block("10.0.0.0/8", "10.1.0.0/16")}, Ports: []Port{{Protocol: tcp, Name: "sql"}}}))
		f := snat.NewFlow{Protocol: tcp, Inside: netip.MustParseAddrPort(web + ":1"), Remote: netip.MustParseAddrPort(db + ":5432")}
		assert.Zero(t, testing.AllocsPerRun(100, func() { require.True(t, r.Admit(f)) }))
	})
}
