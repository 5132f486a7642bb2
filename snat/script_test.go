package snat_test

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/likeness"
	"github.com/seed-a61be3fe/natplane/snat"
)

// script is a string of bytes read as decisions; at its end all decisions are 0.
type script struct{ b []byte }

// next decides between n possibilities, at most 256.
func (s *script) next(n int) int {
	if len(s.b) == 0 {
		return 0
	}
	c := int(s.b[0])
	s.b = s.b[1:]
	return c % n
}

func (s *script) done() bool { return len(s.b) == 0 }

// pick returns one of the values.
func pick[T any](s *script, values ...T) T { return values[s.next(len(values))] }

// diligence says how a driver calls Advance.
type diligence uint8

const (
	never  diligence = iota // only in the end
	rarely                  // when the script says so
	always                  // after each step of time, so that nothing is ever due
)

// scenery is a configuration and the hosts around it.
type scenery struct {
	config  snat.Config
	drive   diligence
	start   flow.Time
	insides []netip.Addr
}

// Remotes that are translated or get the node's address, and destinations that
// are not, by address family.
var (
	remotes = [2][]netip.AddrPort{
		ends("198.51.100.7:443", "198.51.100.7:443", "198.51.100.7:80", "198.51.100.8:443", "10.9.9.9:443"),
		ends("[2001:db8:5::7]:443", "[2001:db8:5::7]:443", "[2001:db8:5::7]:80", "[2001:db8:5::8]:443", "[fd09::9]:443"),
	}
	oddities = [2][]netip.AddrPort{
		ends("10.8.0.1:443", "10.8.0.1:85", "10.8.9.1:443", "203.0.113.10:1024", "10.0.0.4:80", "10.244.0.1:80", "127.0.0.1:80", "169.254.1.1:80", "20.50.1.5:80"),
		ends("[fd08::1]:443", "[2001:db8:f::10]:1024", "[fd00::4]:80", "[fd00:244::1]:80", "[::1]:80", "[fe80::1]:80", "[ff02::1]:80"),
	}
)

func ends(s ...string) (all []netip.AddrPort) {
	for _, e := range s {
		all = append(all, netip.MustParseAddrPort(e))
	}
	return all
}

func addr(format string, args ...any) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf(format, args...))
}

// build reads the beginning of a script: two to four instances of 8 to 64 ports,
// some with public addresses.
func (s *script) build() *scenery {
	w := &scenery{drive: pick(s, never, rarely, always)}
	c := &w.config
	ownedPorts(c).TCP = s.behavior()
	ownedPorts(c).UDP = s.behavior()
	if ownedPorts(c).Hairpin = s.next(3) == 0; ownedOf(*c).Hairpin {
		ownedPorts(c).TCP.Share = snat.ShareNever
		ownedPorts(c).UDP.Share = snat.ShareNever
	}
	c.Seed = uint64(s.next(256))
	c.CountTraffic = c.Seed%2 == 0
	c.Routes = []snat.Route{
		{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Action: snat.NodeAddress, BothWays: c.Seed%3 > 0},
		{Prefix: netip.MustParsePrefix("10.8.0.0/16"), Action: snat.PassThrough, BothWays: true},
		{Prefix: netip.MustParsePrefix("10.8.0.0/16"), Action: snat.Blackhole, Protocol: snat.UDP},
		{Prefix: netip.MustParsePrefix("10.8.0.0/16"), Action: snat.Translate, FirstPort: 80, LastPort: 90},
		{Prefix: netip.MustParsePrefix("10.8.9.0/24"), Action: snat.Blackhole},
		{Prefix: netip.MustParsePrefix("fd00::/8"), Action: snat.NodeAddress, BothWays: c.Seed%3 > 1},
		{Prefix: netip.MustParsePrefix("fd08::/16"), Action: snat.PassThrough},
		{Prefix: netip.MustParsePrefix("198.51.100.8/32"), Action: snat.Translate, BothWays: c.Seed%5 == 0},
	}
	if c.Seed%7 < 2 {
		c.Admit = hard
	}
	if c.RememberEntries = c.Seed%4 == 1; c.Seed%8 > 4 {
		c.Routes = append(c.Routes, passedOnRows...)
	}
	c.Policy = s.policy()
	w.start = flow.At(pick(s, 0, 256*time.Millisecond, (1<<32-3000)*time.Millisecond))
	next := map[netip.Addr]int{} // first free port by frontend
	for i := range 2 + s.next(3) {
		inst := snat.Instance{Name: fmt.Sprintf("vm%d", i)}
		if s.next(3) == 0 {
			p := s.policy()
			inst.Policy = &p
		}
		if s.next(5) > 0 {
			inst.Addrs = append(inst.Addrs, addr("10.0.0.%d", 4+i))
		}
		if s.next(3) > 0 {
			inst.Addrs = append(inst.Addrs, addr("fd00::%d", 4+i))
		}
		if s.next(3) > 0 {
			inst.Inside = append(inst.Inside, netip.PrefixFrom(addr("10.244.%d.0", i), 24), netip.PrefixFrom(addr("fd00:244:%d::", i), 64))
		}
		for _, own := range inst.Addrs {
			if s.next(6) == 0 || c.RememberEntries {
				inst.PublicAddrs = append(inst.PublicAddrs, publicOf(own))
			}
		}
		for range 1 + s.next(3) {
			r := snat.PortRange{
				Frontend: pick(s, addr("203.0.113.10"), addr("203.0.113.11"), addr("2001:db8:f::10")),
				Protocol: pick(s, snat.All, snat.All, snat.TCP, snat.UDP),
				Count:    8 * pick(s, 1, 1, 2, 3, 8),
			}
			r.First = uint16(1024 + next[r.Frontend])
			next[r.Frontend] += r.Count
			inst.Ports = append(inst.Ports, r)
		}
		w.insides = append(append(w.insides, inst.Addrs...), inst.PublicAddrs...)
		if len(inst.Inside) > 0 {
			w.insides = append(w.insides, addr("10.244.%d.1", i), addr("10.244.%d.2", i), addr("fd00:244:%d::1", i), addr("fd00:244:%d::2", i))
		}
		c.Instances = append(c.Instances, inst)
	}
	w.insides = append(w.insides, addr("10.0.0.99"), addr("203.0.113.10"), addr("fd00::99"))
	return w
}

