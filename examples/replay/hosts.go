// The inside hosts of a capture and the ports they get.

package main

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/seed-a61be3fe/natplane/examples/internal/command"
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/capture"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/snat"
	"github.com/seed-a61be3fe/natplane/snat/preset"
)

// host is an inside host.
type host struct {
	addr    netip.Addr
	sends   bool
	sockets [3]int // that send to the outside: TCP, UDP, identifiers of ICMP
}

// blocks returns how many port blocks give every socket of h a port of its own,
// which is always enough, and at least one.
func (h *host) blocks() int {
	return max(1, (slices.Max(h.sockets[:])+snat.BlockSize-1)/snat.BlockSize)
}

// hosts returns the inside hosts of a capture: the addresses within -inside of all
// packets that the parser accepts, those that send first, else in order of
// appearance. If there are such packets and all are between others, it returns an
// error that says between whom, which need not be the end.
func (o *options) hosts(c *capture.Capture) ([]host, error) {
	type socket struct {
		proto uint8
		at    netip.AddrPort
	}
	var (
		hosts  []host
		index  = make(map[netip.Addr]int)
		known  = make(map[socket]bool)
		others = make(map[netip.Addr]int) // packets from and to
	)
	// add returns the host of an address, or nil if it is none.
	add := func(a netip.Addr) *host {
		if !o.isInside(a) {
			others[a]++
			return nil
		}
		if !flow.IsHost(a) && !a.IsLinkLocalUnicast() {
			return nil // its packets will be dropped for that; of a link-local one only those that would cross
		}
		i, ok := index[a]
		if !ok {
			i = len(hosts)
			index[a] = i
			hosts = append(hosts, host{addr: a})
		}
		return &hosts[i]
	}
	var b []byte
	for i := range c.Packets {
		var parsed wire.Packet
		if b = c.Packets[i].AppendTo(b[:0]); wire.Parse(b, &parsed) != wire.OK {
			continue
		}
		f := locate(b)
		src, dst := f.endpoints(b)
		add(dst.Addr())
		h := add(src.Addr())
		if h == nil {
			continue
		}
		h.sends = true
		if s := (socket{f.proto, src}); !o.isInside(dst.Addr()) && !known[s] {
			known[s] = true
			switch f.proto {
			case protoTCP:
				h.sockets[0]++
			case protoUDP:
				h.sockets[1]++
			case protoICMP, protoICMPv6:
				h.sockets[2]++
			}
		}
	}
	slices.SortStableFunc(hosts, func(a, b host) int {
		if a.sends == b.sends {
			return 0
		}
		if a.sends {
			return -1
		}
		return 1
	})
	if len(hosts) == 0 && len(others) > 0 {
		const most = 5
		all := slices.SortedFunc(maps.Keys(others), func(a, b netip.Addr) int {
			return cmp.Or(cmp.Compare(others[b], others[a]), a.Compare(b))
		})
		var busiest strings.Builder
		for _, a := range all[:min(most, len(all))] {
			fmt.Fprintf(&busiest, " %v (%d)", a, others[a])
		}
		return nil, fmt.Errorf("-inside %v: no packet of the capture is from or to it; its busiest addresses, with their packets, are%s", &o.inside, &busiest)
	}
	return hosts, nil
}

// translator returns the configuration of the translator, as the preset makes it
// for the site of this capture. Where the preset grants ports to each instance,
// every host is one; others share all ports of the frontends, so that all hosts
// are behind a single instance. Between addresses within -inside nothing is
// translated.
func (o *options) translator(hosts []host) (snat.Config, error) {
	product, err := command.Preset(o.preset)
	if err != nil {
		return snat.Config{}, err
	}
	inside := command.Merge(o.inside.values)
	site := preset.Site{
		Instances: []snat.Instance{{Name: "inside", Inside: inside}}, Frontends: o.frontends.values,
		PortsPerInstance: o.ports, IdleTimeout: o.idle, Seed: o.seed,
	}
	for _, p := range inside {
		site.Routes = append(site.Routes, snat.Route{Prefix: p, Action: snat.PassThrough})
	}
	c, err := product.Configure(site)
	if err != nil {
		return c, fmt.Errorf("-preset %s: %w", o.preset, err)
	}
	o.extras.Apply(&c)
	if _, shared := c.Ports.(*snat.Shared); shared {
		if o.ports > 0 {
			err = fmt.Errorf("-ports %d: preset %s preallocates none", o.ports, o.preset)
		}
		return c, err
	}
	if ports := command.Preallocated(product, site); ports > 0 {
		err = o.grant(&c, hosts, ports)
	}
	return c, err
}

