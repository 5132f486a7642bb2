package apiserver

import (
	"cmp"
	"net/netip"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/enum"
)

// State is what a client is at.
type State uint8

// The states of a client.
const (
	Waiting   State = iota // for its next attempt
	Connected              // it has a connection
	Ended                  // its connection has been ended by End, and it makes no other
	numStates
)

var stateNames = [...]string{"waiting", "connected", "ended"}

var _ = [1]struct{}{}[len(stateNames)-int(numStates)] // one name per state

// String returns the name of the state, such as "connected".
func (s State) String() string { return enum.Name(s, stateNames[:]) }

// Client is who keeps a connection to the API server, a snapshot.
type Client struct {
	Name  string // of the pod; of the node, for its kubelet
	Node  string // name of the node that it runs on; for a kubelet the same as Name
	Pod   bool   // a system pod, not a kubelet
	State State  // what it is at

	// Inside is the client's end of its connection, or of its last one or attempt.
	Inside netip.AddrPort

	// Outside is the same end as the API server sees it; not valid unless it is Connected.
	Outside netip.AddrPort

	Failures int       // attempts that have failed since it was last connected, 0 while it is
	Next     flow.Time // when it does something next, a keep-alive or an attempt; 0 once Ended

	// Reason is why the cluster has dropped the last packet of its connection or attempt;
	// ReasonNone if it has not.
	Reason flow.Reason
}

// Ephemeral ports of Linux (net.ipv4.ip_local_port_range). A client takes one after the other;
// the first ones of clients that follow each other lie a prime apart, so that clients of one
// node seldom have the same.
const (
	firstPort  = 32768
	lastPort   = 60999
	portStride = 7919
)

// portBefore returns the port before the first one of the n-th client.
func portBefore(n uint64) uint16 {
	return uint16(firstPort - 1 + n*portStride%(lastPort-firstPort+1))
}

// client is a Client, and where its connection stands. What one end sends next is what the
// other expects, for nothing is under way between two calls.
type client struct {
	Client
	theirs uint32 // sequence number that the API server sends next
	ours   uint32 // that the client sends next
	ticket uint64 // of its only entry in the agenda that counts
	look   uint64 // the last one that has seen it
}

func (c *client) key() key { return key{c.Pod, c.Name} }

// is reports whether a node or pod of the client's name is the client.
func (c *client) is(node string, addr netip.Addr) bool {
	return c.Node == node && c.Inside.Addr() == addr
}

// nextPort gives the client the port of its next attempt.
func (c *client) nextPort() {
	port := c.Inside.Port() + 1
	if port > lastPort {
		port = firstPort
	}
	c.Inside = netip.AddrPortFrom(c.Inside.Addr(), port)
}

// entry is that a client has something to do.
type entry struct {
	at     flow.Time
	ticket uint64 // ascending, in the order of scheduling
	client *client
}

// Before orders entries by time, and those of the same time by scheduling.
func (e entry) Before(f entry) bool {
	return cmp.Or(cmp.Compare(e.at, f.at), cmp.Compare(e.ticket, f.ticket)) < 0
}