// severalFrontends reports whether an instance has ports of more than one IPv4 frontend.
func severalFrontends(inst snat.Instance) bool {
	return slices.ContainsFunc(inst.Ports, func(r snat.PortRange) bool {
		return r.Frontend.Is4() && slices.ContainsFunc(inst.Ports, func(o snat.PortRange) bool { return o.Frontend.Is4() && o.Frontend != r.Frontend })
	})
}

// publicOf returns the public address that an own address may have.
func publicOf(own netip.Addr) netip.Addr {
	b := own.AsSlice()
	if own.Is4() {
		return addr("20.50.1.%d", b[3])
	}
	return addr("2001:db8:50::%d", b[15])
}

// policy makes short timeouts, all different.
func (s *script) policy() snat.Policy {
	return snat.Policy{
		EnableTCPReset: s.next(4) > 0, EndRefused: s.next(4) == 0,
		UDPRefresh:   pick(s, snat.RefreshEither, snat.RefreshEither, snat.RefreshPerDirection, snat.RefreshOutbound),
		ResetUnknown: pick(s, snat.ResetNone, snat.ResetNone, snat.ResetInside, snat.ResetSender),
		ResetSYN:     pick(s, snat.ResetNone, snat.ResetNone, snat.ResetInside, snat.ResetSender),
		PickUp:       s.next(4) == 0,
		TCPRules:     pick(s, flow.RFCRules, flow.RFCRules, flow.ConntrackRules),
		UDPPorts:     pick(s, snat.PortTimeouts{}, snat.PortTimeouts{1: {Port: 443, Timeout: 2 * time.Second}}, snat.PortTimeouts{{Port: 443, Timeout: time.Second}, {Port: 80, Timeout: 5 * time.Second}}),
		Timeouts: flow.Timeouts{
			TCPOpening: 2 * time.Second, TCPEstablished: pick(s, 8*time.Second, 7*time.Second), TCPHalfClosed: 5 * time.Second,
			TCPClosing: 4 * time.Second, TCPTimeWait: 3 * time.Second, TCPReset: 1500 * time.Millisecond,
			TCPResetSent:   2500 * time.Millisecond,
			TCPSynReceived: 1700 * time.Millisecond, TCPCloseWait: 3500 * time.Millisecond, TCPUnacknowledged: 4500 * time.Millisecond,
			UDP: pick(s, 4*time.Second, 3*time.Second), UDPReplied: pick(s, 6*time.Second, time.Second),
		},
	}
}