// grant makes an instance of every host, with so many ports or, if that is
// automatic, as many as it has sockets. If every socket can have a port of its own,
// UDP sockets do: no preset's way of sharing ports must stand in the way of a
// packet then.
func (o *options) grant(c *snat.Config, hosts []host, fixed int) error {
	if o.ports == 0 {
		fixed = 0
	}
	c.Instances = nil
	var ports [2]*inventory
	ample := o.ports == 0
	for f, name := range []string{"IPv4", "IPv6"} {
		var of []host
		for i := range hosts {
			if !c.ICMP.Queries {
				hosts[i].sockets[2] = 0
			}
			if flow.Family(hosts[i].addr) == f {
				of = append(of, hosts[i])
			}
		}
		inv := &inventory{family: name}
		for _, a := range o.frontends.values {
			if flow.Family(a) == f {
				inv.frontends = append(inv.frontends, a)
			}
		}
		if err := inv.plan(of, fixed/snat.BlockSize); err != nil {
			return err
		}
		ports[f] = inv
		ample = ample && (inv.wanted <= inv.capacity() || len(inv.frontends) == 0)
	}
	if of := owned(c); ample && (of.UDP.Mapping == snat.DefaultMapping || of.UDP.Mapping == snat.EndpointIndependent) {
		of.UDP.Share = snat.ShareNever
	}
	for i := range hosts {
		h := &hosts[i]
		c.Instances = append(c.Instances, snat.Instance{
			Name: h.addr.String(), Addrs: []netip.Addr{h.addr}, Ports: ports[flow.Family(h.addr)].grant(h),
		})
	}
	return nil
}

// blocksPerFrontend is how many port blocks a frontend has to give, as Azure
// counts.
const blocksPerFrontend = lb.PortsPerFrontend / snat.BlockSize

// inventory is the port blocks of all frontends of one family, numbered through.
type inventory struct {
	family    string
	frontends []netip.Addr
	fixed     int // blocks for each host; 0 is automatic
	senders   int
	wanted    int // blocks, by all senders together
	asked     int // of these, by those that have got theirs
	next      int // block to grant
}

// capacity returns the number of blocks.
func (inv *inventory) capacity() int { return len(inv.frontends) * blocksPerFrontend }

// plan decides how many blocks each host gets: fixed ones, or as many as it wants;
// if that is too much for the frontends, its share of what they have. It fails if
// there is not even one for each that sends; those that do not need none. Without
// any frontend nobody gets any: that is for the translator to say, packet by
// packet.
func (inv *inventory) plan(hosts []host, fixed int) error {
	inv.fixed = fixed
	for i := range hosts {
		if hosts[i].sends {
			inv.senders++
			inv.wanted += hosts[i].blocks()
		}
	}
	need := inv.senders * max(1, fixed)
	if need <= inv.capacity() || len(inv.frontends) == 0 {
		return nil
	}
	ips := (need + blocksPerFrontend - 1) / blocksPerFrontend
	if fixed == 0 {
		return fmt.Errorf("-frontend: %d inside hosts need %d %s addresses, to have %d ports each; there are %d",
			inv.senders, ips, inv.family, snat.BlockSize, len(inv.frontends))
	}
	return fmt.Errorf("-ports %d: %d inside hosts need %d %s addresses in -frontend, there are %d; or use -ports %d or fewer",
		fixed*snat.BlockSize, inv.senders, ips, inv.family, len(inv.frontends), inv.capacity()/inv.senders*snat.BlockSize)
}

// grant returns the ports of the next host; those that send come first.
func (inv *inventory) grant(h *host) []snat.PortRange {
	blocks := inv.fixed
	switch {
	case !h.sends:
		blocks = min(max(1, blocks), inv.capacity()-inv.next)
	case len(inv.frontends) == 0:
		return nil
	case blocks == 0 && inv.wanted <= inv.capacity():
		blocks = h.blocks()
	case blocks == 0: // one, and a share of the spare ones
		before := inv.share()
		inv.asked += h.blocks()
		blocks = 1 + inv.share() - before
	}
	var ranges []snat.PortRange
	for blocks > 0 {
		frontend, at := inv.next/blocksPerFrontend, inv.next%blocksPerFrontend
		n := min(blocks, blocksPerFrontend-at)
		ranges = append(ranges, snat.PortRange{
			Frontend: inv.frontends[frontend],
			First:    uint16(lb.FirstPort + at*snat.BlockSize), Count: n * snat.BlockSize,
		})
		inv.next += n
		blocks -= n
	}
	return ranges
}

// share returns how many of the blocks that remain after one for each sender go to
// those who have asked so far.
func (inv *inventory) share() int {
	spare := inv.capacity() - inv.senders
	return int(int64(spare) * int64(inv.asked) / int64(inv.wanted))
}
