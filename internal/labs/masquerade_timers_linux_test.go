package labs

// The differential lab for time: the same segments through the kernel's tracker and
// through the preset, and after each of them the state and the time left. What the
// kernel says it says in /proc/net/nf_conntrack, in whole seconds.

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/netlab"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
)

// entry is what a tracker knows of a connection: its state, by Linux's name, and how
// long it may idle; nothing if there is none.
type entry struct {
	state string
	left  time.Duration
}

// linuxStates names our states as Linux does.
var linuxStates = map[string]string{
	"syn-sent": "SYN_SENT", "syn-both": "SYN_SENT2", "syn-received": "SYN_RECV", "midstream": "ESTABLISHED",
	"established": "ESTABLISHED", "fin-initiator": "FIN_WAIT", "fin-responder": "FIN_WAIT", "close-wait": "CLOSE_WAIT",
	"fin-both": "LAST_ACK", "time-wait": "TIME_WAIT", "reset": "CLOSE",
}

// entry reads what the kernel knows of the TCP connection that client has opened.
func (k *kernel) entry(t *testing.T, client netip.AddrPort) (e entry) {
	t.Helper()
	var table []byte
	if err := k.host.Do(func() (err error) {
		table, err = os.ReadFile("/proc/thread-self/net/nf_conntrack")
		return err
	}); err != nil {
		t.Skipf("the kernel does not show its connections: %v", err)
	}
	for line := range strings.Lines(string(table)) {
		f := strings.Fields(line)
		if len(f) < 8 || f[2] != "tcp" || netip.MustParseAddr(strings.TrimPrefix(f[6], "src=")) != client.Addr() || !strings.Contains(line, fmt.Sprintf(" sport=%d ", client.Port())) {
			continue
		}
		seconds, err := strconv.Atoi(f[4])
		if err != nil {
			t.Fatal(line)
		}
		return entry{f[5], time.Duration(seconds) * time.Second}
	}
	return e
}

// entry reads what the preset knows of it.
func (e *engine) entry(client netip.AddrPort) (known entry) {
	timeouts := masqueradeTimeouts
	for s := range e.nat.Sessions() {
		if s.Inside == client && s.Proto == 6 {
			known = entry{linuxStates[s.State], timeouts[s.Class] - s.Idle}
		}
	}
	return known
}

// masqueradeTimeouts are those of the kernel by our classes.
var masqueradeTimeouts = map[flow.Class]time.Duration{
	flow.ClassTCPOpening: 120 * time.Second, flow.ClassTCPSynReceived: 60 * time.Second, flow.ClassTCPEstablished: 432_000 * time.Second,
	flow.ClassTCPUnacknowledged: 300 * time.Second, flow.ClassTCPHalfClosed: 120 * time.Second, flow.ClassTCPCloseWait: 60 * time.Second,
	flow.ClassTCPClosing: 30 * time.Second, flow.ClassTCPTimeWait: 120 * time.Second, flow.ClassTCPReset: 10 * time.Second,
}

// same reports whether two trackers agree; the kernel's seconds are rounded down, and
// its clock is the real one.
func (e entry) same(ours entry) bool {
	return e.state == ours.state && e.left <= ours.left+time.Second && e.left >= ours.left-3*time.Second
}

// duel is one connection in both worlds.
type duel struct {
	t      *testing.T
	linux  *kernel
	ours   *engine
	client netip.AddrPort
	ends   [2]string // of the segments: by who sends
	peers  [2]string
	log    []string
}

// newDuel begins a connection that nobody has seen, of f.
func newDuel(t *testing.T, linux *kernel, f Family, port uint16) *duel {
	client := netip.AddrPortFrom(f.Client, port)
	remote, outside := f.At(80), netip.AddrPortFrom(f.Frontend, port).String()
	return &duel{
		t: t, linux: linux, ours: newEngine(t, masquerade(t)), client: client,
		ends: [2]string{client.String(), remote}, peers: [2]string{remote, outside},
	}
}