// remote picks the far end of a packet.
func (s *script) remote(is6 bool) netip.AddrPort {
	family := 0
	if is6 {
		family = 1
	}
	if s.next(8) == 0 {
		return pick(s, oddities[family]...)
	}
	return pick(s, remotes[family]...)
}

// passedOnRows pass on what goes to one remote of each family.
var passedOnRows = []snat.Route{
	{Prefix: netip.MustParsePrefix("198.51.100.7/32"), Action: snat.PassThrough, PassOn: true},
	{Prefix: netip.MustParsePrefix("2001:db8:5::7/128"), Action: snat.PassThrough, PassOn: true},
}

// dialogue is the segments that one end of a connection sends in the life of a
// flow, in no particular order: the inside counts from 1000, the remote from
// 5000. Which of them fit depends on what has come before.
var dialogue = []struct {
	from     flow.Side
	flags    uint8
	seq, ack uint32
	payload  string
}{
	{flow.Inside, flow.SYN, 1000, 0, ""},
	{flow.Outside, flow.SYN | flow.ACK, 5000, 1001, ""},
	{flow.Inside, flow.ACK, 1001, 5001, ""},
	{flow.Inside, flow.ACK | flow.PSH, 1001, 5001, "hello"},
	{flow.Outside, flow.ACK, 5001, 1006, ""},
	{flow.Outside, flow.ACK | flow.PSH, 5001, 1001, "odd"},
	{flow.Inside, flow.ACK, 1001, 5004, ""},
	{flow.Inside, flow.ACK | flow.FIN, 1001, 5001, ""},
	{flow.Outside, flow.ACK | flow.FIN, 5001, 1002, ""},
	{flow.Inside, flow.ACK, 1002, 5002, ""},
	{flow.Outside, flow.ACK, 5002, 1002, ""},
	{flow.Inside, flow.RST, 1001, 0, ""},
	{flow.Outside, flow.RST, 5001, 0, ""},
	{flow.Outside, flow.RST | flow.ACK, 0, 1001, ""},
	{flow.Inside, flow.SYN, 700_000, 0, ""},
	{flow.Outside, flow.SYN | flow.ACK, 900_000, 700_001, ""},
	{flow.Inside, flow.ACK, 700_001, 900_001, ""},
	{flow.Outside, flow.SYN, 5000, 0, ""},
	{flow.Outside, flow.ACK, 3_000_000_000, 1001, "stray"},
	{flow.Inside, flow.RST, 3_000_000_000, 0, ""},
	{flow.Inside, flow.SYN | flow.ACK, 1000, 5001, ""},
	{flow.Outside, flow.ACK, 5001, 1001, ""},
}

// handshakes are the segments that establish a connection, by who opens it.
var handshakes = [2][3]int{{0, 1, 2}, {17, 20, 21}}

// segmentOf returns segment i of the dialogue on flow f.
func segmentOf(f *modelFlow, i int) (flow.Side, packet) {
	d := dialogue[i]
	p := packet{proto: protoTCP, src: f.inside, dst: f.remote, flags: d.flags, seq: d.seq, ack: d.ack, payload: d.payload}
	if d.from == flow.Outside {
		p.src, p.dst = f.remote, f.outside
	}
	return d.from, p
}

// subject is a NAT under test, which must do as the model does.
type subject struct {
	name    string
	nat     *snat.NAT
	batched bool
	steps   bool // drives AdvanceStep
	eager   bool // is advanced before each packet
	early   []emission

	// Batched packets that wait for their door.
	from     flow.Side
	now      flow.Time
	pkts     [][]byte
	expected []expectation
}

// expectation is what the model says about one packet.
type expectation struct {
	verdict          flow.Verdict
	sent, translated packet
}

// run plays a script on the model and on every subject.
func (s *script) run(t testing.TB) (m *model) {
	w := s.build()
	if !slices.ContainsFunc(w.config.Instances, severalFrontends) { // whose order Limits may change
		ownedPorts(&w.config).Limits.HalfOpen = int(w.config.Seed / 2 % 3)
	}
	s.holdSYNs(&w.config)
	m = newModel(w.config)
	var subjects []*subject
	for _, c := range []struct {
		name           string
		shards         int
		batched, steps bool
	}{{"packets", 1, false, false}, {"packets, 3 shards", 3, false, true}, {"batches", 1, true, true}, {"batches, 8 shards", 8, true, false}} {
		w.config.Shards = c.shards
		n, err := snat.New(w.config)
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		subjects = append(subjects, &subject{name: c.name, nat: n, batched: c.batched, steps: c.steps})
	}
	r := &runner{t: t, model: m, subjects: subjects, world: w}
	r.play(s)
	return m
}

