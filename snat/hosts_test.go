package snat_test

// The hosts of the tests: who is inside and who outside, in both address families.

import "testing"

// One virtual machine behind one frontend in each family, and a server.
const (
	vmA, frontend, serverA    = "10.0.0.4", "203.0.113.10", "198.51.100.7"
	vmA6, frontend6, serverA6 = "fd00::4", "2001:db8:f::10", "2001:db8:5::7"
)

// firstPort is the lowest outside port of the virtual machine.
const firstPort = 1024

// The public addresses of the virtual machine, and a pod of it when it is a node.
const (
	public, podA   = "20.50.1.1", "10.244.1.7"
	public6, podA6 = "2001:db8:50::1", "fd00:244:1::7"
)

// realm is the hosts of one address family, and what ICMP calls things there. A is the
// virtual machine; B, C and the inside router Ry are behind the same instance. F is the
// frontend; S, Q and the router Rx are outside. The pod is behind a node, and the peer
// is a host of the node's virtual network.
type realm struct {
	name                     string
	a, b, c, ry, f, s, q, rx string
	public, pod, node, peer  string
	header                   int
	unreachable, exceeded    uint8
	parameter, tooBig        uint8
	tooBigCode, portCode     uint8
	echo, reply, icmpProto   uint8
}

var realms = []realm{{
	name: "v4", a: vmA, b: "10.0.0.5", c: "10.0.0.6", ry: "10.0.0.1", f: frontend, s: serverA, q: "198.51.100.8", rx: "192.0.2.1",
	public: public, pod: podA, node: "10.224.0.4", peer: "10.225.0.9",
	header: 20, unreachable: 3, exceeded: 11, parameter: 12, tooBig: 3, tooBigCode: 4, portCode: 3, echo: 8, reply: 0, icmpProto: 1,
}, {
	name: "v6", a: vmA6, b: "fd00::5", c: "fd00::6", ry: "fd00::1", f: frontend6, s: serverA6, q: "2001:db8:5::8", rx: "2001:db8:9::1",
	public: public6, pod: podA6, node: "fd00:224::4", peer: "fd00:225::9",
	header: 40, unreachable: 1, exceeded: 3, parameter: 4, tooBig: 2, tooBigCode: 0, portCode: 4, echo: 128, reply: 129, icmpProto: 58,
}}

// byFamily is realms by name.
var byFamily = map[string]realm{realms[0].name: realms[0], realms[1].name: realms[1]}

func (r realm) is6() bool { return r.name == "v6" }

// eachRealm runs a test for both families.
func eachRealm(t *testing.T, f func(t *testing.T, r realm)) {
	for _, r := range realms {
		t.Run(r.name, func(t *testing.T) { f(t, r) })
	}
}

// everywhere runs a test for both families and transport protocols.
func everywhere(t *testing.T, test func(t *testing.T, w realm, proto string)) {
	for name, w := range byFamily {
		for _, proto := range []string{"udp", "tcp"} {
			t.Run(name+"/"+proto, func(t *testing.T) { test(t, w, proto) })
		}
	}
}
