// Labs: namespaces joined by veth pairs, set up so that what a test sees on the
// wire is what a sender wrote (no offloads, no duplicate address detection).

package netlab

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	upTimeout = time.Minute // longest wait for an interface, on a machine with other things to do
	upPoll    = 2 * time.Millisecond

	firstIndex = 1000 // above the interface indexes that the kernel gives out in a lab
)

// Lab is the network of one test. The zero value is not usable: see New.
type Lab struct {
	tb         TB
	namespaces map[string]*Namespace
	veths      int
}

// New returns an empty lab that ends with the test. It ends the test where labs,
// or the programs named by tools, are not to be had: see Require.
func New(tb TB, tools ...string) *Lab {
	tb.Helper()
	Require(tb, tools...)
	return &Lab{tb: tb, namespaces: map[string]*Namespace{}}
}

// Namespace returns the lab's namespace of that name, and makes it at the first
// call: loopback up, IPv6 on, without duplicate address detection and router
// discovery; it is no router and filters no sources, whatever the machine does,
// whose settings new namespaces partly inherit. Any name will do; it is used in
// messages.
func (l *Lab) Namespace(name string) *Namespace {
	l.tb.Helper()
	if n := l.namespaces[name]; n != nil {
		return n
	}
	f, err := newNetNS()
	if err != nil {
		l.tb.Fatalf("netlab: namespace %q: %v", name, err)
	}
	l.tb.Cleanup(func() { f.Close() })
	n := &Namespace{name: name, tb: l.tb, file: f}
	l.namespaces[name] = n
	n.Sysctl("net.ipv4.ip_forward", "0") // first: it resets the others
	for _, set := range []string{"all", "default"} {
		n.Sysctl("net.ipv4.conf."+set+".rp_filter", "0")
	}
	if _, err := os.Stat("/proc/sys/net/ipv6"); err == nil { // a kernel may be without
		for _, set := range []string{"all", "default"} {
			n.Sysctl("net.ipv6.conf."+set+".disable_ipv6", "0")
			n.Sysctl("net.ipv6.conf."+set+".forwarding", "0")
			n.Sysctl("net.ipv6.conf."+set+".accept_dad", "0")
			n.Sysctl("net.ipv6.conf."+set+".accept_ra", "0")
			n.Sysctl("net.ipv6.conf."+set+".router_solicitations", "0")
		}
	}
	n.Run("ip link set lo up")
	return n
}

// End is one end of a veth pair.
type End struct {
	In    *Namespace // where the interface is
	Dev   string     // name of the interface, at most 15 bytes
	Addrs []string   // addresses with prefix length, such as "10.0.0.1/24" or "2001:db8::1/64"
}

// Veth joins two namespaces of the lab by a cable: when it returns both
// interfaces are up, have their addresses and segment, merge and checksum in
// software, so that a capture shows packets as they are.
func (l *Lab) Veth(a, b End) {
	l.tb.Helper()
	// The kernel takes up to a second to see the carrier of a veth whose peer has
	// the same index, as eth0 of two new namespaces would.
	l.veths++
	a.In.Run(fmt.Sprintf("ip link add index %d name %s type veth peer name %s netns %s", firstIndex+l.veths, a.Dev, b.Dev, b.In.Path()))
	for _, e := range []End{a, b} {
		e.In.Run("ethtool -K " + e.Dev + " rx off tx off sg off tso off gso off gro off")
		e.In.up(e.Dev, e.Addrs)
	}
	for _, e := range []End{a, b} { // the first has no carrier before the second is up
		e.In.waitUp(e.Dev)
	}
}

// up gives dev its addresses and sets it up.
func (n *Namespace) up(dev string, addrs []string) {
	n.tb.Helper()
	for _, addr := range addrs {
		nodad := ""
		if strings.Contains(addr, ":") {
			nodad = " nodad"
		}
		n.Run("ip addr add " + addr + " dev " + dev + nodad)
	}
	n.Run("ip link set " + dev + " up")
}

// waitUp waits until dev has a carrier and none of its addresses is tentative.
func (n *Namespace) waitUp(dev string) {
	n.tb.Helper()
	err := n.Do(func() error {
		for deadline := time.Now().Add(upTimeout); ; time.Sleep(upPoll) {
			switch err := isUp(dev); {
			case err == nil:
				return nil
			case time.Now().After(deadline):
				return fmt.Errorf("not up after %v: %w", upTimeout, err)
			}
		}
	})
	if err != nil {
		n.tb.Fatalf("netlab: %s: %v", n.name, err)
	}
}

// isUp reports why dev of the current namespace cannot be used yet.
func isUp(dev string) error {
	ifi, err := net.InterfaceByName(dev)
	if err != nil {
		return err
	}
	if ifi.Flags&net.FlagRunning == 0 {
		return fmt.Errorf("%s has no carrier (%v)", dev, ifi.Flags)
	}
	inet6, err := os.ReadFile("/proc/thread-self/net/if_inet6")
	if err != nil && !os.IsNotExist(err) { // absent without IPv6
		return err
	}
	for sc := bufio.NewScanner(bytes.NewReader(inet6)); sc.Scan(); {
		const tentative = 0x40 // IFA_F_TENTATIVE
		f := strings.Fields(sc.Text())
		if len(f) != 6 || f[5] != dev { // address, index, prefix length, scope, flags, device
			continue
		}
		if flags, err := strconv.ParseUint(f[4], 16, 32); err != nil || flags&tentative != 0 {
			return fmt.Errorf("%s: address %s is tentative (flags %s)", dev, f[0], f[4])
		}
	}
	return nil
}