// play plays the rest of a script, and lets everything expire in the end.
func (r *runner) play(s *script) {
	t, m, w := r.t, r.model, r.world
	for at := flow.Time(0); at < w.start; at = min(w.start, at.Add(20*24*time.Hour)) {
		r.advance(at)
	}
	r.now = w.start
	for r.op = 0; !s.done(); r.op++ {
		r.step(s)
		if t.Failed() {
			t.Fatalf("op %d at %v: %s", r.op, r.now, r.what)
		}
	}
	r.advance(r.now)
	r.now = r.now.Add(time.Hour)
	r.advance(r.now)
	if n := len(m.flows); n > 0 {
		t.Errorf("%d flows are left in the model", n)
	}
}

// runner applies operations.
type runner struct {
	t        testing.TB
	model    *model
	subjects []*subject
	world    *scenery
	now      flow.Time
	op       int
	what     string       // the operation, for messages
	past     []*modelFlow // all that ever were
}

// fork lets every second subject go on as a copy of what it was.
func (r *runner) fork() {
	for i := 1; i < len(r.subjects); i += 2 {
		x := r.subjects[i]
		if r.op == 96 {
			require.Empty(r.t, likeness.Compare(x.nat, forked(r.t, x.nat), forkShares))
		}
		x.nat = goesOnForked(r.t, x.nat, r.world.config.Hooks)
	}
}

// restore lets every other subject go on as what is read of what was written of it.
func (r *runner) restore() {
	for i := 0; i < len(r.subjects); i += 2 {
		x := r.subjects[i]
		x.nat = goesOnRestored(r.t, x.nat, x.nat.Config())
	}
}

// resetTo ends connections with some remotes.
func (r *runner) resetTo(s *script) {
	a := s.remote(s.next(2) == 0).Addr()
	remotes := netip.PrefixFrom(a, a.BitLen()-s.next(3)*4).Masked()
	r.what = fmt.Sprintf("reset to %v", remotes)
	want := r.model.resetTo(r.now, remotes)
	for _, x := range r.subjects {
		r.flush(x)
		if got := x.nat.ResetTo(r.now, []netip.Prefix{remotes}); got != want {
			r.t.Errorf("%s: %d connections ended, want %d", x.name, got, want)
		}
	}
}

