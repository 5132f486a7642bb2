// Package staticgateway carries what annotated pods send to the Internet through the nodes of gateway
// pools, each of which has an address of a public IP prefix for it.
//
// Terminology, used exactly so in names and comments:
//   - Gateway: what a StaticGatewayConfiguration has been made into: a prefix and the nodes of a pool.
//   - Exit: a node of a gateway, and its address. It masquerades as Linux does: a flow keeps its
//     port if that is free for the destination.
//   - User: a pod that leaves by a gateway. Its tunnel leads to one exit, chosen by rendezvous, so that
//     a node that comes or goes moves only the users that it has or gets.
//
// A [Set] is safe for concurrent use. Packets find their exit without a lock, in a view that changes as users
// do and is replaced when the exits are (users.go), and take those of that exit's translator only. It
// refuses to know pods, node pools and what goes elsewhere: who uses a gateway, and which packets are
// for the Internet, is for the caller to say.
//
// Sources: "Configure static egress gateway in AKS", and the design document of kube-egress-gateway,
// which AKS runs.
package staticgateway

import (
	"encoding/binary"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/overlay/internal/addressing"
	"github.com/seed-a61be3fe/natplane/overlay/internal/sums"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Annotation is that of a pod whose value names the gateway.
const Annotation = "kubernetes.azure.com/static-gateway-configuration"

// Gateway describes a gateway. It must be valid.
type Gateway struct {
	Name    string         // unique
	Prefix  netip.Prefix   // public, IPv4, as many addresses as Nodes or more
	Exclude []netip.Prefix // destinations that users reach as other pods do
	Nodes   []string       // names of the pool's nodes
}

// Config describes the gateways of a cluster.
type Config struct {
	Gateways []Gateway
	Pods     []netip.Prefix // IPv4, where all pods have their addresses
	Policy   snat.Policy    // of nodes
	Seed     uint64         // decides the ports that are not kept

	// Admit, if not nil, is asked as [snat.Dataplane].Admit about what users begin; Name is the node of
	// the exit, and Instance means nothing. An exit that goes on keeps the one that it was made with.
	Admit func(snat.NewFlow) flow.Reason

	// Count, if not nil, is told how many flows more the node of an exit has; fewer is negative. It is
	// called under a lock of that exit, unless that closes. An exit keeps the one that it was made with.
	Count func(node string, by int)
}

// Set is the gateways in force. The zero value has none.
type Set struct {
	mu       sync.Mutex          // held while anything changes; packets do not take it
	pods     []netip.Prefix      // guarded by mu
	gateways map[string]*gateway // guarded by mu

	view    atomic.Pointer[view] // nil means none; stored under mu
	refused atomic.Uint64        // packets of users without exit
}

// gateway is a gateway in force. It never changes.
type gateway struct {
	Gateway
	exits []*exit
}

// exit is an exit in force.
type exit struct {
	node   string
	public netip.Addr
	nat    *snat.NAT

	tell  func(node string, by int)
	flows atomic.Int64 // that have been told
}

// hooks are by which the exit's translator tells what begins and ends.
func (e *exit) hooks() snat.Hooks {
	return snat.Hooks{
		SessionCreated: func(flow.Time, uint32, flow.Info) { e.count(1) },
		SessionExpired: func(flow.Time, uint32, flow.Info) { e.count(-1) },
	}
}

// count notes that the exit has so many flows more.
func (e *exit) count(by int64) {
	e.flows.Add(by)
	e.tell(e.node, int(by))
}

// close ends an exit, with its flows. It may be called twice.
func (e *exit) close() {
	e.nat.Close()
	if n := e.flows.Swap(0); n != 0 {
		e.tell(e.node, int(-n))
	}
}

// Plan is what follows a Set when a configuration comes into force.
type Plan struct {
	pods     []netip.Prefix
	gateways map[string]*gateway
	exits    map[uint32]*exit
	made     []*exit
}

// Plan makes what c needs anew, and changes nothing yet. An exit goes on, with its flows, if
// its node and address stay; a new node gets the lowest address that no other has. Either Apply or
// Discard must follow. One goroutine may plan at a time.
func (s *Set) Plan(c Config) (*Plan, error) {
	p := &Plan{pods: c.Pods, gateways: make(map[string]*gateway), exits: make(map[uint32]*exit)}
	s.mu.Lock()
	former, same := s.gateways, slices.Equal(s.pods, c.Pods)
	s.mu.Unlock()
	for _, g := range c.Gateways {
		next := &gateway{Gateway: g}
		stays := make(map[string]*exit)
		taken := make(map[netip.Addr]bool)
		if was := former[g.Name]; was != nil && was.Prefix == g.Prefix && same {
			for _, e := range was.exits {
				if slices.Contains(g.Nodes, e.node) {
					stays[e.node], taken[e.public] = e, true
				}
			}
		}
		at := uint64(0)
		for _, node := range g.Nodes {
			e := stays[node]
			if e == nil {
				for taken[addressing.At(g.Prefix, at)] {
					at++
				}
				var err error
				if e, err = newExit(node, addressing.At(g.Prefix, at), c); err != nil {
					p.Discard()
					return nil, fmt.Errorf("static gateway %q: %w", g.Name, err)
				}
				taken[e.public] = true
				p.made = append(p.made, e)
			}
			next.exits = append(next.exits, e)
			p.exits[flow.Addr4(e.public)] = e
		}
		p.gateways[g.Name] = next
	}
	return p, nil
}

// newExit returns an exit.
func newExit(node string, public netip.Addr, c Config) (*exit, error) {
	e := &exit{node: node, public: public, tell: c.Count}
	var err error
	e.nat, err = snat.New(e.config(c))
	return e, err
}

// config returns what describes the translator of an exit.
func (e *exit) config(c Config) snat.Config {
	t := snat.Config{
		Ports: &snat.Shared{
			Frontends: []netip.Addr{e.public}, FirstPort: 1, LastPort: 65535, Choice: snat.PreservePort,
			FlowsPerDestination: 65536, MaxFlows: 1<<31 - 1,
		},
		Instances: []snat.Instance{{Name: e.node, Inside: c.Pods}}, Policy: c.Policy,
	}
	t.Seed, t.Admit = c.Seed, c.Admit
	t.ICMP = snat.ICMP{Queries: true, Errors: true, AllowShortTimeout: true}
	t.Fragments.Mode = snat.FragmentsVirtual
	if c.Count != nil {
		t.Hooks = e.hooks()
	}
	return t
}

// Discard gives up a plan.
func (p *Plan) Discard() {
	for _, e := range p.made {
		e.close()
	}
}

// Apply puts a plan into force. The flows of exits that are gone end silently; users of a gateway that
// is gone have none until it comes again.
func (s *Set) Apply(p *Plan) {
	s.mu.Lock()
	was := s.seen()
	s.pods, s.gateways = p.pods, p.gateways
	for a, u := range was.all() {
		was.put(a, s.place(a, u.name))
	}
	s.view.Store(was.with(p.exits))
	s.mu.Unlock()
	for a, e := range was.exits {
		if p.exits[a] != e {
			e.close()
		}
	}
}

// place returns what a user with an address has of a gateway. s.mu must be held.
func (s *Set) place(a uint32, name string) *user {
	u := &user{name: name, gateway: s.gateways[name]}
	if u.gateway == nil {
		return u
	}
	best := uint64(0)
	for _, e := range u.gateway.exits {
		h := xxhash.Sum64(binary.BigEndian.AppendUint32([]byte(e.node), a))
		if u.exit == nil || h > best {
			u.exit, best = e, h
		}
	}
	return u
}

// Use makes the pod of an address a user of a gateway, which must be in force, and reports whether it is.
func (s *Set) Use(a netip.Addr, name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gateways[name] == nil {
		return false
	}
	at := flow.Addr4(a)
	v := s.seen().withPage(at)
	v.put(at, s.place(at, name))
	s.view.Store(v)
	return true
}

// Release ends that an address is a user's, if it is one.
func (s *Set) Release(a netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen().put(flow.Addr4(a), nil)
}

// ReleaseAll does it for all addresses of prefixes.
func (s *Set) ReleaseAll(all []netip.Prefix) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for high, p := range s.seen().pages {
		if !slices.ContainsFunc(all, netip.PrefixFrom(flow.NetAddr4(high<<8), 24).Overlaps) {
			continue
		}
		for low := range p {
			if a := flow.NetAddr4(high<<8 | uint32(low)); slices.ContainsFunc(all, func(p netip.Prefix) bool { return p.Contains(a) }) {
				p[low].Store(nil)
			}
		}
	}
}

