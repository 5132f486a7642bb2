// Package compiled is what a translator is told: a configuration that package snat has checked
// and compiled, and the hooks by which it is told what happens. Nothing is checked here, and no
// field means a default by being zero. What is given belongs to the translator.
//
// It refuses to know how a configuration is written, and what is made of it.
package compiled

import (
	"net/netip"
	"slices"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/deterministic"
	"github.com/seed-a61be3fe/natplane/snat/internal/addresses"
	"github.com/seed-a61be3fe/natplane/snat/internal/counters"
	"github.com/seed-a61be3fe/natplane/snat/internal/forwards"
	"github.com/seed-a61be3fe/natplane/snat/internal/fragments"
	"github.com/seed-a61be3fe/natplane/snat/internal/headers"
	"github.com/seed-a61be3fe/natplane/snat/internal/hop"
	"github.com/seed-a61be3fe/natplane/snat/internal/icmp"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/holders"
	"github.com/seed-a61be3fe/natplane/snat/internal/resets"
	"github.com/seed-a61be3fe/natplane/snat/internal/udp"
)

// Fixed is what never changes.
type Fixed struct {
	Shards        int    // at least as many as there are ever policies
	HashKey       uint64 // of the table; see flow.Config
	Seed          uint64 // of all that is random and can be seen
	Lenient       headers.Leniency
	PerConnection bool          // only the inside may open a closed connection again
	Hairpin       bool          // from inside to inside by outside sockets
	Shared        *ports.Shared // the ports, if instances share them, else nil
	Holders       holders.Rules // who holds ports; zero counts nothing
	AlarmInterval time.Duration // between events of exhaustion, and between those of quotas, of an instance

	Messages   icmp.Rules // which are carried
	PublicICMP bool       // all queries and errors are carried of what shares a public address
	Fragments  FragmentRules
	HoldSYN    time.Duration // for how long SYNs are held
	MaxSYNs    int           // that are held at a time; 0 is none

	Hop         hop.Config
	Routed      bool         // packets are looked at before and after translation
	Silent      [2]bool      // sides to which no errors are sent
	ErrorRate   int          // errors per second, above 0
	ErrorBurst  int          // errors at once, above 0
	RouterAddrs [2][2]uint64 // sources of errors for the inside by family, as tuples hold them; or zero
}

// FragmentRules say what happens to datagrams in pieces.
type FragmentRules struct {
	Carried       bool // else they are dropped
	UDPOnly       bool // of those only UDP is carried
	ForwardedOnly bool // only what comes in by forwards of all ports is carried, and its answers
	Limits        fragments.Limits
}

// Config is what a reconfiguration changes.
type Config struct {
	// Policies are what different shards follow, although two may say the same. The first
	// is that of all that name none, and of shards without any instance.
	Policies  []Policy
	Instances []Instance
	Routes    []addresses.Row
	Forwards  []Forward

	Ports      ports.Rules
	Exclusions *ports.Exclusions

	DistributionKey uint64        // of the spread of flows over targets
	ReclaimGrace    time.Duration // of flows on ports that their instance loses
	CountTraffic    bool

	// Admit, if not nil, says whether a flow that a side begins may do so.
	Admit func(from flow.Side, inst *ports.Instance, t ports.Tuple) flow.Reason

	RememberEntries bool // flows that public addresses carry are remembered as if Admit were asked

	Hooks Hooks
}

// Policy says when the flows of a shard end, and how.
type Policy struct {
	Timeouts   flow.Timeouts // all of them set
	ResetIdle  bool          // both ends of an established connection that is over
	AnswerSYN  bool          // Resets.SYN is somebody
	PickUp     bool          // of connections that are older than we are
	EndRefused bool          // at once
	TCPRules   flow.TCPRules
	Resets     resets.Rules
	UDP        udp.Rules
}