// step performs the next operation of a script.
func (r *runner) step(s *script) {
	w, m := r.world, r.model
	switch r.op % 97 {
	case 48:
		r.restore()
	case 96:
		r.fork()
	}
	if r.op%41 == 40 {
		r.resetTo(s)
	}
	switch op := s.next(16); op {
	case 0, 1, 2, 3: // whatever an inside socket may begin with
		p := packet{proto: pick[uint8](s, protoTCP, protoUDP), payload: pick(s, "", "x", "query")}
		p.src = netip.AddrPortFrom(pick(s, w.insides...), uint16(pick(s, 5000, 1016, 65524)+s.next(12)))
		if p.proto == protoUDP { // few sockets with many destinations
			p.src = netip.AddrPortFrom(p.src.Addr(), 5000+p.src.Port()%3)
		}
		p.dst = s.remote(p.src.Addr().Is6())
		if f := r.anyFlow(s, p.proto); ownedOf(w.config).Hairpin && f != nil && s.next(3) == 0 && f.inside.Addr().Is6() == p.src.Addr().Is6() {
			p.dst = f.outside // to another host of the inside, or to itself
		}
		p.flags, p.seq = flow.SYN, 1000
		if s.next(16) == 0 {
			p.flags, p.corrupt = pick[uint8](s, flow.ACK, flow.SYN|flow.ACK, flow.RST, flow.SYN), s.next(2) == 0
		}
		if p.proto == protoUDP {
			p.flags, p.seq = 0, 0
			p.bare = s.next(4) == 0 && !p.corrupt && p.src.Addr().Is4()
		}
		r.packet(flow.Inside, p)
		if op == 3 { // and its neighbours
			for range s.next(16) {
				p.src = netip.AddrPortFrom(p.src.Addr(), p.src.Port()-1)
				r.packet(flow.Inside, p)
			}
		}
	case 4, 5, 6: // the handshake of a flow
		if f := r.anyFlow(s, protoTCP); f != nil {
			for _, i := range handshakes[f.track.Initiator()] {
				r.packet(segmentOf(f, i))
			}
		}
	case 7, 8, 9: // any of its segments
		if f := r.anyFlow(s, protoTCP); f != nil {
			from, p := segmentOf(f, s.next(len(dialogue)))
			p.corrupt = s.next(16) == 0
			r.packet(from, p)
		}
	case 10: // FIN from both ends, acknowledged
		if f := r.anyFlow(s, protoTCP); f != nil {
			for _, i := range []int{7, 8, 9} {
				r.packet(segmentOf(f, i))
			}
		}
	case 11: // a datagram
		if f := r.anyFlow(s, protoUDP); f != nil {
			p := packet{proto: protoUDP, src: f.inside, dst: f.remote, payload: "more", corrupt: s.next(8) == 0}
			from := pick(s, flow.Outside, flow.Inside)
			if from == flow.Outside {
				p.src, p.dst = f.remote, f.outside
			}
			for range pick(s, 1, 2) {
				r.packet(from, p)
			}
		}
	case 12: // something from outside that may belong to nothing
		if m.config.RememberEntries && s.next(3) > 0 {
			r.publicStep(s)
			return
		}
		p := packet{proto: pick[uint8](s, protoTCP, protoUDP), flags: pick[uint8](s, flow.ACK, flow.SYN, flow.SYN), payload: "stray", seq: 5000}
		p.dst = netip.AddrPortFrom(pick(s, addr("203.0.113.10"), addr("2001:db8:f::10"), addr("203.0.113.11"), addr("10.0.0.4"), addr("10.244.0.1"), addr("10.244.1.1"),
			addr("fd00::5"), addr("192.0.2.1"), addr("20.50.1.4"), addr("20.50.1.5"), addr("2001:db8:50::4")), uint16(1016+s.next(64)))
		if f := r.anyFlow(s, p.proto); f != nil && s.next(4) > 0 { // to a port that somebody has
			p.dst = f.outside
		}
		p.src = s.remote(p.dst.Addr().Is6())
		if f := r.anyFlow(s, p.proto); f != nil && s.next(6) == 0 { // to an inside socket, unasked or not
			p.src, p.dst = f.remote, f.inside
		}
		p.corrupt = s.next(16) == 0
		if p.proto == protoUDP {
			p.flags, p.seq = 0, 0
		}
		r.packet(flow.Outside, p)
	case 13, 14:
		d := pick(s, 0, 300*time.Microsecond, time.Millisecond, 100*time.Millisecond, 700*time.Millisecond, 1500*time.Millisecond, 3*time.Second, -1, -2, 10*time.Second)
		if d == 10*time.Second && s.next(8) == 0 { // past where ticks of 31 and 32 bits are spent
			d = pick(s, 13*days, 26*days, 51*days)
		}
		next, ok := m.nextDeadline()
		switch {
		case d >= 0:
			r.now = r.now.Add(d)
		case ok: // to the nanosecond at which something ends, or to the one before
			r.now = max(r.now, next.Add(d+1))
		}
		if w.drive == always {
			r.advance(r.now)
		}
	case 15:
		if w.drive == rarely {
			r.advance(r.now)
		}
	}
}

// publicStep sends packets between one of few sockets of an instance with a public address and a
// remote, in both directions.
func (r *runner) publicStep(s *script) {
	inst := &r.model.config.Instances[s.next(len(r.model.config.Instances))]
	if len(inst.PublicAddrs) == 0 {
		return
	}
	public := inst.PublicAddrs[s.next(len(inst.PublicAddrs))]
	own := inst.Addrs[slices.IndexFunc(inst.Addrs, func(a netip.Addr) bool { return a.Is4() == public.Is4() })]
	port := uint16(5000 + s.next(2))
	p := packet{proto: pick[uint8](s, protoTCP, protoUDP), payload: "x", seq: 1000}
	remote := s.remote(own.Is6())
	for range 1 + s.next(4) {
		if p.flags = 0; p.proto == protoTCP {
			p.flags = pick[uint8](s, flow.SYN, flow.SYN|flow.ACK, flow.ACK, flow.RST)
		}
		if s.next(2) == 0 {
			p.src, p.dst = remote, netip.AddrPortFrom(public, port)
			r.packet(flow.Outside, p)
		} else {
			p.src, p.dst = netip.AddrPortFrom(own, port), remote
			r.packet(flow.Inside, p)
		}
	}
}

