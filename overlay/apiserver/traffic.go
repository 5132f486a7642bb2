package apiserver

import (
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/heap"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// Stats counts what a Traffic has done.
type Stats struct {
	Clients    int    // that there are now
	Open       int    // of them, those that are Connected now
	Connected  uint64 // attempts that made a connection
	Failed     uint64 // attempts that did not
	KeepAlives uint64 // that were answered
	Cut        uint64 // connections that were cut
	Closed     uint64 // connections that were ended by FINs
	Vanished   uint64 // connections whose node or pod was gone before they were ended
}

// Traffic is the clients of an API server and their connections. Create one with New. It is for
// one goroutine at a time. Time must not go backwards between its methods; a negative now
// counts as 0.
//
// A driver calls Advance at NextDeadline, and may call Follow when it has changed nodes or
// pods. What the cluster itself sends to the inside (the sink of [overlay.Cluster.Advance]) goes to
// Receive. Who forgets a Traffic ends its connections silently; Close ends them with FINs.
type Traffic struct {
	with    Config    // with defaults
	clients []*client // in the order in which they came: with each look kubelets in the order of nodes, then pods
	byName  map[key]*client
	byAddr  map[netip.Addr]*client
	agenda  heap.Heap[entry]
	tickets uint64    // given out
	looks   uint64    // at the cluster
	came    uint64    // clients so far
	next    flow.Time // of the next look
	closed  bool
	stats   Stats
	buf     []byte // of the packet that is under way
}

// key names a client: a pod may have the name of a node.
type key struct {
	pod  bool
	name string
}

// New returns the traffic of a cluster, which begins with the first Advance. The error has all
// problems of the configuration, and wraps [flow.ErrMissing], [flow.ErrAddress],
// [flow.ErrOutOfRange] or [overlay.ErrFamily].
func New(c Config) (*Traffic, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Traffic{with: c, byName: make(map[key]*client), byAddr: make(map[netip.Addr]*client)}, nil
}

// NextDeadline returns when Advance has something to do next, and false once it is closed.
func (t *Traffic) NextDeadline() (flow.Time, bool) {
	if t.closed {
		return 0, false
	}
	if e, ok := t.head(); ok {
		return min(e.at, t.next), true
	}
	return t.next, true
}

// Advance does what is due at now: attempts, keep-alives, and a look at the cluster. What was
// due earlier is done once, at now. Cost: O(log clients) for each, and that of Follow for a look.
func (t *Traffic) Advance(now flow.Time) {
	if t.closed {
		return
	}
	now = max(now, 0)
	last := t.tickets
	if now >= t.next {
		t.Follow(now)
	}
	for {
		e, ok := t.head()
		if !ok || e.at > now || e.ticket > last {
			return
		}
		t.agenda.Pop()
		if !t.exists(e.client) {
			t.Follow(now)
			if e.client.look != t.looks {
				continue
			}
		}
		if e.client.State == Connected {
			t.keepAlive(now, e.client)
		} else {
			t.attempt(now, e.client)
		}
	}
}

// Follow looks which nodes and system pods there are now. Those that have come connect at once.
// Those that are gone send nothing more, not even a FIN: their connections end silently, unless
// End has come first. Cost: O(nodes + pods).
func (t *Traffic) Follow(now flow.Time) {
	if t.closed {
		return
	}
	now = max(now, 0)
	t.looks++
	t.next = now.Add(t.with.FollowInterval)
	var come []*client
	see := func(name, node string, pod bool, addrs []netip.Addr) {
		addr := t.addr(addrs)
		if c := t.byName[key{pod, name}]; c != nil && c.is(node, addr) {
			c.look = t.looks
			return
		}
		come = append(come, &client{
			Client: Client{Name: name, Node: node, Pod: pod, Inside: netip.AddrPortFrom(addr, portBefore(t.came))},
			look:   t.looks,
		})
		t.came++
	}
	for _, n := range t.with.Cluster.Nodes() {
		see(n.Name, n.Name, false, n.Addrs)
	}
	for p := range t.with.Cluster.Pods() {
		if t.with.SystemPod(p) {
			see(p.Name, p.Node, true, p.Addrs)
		}
	}
	t.clients = slices.DeleteFunc(t.clients, func(c *client) bool {
		gone := c.look != t.looks
		if gone {
			t.remove(c)
		}
		return gone
	})
	for _, c := range come {
		t.clients = append(t.clients, c)
		t.byName[c.key()] = c
		t.byAddr[c.Inside.Addr()] = c
		t.attempt(now, c)
	}
}

// Receive takes a packet that the cluster has sent to its inside by itself, and reports whether
// it is for the connection of a client. A RST, as that of an idle timeout, cuts it if its
// sequence number is the one expected (RFC 5961); nothing else does.
func (t *Traffic) Receive(now flow.Time, pkt []byte) bool {
	var p wire.Packet
	src, dst, ok := ends(pkt, &p)
	if !ok || src != t.with.Server {
		return false
	}
	c := t.byAddr[dst.Addr()]
	if c == nil || c.Inside != dst || c.State != Connected {
		return false
	}
	if tcp := p.TCP(); tcp.Flags()&wire.RST != 0 && tcp.Seq() == c.theirs {
		t.cut(max(now, 0), c)
	}
	return true
}

// End ends the connections of clients with FINs, for good or until Start: those of the pods
// named, and of the nodes named with all their system pods, as before they are removed. The
// error names all that are no clients and wraps [flow.ErrUnknownName]; then nothing has
// happened. Cost: O(names × clients).
func (t *Traffic) End(now flow.Time, names ...string) error {
	all, err := t.named(names)
	for _, c := range all {
		t.end(max(now, 0), c)
	}
	return err
}

// Start lets clients that have Ended connect again, as after a restart; the others of the names
// go on as they are. Names, errors and cost are those of End.
func (t *Traffic) Start(now flow.Time, names ...string) error {
	all, err := t.named(names)
	for _, c := range all {
		if c.State == Ended && !t.closed {
			t.attempt(max(now, 0), c)
		}
	}
	return err
}

// Close ends all connections with FINs, and the traffic.
func (t *Traffic) Close(now flow.Time) {
	for _, c := range t.clients {
		t.end(max(now, 0), c)
	}
	t.closed = true
}

// Clients returns the clients in the order in which they came; of those that came together
// kubelets in the order of [overlay.Cluster.Nodes], and then pods in that of
// [overlay.Cluster.Pods].
func (t *Traffic) Clients() []Client {
	all := make([]Client, len(t.clients))
	for i, c := range t.clients {
		all[i] = c.Client
	}
	return all
}

// Stats returns what has happened so far. Cost: O(clients).
func (t *Traffic) Stats() Stats {
	s := t.stats
	s.Clients = len(t.clients)
	for _, c := range t.clients {
		if c.State == Connected {
			s.Open++
		}
	}
	return s
}

// named returns the clients of names, each once.
func (t *Traffic) named(names []string) ([]*client, error) {
	var p problems.List
	wanted := make(map[*client]bool)
	for i, name := range names {
		found := false
		for _, c := range t.clients {
			if c.Name == name || c.Node == name {
				wanted[c], found = true, true
			}
		}
		if !found {
			p.Add(problems.Index("names", i), name, flow.ErrUnknownName, "no node or system pod that has been seen")
		}
	}
	if err := p.Err(); err != nil {
		return nil, err
	}
	var all []*client
	for _, c := range t.clients {
		if wanted[c] {
			all = append(all, c)
		}
	}
	return all, nil
}

// addr returns the address by which a client speaks to the API server.
func (t *Traffic) addr(addrs []netip.Addr) netip.Addr {
	for _, a := range addrs {
		if a.Is4() == t.with.Server.Addr().Is4() {
			return a
		}
	}
	return netip.Addr{} // no cluster changes its families
}

// exists reports whether the cluster still has the node or pod.
func (t *Traffic) exists(c *client) bool {
	if c.Pod {
		p, ok := t.with.Cluster.Pod(c.Name)
		return ok && c.is(p.Node, t.addr(p.Addrs))
	}
	n, ok := t.with.Cluster.Node(c.Name)
	return ok && c.is(n.Name, t.addr(n.Addrs))
}

// remove forgets a client that is gone. While the cluster changes, a look may see a pod that moves
// twice: then the names are those of the other one.
func (t *Traffic) remove(c *client) {
	if c.State == Connected {
		t.stats.Vanished++
	}
	c.ticket = 0
	if t.byName[c.key()] == c {
		delete(t.byName, c.key())
	}
	if t.byAddr[c.Inside.Addr()] == c {
		delete(t.byAddr, c.Inside.Addr())
	}
}

// end ends the connection of a client, if it has one.
func (t *Traffic) end(now flow.Time, c *client) {
	if c.State == Connected {
		if t.finish(now, c) {
			t.stats.Closed++
		} else {
			t.stats.Cut++
		}
	}
	c.State, c.Outside = Ended, netip.AddrPort{}
	c.Next, c.ticket = 0, 0
}

// cut notes that a connection is over.
func (t *Traffic) cut(now flow.Time, c *client) {
	t.stats.Cut++
	t.wait(now, c)
}

// wait schedules the next attempt.
func (t *Traffic) wait(now flow.Time, c *client) {
	c.State, c.Outside = Waiting, netip.AddrPort{}
	d := t.with.Backoff
	for i := 1; i < c.Failures && d < t.with.BackoffMax; i++ {
		d *= 2
	}
	t.schedule(c, now.Add(min(d, t.with.BackoffMax)))
}

// schedule says when a client does something next, instead of what was said before.
func (t *Traffic) schedule(c *client, at flow.Time) {
	t.tickets++
	c.Next, c.ticket = at, t.tickets
	t.agenda.Push(entry{at, c.ticket, c})
}

// head returns the first entry that counts, and drops those before it.
func (t *Traffic) head() (entry, bool) {
	for len(t.agenda) > 0 {
		if e := t.agenda[0]; e.ticket == e.client.ticket {
			return e, true
		}
		t.agenda.Pop()
	}
	return entry{}, false
}
