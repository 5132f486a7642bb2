package router

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

const testTimeout = 2 * time.Minute

// cable returns both ends of a connection that keeps the boundaries of packets:
// a device, and the host behind it.
func cable(t *testing.T) (device, host *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds { // room for some hundred packets, however much one takes
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 1<<20); err != nil {
			t.Fatal(err)
		}
	}
	device, host = os.NewFile(uintptr(fds[0]), "device"), os.NewFile(uintptr(fds[1]), "host")
	t.Cleanup(func() { device.Close(); host.Close() })
	if err := host.SetDeadline(time.Now().Add(testTimeout)); err != nil {
		t.Fatal(err)
	}
	return device, host
}

// start runs a router between two hosts until the test ends.
func start(t *testing.T, c Config) (r *Router, inside, outside *os.File) {
	t.Helper()
	device, inside := cable(t)
	c.Inside = []*os.File{device}
	c.Outside, outside = cable(t)
	r, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(testTimeout):
			t.Error("Run does not return")
		}
	})
	return r, inside, outside
}

func send(t *testing.T, f *os.File, pkt []byte) {
	t.Helper()
	if _, err := f.Write(pkt); err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, f *os.File) []byte {
	t.Helper()
	buf := make([]byte, 2048)
	n, err := f.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}

func TestForwardsBothWaysAndResetsOnIdle(t *testing.T) {
	nat, err := snat.New(snat.Config{
		Instances: []snat.Instance{{
			Name: "inside", Inside: prefixes("10.244.0.0/16"),
			Ports: []snat.PortRange{{Frontend: addr("20.50.1.1"), First: 1024, Count: 64}},
		}},
		Policy: snat.Policy{IdleTimeout: 100 * time.Millisecond, EnableTCPReset: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer nat.Close()
	var mu sync.Mutex
	observed := map[flow.Side]int{}
	r, inside, outside := start(t, Config{Engine: nat, Observe: func(to flow.Side, _ []byte) {
		mu.Lock()
		observed[to]++
		mu.Unlock()
	}})
	const pod, web, front = "10.244.0.5:40000", "203.0.113.80:80", "20.50.1.1:1024"
	send(t, inside, pkttest.TCP(pod, web, pkttest.TCPFlags("S"), pkttest.Seq(100)))
	pkttest.Check(t, receive(t, outside), pkttest.Src(front), pkttest.Dst(web), pkttest.TTL(64), pkttest.ChecksumsOK())
	send(t, outside, pkttest.TCP(web, front, pkttest.TCPFlags("SA"), pkttest.Seq(500), pkttest.Ack(101)))
	pkttest.Check(t, receive(t, inside), pkttest.Src(web), pkttest.Dst(pod), pkttest.ChecksumsOK())
	send(t, inside, pkttest.TCP("10.9.9.9:1", web, pkttest.TCPFlags("S"))) // no instance: dropped
	send(t, inside, pkttest.TCP(pod, web, pkttest.TCPFlags("A"), pkttest.Seq(101), pkttest.Ack(501)))
	pkttest.Check(t, receive(t, outside), pkttest.Src(front), pkttest.Seq(101))

	// Nothing more is said: both ends are told, each by the other's address.
	pkttest.Check(t, receive(t, inside), pkttest.Src(web), pkttest.Dst(pod), pkttest.TCPFlags("R"), pkttest.ChecksumsOK())
	pkttest.Check(t, receive(t, outside), pkttest.Src(front), pkttest.Dst(web), pkttest.TCPFlags("R"), pkttest.ChecksumsOK())
	// A packet is counted when it has been sent, which is after it arrives.
	for deadline := time.Now().Add(testTimeout); ; time.Sleep(time.Millisecond) {
		in, out := r.Device(flow.Inside), r.Device(flow.Outside)
		in.Batches = 0 // depends on how fast the packets follow each other
		if in == (DeviceStats{Received: 3, Sent: 2}) && out == (DeviceStats{Received: 1, Batches: 1, Sent: 3}) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("inside device %+v, want 3 packets received and 2 sent; outside %+v, want 1 and 3", in, out)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if observed[flow.Inside] != 2 || observed[flow.Outside] != 3 {
		t.Errorf("observed %v, want 2 packets to the inside and 3 to the outside", observed)
	}
}

// fake is an engine that gives fixed verdicts and records its calls.
type fake struct {
	flow.Translator // nil: the other doors are not used

	verdict flow.Verdict

	mu    sync.Mutex
	times []flow.Time
	sizes []int
}

func (f *fake) call(now flow.Time, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.times, f.sizes = append(f.times, now), append(f.sizes, n)
}

func (f *fake) OutboundBatch(now flow.Time, pkts [][]byte, verdicts []flow.Verdict) {
	f.call(now, len(pkts))
	for i := range pkts {
		verdicts[i] = f.verdict
	}
}

func (f *fake) InboundBatch(now flow.Time, pkts [][]byte, verdicts []flow.Verdict) {
	f.OutboundBatch(now, pkts, verdicts)
}

func (f *fake) Advance(now flow.Time, _ flow.Sink)    { f.call(now, 0) }
func (f *fake) NextDeadline() (at flow.Time, ok bool) { return 0, false }

func TestVerdictsDecideWhereAPacketGoes(t *testing.T) {
	for name, tt := range map[string]struct {
		verdict    flow.Verdict
		in, out    int
		unmodified bool
	}{
		"bypass crosses":           {flow.Verdict{Action: flow.Bypass}, 1, 1, true},
		"forward to the other":     {flow.Verdict{Action: flow.Forward, To: flow.Outside}, 0, 2, true},
		"forward back":             {flow.Verdict{Action: flow.Forward, To: flow.Inside}, 2, 0, true},
		"the zero verdict forgets": {flow.Verdict{}, 0, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			r, inside, outside := start(t, Config{Engine: &fake{verdict: tt.verdict}})
			hosts := map[*os.File]int{inside: tt.in, outside: tt.out}
			want := [][]byte{[]byte("from the inside"), []byte("from the outside")}
			send(t, inside, want[0])
			send(t, outside, want[1])
			for host, n := range hosts {
				for range n {
					if got := receive(t, host); !slices.ContainsFunc(want, func(w []byte) bool { return bytes.Equal(w, got) }) {
						t.Errorf("received %q, want a packet that was sent", got)
					}
				}
			}
			for r.Device(flow.Inside).Received+r.Device(flow.Outside).Received < 2 {
				time.Sleep(time.Millisecond)
			}
			for host := range hosts { // and nothing else
				if err := host.SetDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
					t.Fatal(err)
				}
				if n, err := host.Read(make([]byte, 64)); !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("%d more bytes (error %v) arrived", n, err)
				}
			}
		})
	}
}

func TestEachInstanceHasItsDevice(t *testing.T) {
	engine := &fake{verdict: flow.Verdict{Action: flow.Forward, To: flow.Inside, Instance: 1}}
	first, host0 := cable(t)
	second, host1 := cable(t)
	far, outside := cable(t)
	r, err := New(Config{Engine: engine, Inside: []*os.File{first, second}, Outside: far})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	for _, from := range []*os.File{outside, host0, host1} {
		send(t, from, []byte("to the second"))
		if got := receive(t, host1); string(got) != "to the second" {
			t.Errorf("received %q", got)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	if in, out := r.Device(flow.Inside), r.Device(flow.Outside); in.Received != 2 || in.Sent != 3 || out.Received != 1 || out.Sent != 0 {
		t.Errorf("inside devices %+v, want 2 packets received and 3 sent; outside %+v, want 1 and 0", in, out)
	}
}

func TestBatchesAndTime(t *testing.T) {
	engine := &fake{verdict: flow.Verdict{Action: flow.Forward, To: flow.Outside}}
	device, inside := cable(t)
	far, outside := cable(t)
	r, err := New(Config{Engine: engine, Inside: []*os.File{device}, Outside: far})
	if err != nil {
		t.Fatal(err)
	}
	const n = 150 // before anybody reads
	go func() {
		for range n {
			inside.Write([]byte("x"))
		}
	}()
	conn, err := device.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(testTimeout)
	for queued := 0; queued < n; time.Sleep(time.Millisecond) { // bytes, of packets of one byte
		if time.Now().After(deadline) {
			t.Fatalf("the socket has queued %d of %d packets", queued, n)
		}
		if ctl := conn.Control(func(fd uintptr) { queued, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) }); ctl != nil || err != nil {
			t.Fatal(ctl, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	for range n {
		receive(t, outside)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	engine.mu.Lock()
	defer engine.mu.Unlock()
	if sizes := slices.DeleteFunc(engine.sizes, func(n int) bool { return n == 0 }); !slices.Equal(sizes, []int{64, 64, 22}) {
		t.Errorf("batches of %v packets, want 64, 64 and 22", sizes)
	}
	if !slices.IsSorted(engine.times) {
		t.Errorf("time ran back: %v", engine.times)
	}
}

func TestRunReportsABrokenDevice(t *testing.T) {
	device, inside := cable(t)
	far, _ := cable(t)
	r, err := New(Config{Engine: &fake{}, Inside: []*os.File{device}, Outside: far})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- r.Run(t.Context()) }()
	inside.Close()
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), "inside device") {
			t.Errorf("Run: %v, want an error that names the inside device", err)
		}
	case <-time.After(testTimeout):
		t.Error("Run goes on without a device")
	}
}

func TestNewRefuses(t *testing.T) {
	good, _ := cable(t)
	closed, _ := cable(t)
	closed.Close()
	for name, c := range map[string]struct {
		config Config
		want   []string
	}{
		"no engine":      {Config{Inside: []*os.File{good}, Outside: good}, []string{"Engine"}},
		"devices":        {Config{Engine: &fake{}, Outside: closed}, []string{"inside device", "outside device"}},
		"one of several": {Config{Engine: &fake{}, Inside: []*os.File{good, closed}, Outside: good}, []string{"inside device"}},
	} {
		_, err := New(c.config)
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error %q does not name the %s", name, err, want)
			}
		}
	}
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func prefixes(s string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(s)} }