// anyFlow picks a flow of the model, or one of the past, which may be over.
func (r *runner) anyFlow(s *script, proto uint8) *modelFlow {
	k := s.next(256)
	flows := r.model.flows
	if s.next(4) == 0 {
		flows = r.past[max(0, len(r.past)-24):]
	}
	var some []*modelFlow
	for _, f := range flows {
		if f.proto == proto {
			some = append(some, f)
		}
	}
	if len(some) == 0 {
		return nil
	}
	return some[k%len(some)]
}

// packet sends a packet through the model and all subjects.
func (r *runner) packet(from flow.Side, p packet) {
	r.what = fmt.Sprintf("%v from %v", p, from)
	if sharedOf(r.model.config) != nil {
		r.packetShared(from, p)
		return
	}
	want := expectation{sent: p}
	if from == flow.Inside {
		want.verdict, want.translated = r.model.outbound(r.now, p)
	} else {
		want.verdict, want.translated = r.model.inbound(r.now, p)
	}
	if want.verdict.New {
		r.past = append(r.past, r.model.flows[len(r.model.flows)-1])
	}
	for _, x := range r.subjects {
		if x.batched {
			if len(x.pkts) > 0 && (x.from != from || x.now != r.now) || len(x.pkts) == 100 {
				r.flush(x)
			}
			x.from, x.now = from, r.now
			x.pkts, x.expected = append(x.pkts, p.bytes()), append(x.expected, want)
			continue
		}
		b := p.bytes()
		v := x.nat.Outbound
		if from == flow.Outside {
			v = x.nat.Inbound
		}
		r.compare(x, v(r.now, b), b, want)
		x.nat.Check()
		r.counters(x, false)
	}
}

// flush sends the packets that wait for a batch door.
func (r *runner) flush(x *subject) {
	if len(x.pkts) == 0 {
		return
	}
	verdicts := make([]flow.Verdict, len(x.pkts))
	if x.from == flow.Inside {
		x.nat.OutboundBatch(x.now, x.pkts, verdicts)
	} else {
		x.nat.InboundBatch(x.now, x.pkts, verdicts)
	}
	for i, want := range x.expected {
		r.compare(x, verdicts[i], x.pkts[i], want)
	}
	x.pkts, x.expected = nil, nil
	x.nat.Check()
}

// compare compares a verdict and what became of the packet.
func (r *runner) compare(x *subject, got flow.Verdict, b []byte, want expectation) {
	r.t.Helper()
	v := want.verdict
	if got.Action != v.Action || got.Reason != v.Reason || got.New != v.New ||
		v.Action != flow.Drop && got.Instance != v.Instance || v.Action == flow.Forward && got.To != v.To {
		r.t.Errorf("%s: %v: verdict %+v (%v), want %+v (%v)", x.name, want.sent, got, got.Reason, v, v.Reason)
		return
	}
	if v.Action != flow.Drop {
		if bad := sameAs(b, want.sent, want.translated); bad != "" {
			r.t.Errorf("%s: %v: %s", x.name, want.sent, bad)
		}
	}
}

// advance brings all subjects up to now and compares everything there is to
// compare.
func (r *runner) advance(now flow.Time) {
	r.what = fmt.Sprintf("advance to %v", now)
	r.model.expire(now)
	byPacket := func(a, b emission) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.to, b.to), cmp.Compare(a.packet, b.packet), cmp.Compare(a.instance, b.instance))
	}
	want := r.model.resets
	r.model.resets = nil
	slices.SortFunc(want, byPacket)
	for _, x := range r.subjects {
		r.flush(x)
		got := x.early
		x.early = nil
		sink := func(e flow.Emission) { got = append(got, emission{e.At, e.To, e.Instance, string(e.Packet)}) }
		if x.steps {
			for !x.nat.AdvanceStep(now, sink) {
			}
		} else {
			x.nat.Advance(now, sink)
		}
		x.nat.Check()
		slices.SortFunc(got, byPacket)
		if !slices.Equal(got, want) {
			r.t.Errorf("%s: emitted %d packets, want %d:\n got %v\nwant %v", x.name, len(got), len(want), got, want)
		}
		r.counters(x, true)
		r.state(x)
	}
}