// Instance is what is configured of an instance.
type Instance struct {
	Name          string       // by which it is known again
	Realm         uint32       // of Addrs and Inside
	Addrs         []netip.Addr // its own, one per family
	PublicAddrs   []netip.Addr // likewise
	Inside        []netip.Prefix
	Ports         []Grant
	Deterministic *deterministic.Parameters
	Policy        int // index
}

// Grant is ports of a frontend that an instance has. Identifiers of queries come with
// those of UDP.
type Grant struct {
	Frontend netip.Addr
	TCP, UDP bool   // of which protocols the ports are
	First    uint16 // port
	Count    int    // of ports
}

// Same reports whether nothing of an instance has changed that its sessions
// depend on.
func (i *Instance) Same(o *Instance) bool {
	return i.Realm == o.Realm && slices.Equal(i.Addrs, o.Addrs) && slices.Equal(i.PublicAddrs, o.PublicAddrs) &&
		sameSet(i.Inside, o.Inside) && sameGrants(i.Ports, o.Ports) && i.Deterministic.Equal(o.Deterministic)
}

// sameGrants reports whether two lists are equal. Those of an instance that does not change are
// mostly one list.
func sameGrants(a, b []Grant) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0] || slices.Equal(a, b))
}

// sameSet reports whether two lists without duplicates have the same prefixes, in whatever order.
func sameSet(a, b []netip.Prefix) bool {
	if slices.Equal(a, b) {
		return true
	}
	a, b = slices.Clone(a), slices.Clone(b)
	slices.SortFunc(a, netip.Prefix.Compare)
	slices.SortFunc(b, netip.Prefix.Compare)
	return slices.Equal(a, b)
}

// Forward is what is configured of a forward. Indexes and shards of its Spec are not set.
type Forward struct {
	forwards.Spec
	Instances []string // names, by target
	Policy    int      // index
}

// Same reports whether nothing of two forwards differs, except for their policies.
func (f *Forward) Same(o *Forward) bool {
	return f.Addr == o.Addr && f.TCP == o.TCP && f.UDP == o.UDP && f.First == o.First && f.Last == o.Last &&
		f.Fields == o.Fields && f.Floating == o.Floating && f.FromInside == o.FromInside &&
		slices.Equal(f.Targets, o.Targets) && slices.Equal(f.Instances, o.Instances)
}

// Hooks are told what happens, under the lock of a shard mostly. Those that are nil cost
// nothing.
type Hooks struct {
	Created func(now flow.Time, instance uint32, s flow.Info)                          // a session
	Expired func(at flow.Time, instance uint32, s flow.Info)                           // by time, or because it gives way
	Cut     func(at flow.Time, instance uint32, s flow.Info, cause counters.CutCause)  // by a configuration
	Reset   func(at flow.Time, instance uint32, s flow.Info)                           // both ends of an idle connection
	Refused func(now flow.Time, instance uint32, proto uint8, reason flow.Reason)      // for want of a port
	Fault   func(at flow.Time, text string)                                            // see fault.go
	Session func(at flow.Time, inst *ports.Instance, s flow.Info, o flow.Side, t Turn) // that is translated, begun by o
	Starved func(at flow.Time, inst *ports.Instance, what Starvation)                  // of resources, as often as AlarmInterval permits
	Ports   func(ports.Event)                                                          // that subscribers get or lose

	// Parameters is told the deterministic mapping of an instance, when it changes and once a day.
	Parameters func(at flow.Time, inst *ports.Instance)

	// Bindings says that Session is to be told who is alone on a mapping.
	Bindings bool
}

// Turn says what has become of a session.
type Turn struct {
	Ends  bool // else it has begun
	Alone bool // on its mapping, and Hooks.Bindings is set
}

// Starvation is want of a resource, of which a flow was refused.
type Starvation struct {
	Reason   flow.Reason // why
	Proto    uint8       // of the flow
	Inside   netip.Addr  // whose it was
	Frontend netip.Addr  // the only one that could have had a port; zero if there are several, or if it is no port that was wanted
	Limit    uint32      // that was reached, if it is no port that was wanted
	Count    uint64      // of refused flows since it was last told
}