// Of returns the gateway that an address is a user of, the node that its packets leave by and the address
// that they leave with, "" and the zero Addr if there is no exit; the name is "" if it uses none.
func (s *Set) Of(a netip.Addr) (name, node string, public netip.Addr) {
	if !a.Is4() {
		return "", "", public
	}
	u := s.seen().user(flow.Addr4(a))
	if u == nil {
		return "", "", public
	}
	if u.exit != nil {
		node, public = u.exit.node, u.exit.public
	}
	return u.name, node, public
}

// Takes reports whether a packet to the Internet, as a pod sends it, is a user's, and its destination none
// that is excluded.
func (s *Set) Takes(pkt []byte) bool {
	if len(pkt) < 20 || pkt[0]>>4 != 4 {
		return false
	}
	u := s.seen().user(binary.BigEndian.Uint32(pkt[12:]))
	return u != nil && (u.gateway == nil || !u.gateway.excludes(pkt))
}

// excludes reports whether users reach the destination of a packet as other pods do.
func (g *gateway) excludes(pkt []byte) bool {
	if len(g.Exclude) == 0 {
		return false
	}
	to := netip.AddrFrom4([4]byte(pkt[16:20]))
	return slices.ContainsFunc(g.Exclude, func(p netip.Prefix) bool { return p.Contains(to) })
}