// counters compares counters. Unless exact, something may be due that nobody
// has noticed, and only what packets have decided must agree.
func (r *runner) counters(x *subject, exact bool) {
	got, want := x.nat.Stats(), r.model.stats
	want.SessionsActive, want.HeldSYNs.Held, want.Ports = r.model.active(), len(r.model.held), r.model.portUses()
	if got.SessionsActive+int(got.SessionsEnded) != int(got.SessionsCreated) {
		r.t.Errorf("%s: %d sessions active and %d ended, %d created", x.name, got.SessionsActive, got.SessionsEnded, got.SessionsCreated)
	}
	if got.Bytes <= 0 && got.SessionsActive > 0 { // without ports and sessions there may be none
		r.t.Errorf("%s: %d bytes in use", x.name, got.Bytes)
	}
	got.Bytes = 0
	if !exact {
		got.SessionsActive, got.SessionsEnded, got.Expired, got.Resets = want.SessionsActive, want.SessionsEnded, want.Expired, want.Resets
		got.Cut, got.Ports = want.Cut, want.Ports
		got.ICMPErrors, got.HeldSYNs.Held, got.HeldSYNs.Expired = want.ICMPErrors, want.HeldSYNs.Held, want.HeldSYNs.Expired
	}
	if got != want {
		r.t.Errorf("%s: stats\n got %+v\nwant %+v", x.name, got, want)
	}
	for _, row := range x.nat.Traffic() {
		count := [2]snat.TrafficCount{flow.Inside: row.Outbound, flow.Outside: row.Inbound}
		if want := r.model.traffic[frontendKey{row.Frontend, map[snat.Protocol]uint8{snat.TCP: protoTCP, snat.UDP: protoUDP}[row.Protocol]}]; want != nil && count != *want || want == nil && count != [2]snat.TrafficCount{} {
			r.t.Errorf("%s: traffic of %v %v\n got %+v\nwant %+v", x.name, row.Frontend, row.Protocol, count, want)
		}
	}
}

// state compares sessions and ports; nothing may be due.
func (r *runner) state(x *subject) {
	var sessions []string
	for s := range x.nat.Sessions() {
		sessions = append(sessions, fmt.Sprintf("%d %d %v %v %v %v %d", s.VNI, s.Proto, s.Inside, s.Outside, s.Remote, s.Class, s.Data[0]))
	}
	slices.Sort(sessions)
	if want := r.model.sessions(); !slices.Equal(sessions, want) {
		r.t.Errorf("%s: sessions\n got %q\nwant %q", x.name, sessions, want)
	}
	if sharedOf(r.model.config) != nil {
		r.stateShared(x)
		return
	}
	// What ends at the moment of its last packet may still be counted by the peak of
	// a frontend while other shards have not noticed what has ended before.
	peaks := r.world.drive == always || !r.model.endedAtOnce
	want := r.model.instances()
	for i, got := range x.nat.Instances() {
		for _, p := range got.Pools {
			if p.Allocated != p.Free+p.Used || p.Used != p.Total() || p.Peak < p.Used {
				r.t.Errorf("%s: %s: %+v does not add up", x.name, got.Name, p)
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want[i]) {
			r.t.Errorf("%s: instance\n got %+v\nwant %+v", x.name, got, want[i])
		}
	}
	frontends, wanted := x.nat.Frontends(), r.model.frontends()
	byAddr := func(a, b snat.FrontendStats) int { // TCP stays before UDP
		return a.Frontend.Compare(b.Frontend)
	}
	slices.SortStableFunc(frontends, byAddr)
	slices.SortStableFunc(wanted, byAddr)
	for i := range min(len(frontends), len(wanted)) {
		if !peaks {
			frontends[i].Peak = wanted[i].Peak
		}
	}
	if !slices.Equal(frontends, wanted) {
		r.t.Errorf("%s: frontends\n got %+v\nwant %+v", x.name, frontends, wanted)
	}
	at, ok := x.nat.NextDeadline()
	if next, any := r.model.nextOfAll(); ok != any || at > next {
		r.t.Errorf("%s: next deadline %v %v, want %v %v at most", x.name, at, ok, next, any)
	}
}