// send sends a segment of a side in both worlds and compares what they know then.
func (d *duel) send(from flow.Side, flags string, seq, ack uint32, fields ...pkttest.Field) {
	d.t.Helper()
	p := pkttest.TCP(d.ends[from], d.peers[from], append([]pkttest.Field{pkttest.TCPFlags(flags), pkttest.Seq(seq), pkttest.Ack(ack)}, fields...)...)
	d.linux.send(d.t, from, p)
	d.ours.send(d.t, from, p)
	linux, ours := d.linux.entry(d.t, d.client), d.ours.entry(d.client)
	d.log = append(d.log, fmt.Sprintf("%v %s seq %d ack %d, %d bytes: linux %v, ours %v", from, flags, seq, ack, len(p), linux, ours))
	if !linux.same(ours) {
		d.t.Fatalf("the kernel and the preset do not agree:\n%s", strings.Join(d.log, "\n"))
	}
}

// walker sends segments at random, most of them such as real ends send.
type walker struct {
	*duel
	*rand.Rand
	iss, next [2]uint32 // by side
	asks      [2]uint32 // the sequence number of the last SYN
	last      [2]uint32 // length of the last data
	doubted   [2]bool   // it has sent a RST that was not at the edge
	crossed   bool      // both have sent a SYN
	pickedUp  bool
	probes    bool // it sends probes, and no data again
}

// sent counts what a side has sent, if it fitted: then the time left is whole again.
func (w *walker) sent(me flow.Side, n uint32) {
	if e := w.ours.entry(w.client); e.state != "" && e.left%time.Second == 0 {
		w.next[me] += n
	}
}

func (w *walker) step() {
	me := flow.Side(w.IntN(2))
	peer := me ^ 1
	n := w.IntN(24)
	switch state := w.ours.entry(w.client).state; {
	case (n < 6 || n > 10 && n < 17) && w.pickedUp, n == 10 && state == "SYN_SENT", n == 16 && !w.probes, (n == 14 || n == 15) && (w.probes || w.last[me] == 0):
		return // see the deviations of flow.ConntrackRules
	case n < 3 && me == flow.Outside && state == "TIME_WAIT":
		return // see the row about it
	case n >= 3 && n < 6 && me == flow.Inside && state == "SYN_RECV":
		return // as if the other end had not answered
	case state == "SYN_SENT2" || w.crossed && state == "SYN_RECV" && me == flow.Outside:
		if w.crossed = true; n > 8 && n < 12 || state == "SYN_RECV" {
			return // here an ACK of the responder is enough
		}
	case n == 11 && w.doubted[me]:
		return // the number it has would be that of the first one
	}
	switch n {
	case 0, 1, 2:
		if w.IntN(3) == 0 {
			w.asks[me] += 100_000
		}
		w.send(me, "S", w.asks[me], 0, pkttest.Window(1000))
		if strings.HasPrefix(w.ours.entry(w.client).state, "SYN_SENT") {
			w.iss[me], w.next[me] = w.asks[me], w.asks[me]+1
		}
	case 3, 4, 5:
		before := w.ours.entry(w.client).state
		w.send(me, "SA", w.iss[me], w.asks[peer]+1, pkttest.Window(1000))
		if w.ours.entry(w.client).state == "SYN_RECV" && before != "SYN_RECV" {
			w.iss[peer], w.next[peer], w.next[me] = w.asks[peer], w.asks[peer]+1, w.iss[me]+1
		}
	case 6, 7:
		w.send(me, "FA", w.next[me], w.next[peer], pkttest.Window(1000))
		w.sent(me, 1)
	case 8:
		w.send(me, "FA", w.next[me]-1, w.next[peer], pkttest.Window(1000))
	case 9:
		w.send(me, "R", w.next[me], 0)
	case 10:
		w.send(me, "RA", w.next[me], w.next[peer])
	case 11:
		w.doubted[me] = true
		w.send(me, "R", w.next[me]+7, 0)
	case 12, 13:
		w.last[me] = uint32(1 + w.IntN(50))
		w.send(me, "PA", w.next[me], w.next[peer], pkttest.Window(1000), pkttest.Payload(strings.Repeat("x", int(w.last[me]))))
		w.sent(me, w.last[me])
	case 14, 15:
		for range 1 + w.IntN(4) {
			w.send(me, "PA", w.next[me]-w.last[me], w.next[peer], pkttest.Window(1000), pkttest.Payload(strings.Repeat("x", int(w.last[me]))))
		}
	case 16:
		for range 1 + w.IntN(5) {
			w.send(me, "A", w.next[me]-1, w.next[peer], pkttest.Window(1000))
		}
	case 17:
		w.send(me, "A", w.next[me], w.next[peer], pkttest.Window(0))
	default:
		w.send(me, "A", w.next[me], w.next[peer], pkttest.Window(1000))
	}
}