// Owns reports whether a packet is sent to the address of an exit.
func (s *Set) Owns(pkt []byte) bool {
	if len(pkt) < 20 || pkt[0]>>4 != 4 {
		return false
	}
	return s.seen().exits[binary.BigEndian.Uint32(pkt[16:])] != nil
}

// Outbound carries a packet that Takes has told of, and rewrites it in place. Users without exit have
// no way to the Internet ([flow.ReasonNoOutbound]). The verdict's Instance means nothing.
func (s *Set) Outbound(now flow.Time, pkt []byte) (v flow.Verdict) {
	for closed := (*exit)(nil); ; {
		u := s.seen().user(binary.BigEndian.Uint32(pkt[12:]))
		if u == nil || u.exit == nil {
			s.refused.Add(1)
			return flow.Verdict{Action: flow.Drop, Reason: flow.ReasonNoOutbound}
		}
		if u.exit == closed {
			return v
		}
		if v = u.exit.nat.Outbound(now, pkt); v.Reason != flow.ReasonClosed {
			return v
		}
		closed = u.exit // since it was found: another is in its place
	}
}

// Inbound carries a packet that Owns has told of, and rewrites it in place: only what answers a user
// comes in. The verdict's Instance means nothing.
func (s *Set) Inbound(now flow.Time, pkt []byte) (v flow.Verdict) {
	for closed := (*exit)(nil); ; {
		e := s.seen().exits[binary.BigEndian.Uint32(pkt[16:])]
		if e == nil {
			return flow.Verdict{Action: flow.Drop, Reason: flow.ReasonNotOurs}
		}
		if e == closed {
			return v
		}
		if v = e.nat.Inbound(now, pkt); v.Reason != flow.ReasonClosed {
			return v
		}
		closed = e // likewise
	}
}

// Advance expires what is due at now. See [snat.NAT.Advance].
func (s *Set) Advance(now flow.Time, emit flow.Sink) {
	for _, e := range s.seen().order {
		e.nat.Advance(now, emit)
	}
}

// AdvanceStep does a bounded piece of that for each exit, and reports whether all is done.
func (s *Set) AdvanceStep(now flow.Time, emit flow.Sink) (done bool) {
	done = true
	for _, e := range s.seen().order {
		done = e.nat.AdvanceStep(now, emit) && done
	}
	return done
}

// NextDeadline returns when Advance has something to do next, and false if nothing is pending.
func (s *Set) NextDeadline() (at flow.Time, ok bool) {
	for _, e := range s.seen().order {
		if d, waiting := e.nat.NextDeadline(); waiting && (!ok || d < at) {
			at, ok = d, true
		}
	}
	return at, ok
}

// DeadlineMoved reports whether NextDeadline may answer an earlier time than it last did.
func (s *Set) DeadlineMoved() (moved bool) {
	for _, e := range s.seen().order {
		moved = e.nat.DeadlineMoved() || moved
	}
	return moved
}

// ResetTo ends the users' connections with hosts in remotes. See [snat.NAT.ResetTo].
func (s *Set) ResetTo(now flow.Time, remotes []netip.Prefix) {
	for _, e := range s.seen().order {
		e.nat.ResetTo(now, remotes)
	}
}

// Sessions iterates over copies of all sessions.
func (s *Set) Sessions() iter.Seq[flow.Info] {
	return func(yield func(flow.Info) bool) {
		for _, e := range s.seen().order {
			for info := range e.nat.Sessions() {
				if !yield(info) {
					return
				}
			}
		}
	}
}

// AddTo returns the counters of the exits in force, and of what they did not take, with others.
func (s *Set) AddTo(stats snat.Stats) snat.Stats {
	for _, e := range s.seen().order {
		stats = sums.Of(stats, e.nat.Stats())
	}
	refused := s.refused.Load()
	stats.Outbound.Dropped += refused
	stats.Outbound.Drops[flow.ReasonNoOutbound] += refused
	return stats
}

// Exit is an exit as Exits shows it.
type Exit struct {
	Node     string
	Addr     netip.Addr
	Users    int
	Sessions int
}

// Exits returns those of a gateway in the order of its nodes, none if there is none of the name.
func (s *Set) Exits(name string) (all []Exit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.gateways[name]
	if g == nil {
		return nil
	}
	users := make(map[*exit]int)
	for _, u := range s.seen().all() {
		users[u.exit]++
	}
	for _, e := range g.exits {
		all = append(all, Exit{Node: e.node, Addr: e.public, Sessions: e.nat.Stats().SessionsActive, Users: users[e]})
	}
	return all
}

// Close returns the memory. Afterwards all packets are dropped.
func (s *Set) Close() {
	for _, e := range s.seen().order {
		e.close()
	}
}