// What a connection may idle, after each of many segments at random: as the kernel
// has it.
func TestLabMasqueradeRandomTimers(t *testing.T) {
	netlab.Require(t, "nft")
	seed := uint64(20261128)
	walks := 300
	if testing.Short() {
		walks = 50
	}
	linux := newKernel(t, IPv4)
	for i := range walks {
		t.Run(fmt.Sprintf("walk %d of seed %d", i, seed), func(t *testing.T) {
			w := &walker{duel: newDuel(t, linux, IPv4, uint16(2000+i)), Rand: rand.New(rand.NewPCG(seed, uint64(i)))}
			w.iss = [2]uint32{1000, 5000}
			w.asks = w.iss
			w.next = [2]uint32{1001, 5001}
			w.probes = w.IntN(2) == 0
			if w.pickedUp = w.IntN(4) == 0; !w.pickedUp { // most begin as connections do
				w.send(flow.Inside, "S", 1000, 0, pkttest.Window(1000))
				w.send(flow.Outside, "SA", 5000, 1001, pkttest.Window(1000))
				w.send(flow.Inside, "A", 1001, 5001, pkttest.Window(1000))
			}
			for range 12 {
				w.step()
			}
		})
	}
}

// What restarts a timer and what does not takes time to tell.
func TestLabMasqueradeTimers(t *testing.T) {
	netlab.Require(t, "nft")
	linux := newKernel(t, IPv6)
	const pause = 4 * time.Second // more than what same takes for rounding
	establish := func(d *duel) {
		d.send(flow.Inside, "S", 1000, 0)
		d.send(flow.Outside, "SA", 5000, 1001)
		d.send(flow.Inside, "A", 1001, 5001)
	}
	finish := func(d *duel) {
		establish(d)
		d.send(flow.Inside, "FA", 1001, 5001)
		d.send(flow.Outside, "FA", 5001, 1002)
		d.send(flow.Inside, "A", 1002, 5002)
	}
	var duels []*duel
	steps := [][2]func(d *duel){ // before and after the pause, which all share
		{func(d *duel) { d.send(flow.Inside, "S", 1000, 0) }, func(d *duel) { d.send(flow.Inside, "S", 1000, 0) }},
		{func(d *duel) { d.send(flow.Inside, "S", 1000, 0) }, func(d *duel) { d.send(flow.Inside, "S", 9000, 0) }},
		{establish, func(d *duel) { d.send(flow.Inside, "S", 1000, 0) }},
		{establish, func(d *duel) { d.send(flow.Outside, "SA", 5000, 1001) }},
		{finish, func(d *duel) { d.send(flow.Outside, "FA", 5001, 1002) }},
		{finish, func(d *duel) { d.send(flow.Inside, "S", 90000, 0) }},
		{
			func(d *duel) { establish(d); d.send(flow.Inside, "RA", 1001, 5001) },
			func(d *duel) {
				d.send(flow.Outside, "PA", 5001, 1001, pkttest.Payload("data")) // still 10 s
				d.send(flow.Inside, "S", 90000, 0)
			},
		},
		{
			func(d *duel) { establish(d); d.send(flow.Outside, "R", 5001, 0) },
			func(d *duel) {
				d.send(flow.Inside, "S", 90000, 0)
				d.send(flow.Outside, "SA", 50000, 90001)
			},
		},
		{
			func(d *duel) { establish(d); d.send(flow.Inside, "PA", 1001, 5001, pkttest.Payload("data")) },
			func(d *duel) { d.send(flow.Outside, "A", 5001, 1005) },
		},
		{
			func(d *duel) {
				establish(d)
				for range 4 {
					d.send(flow.Inside, "A", 1000, 5001)
				}
			},
			func(d *duel) { d.send(flow.Outside, "A", 5001, 1001) },
		},
		{
			func(d *duel) { establish(d); d.send(flow.Inside, "FA", 1001, 5001) },
			func(d *duel) { d.send(flow.Inside, "FA", 1001, 5001) },
		},
	}
	for i, step := range steps {
		d := newDuel(t, linux, IPv6, uint16(3000+i))
		step[0](d)
		duels = append(duels, d)
	}
	time.Sleep(pause)
	for i, d := range duels {
		d.ours.now = d.ours.now.Add(pause)
		d.log = append(d.log, fmt.Sprint("wait ", pause))
		steps[i][1](d)
	}
}
