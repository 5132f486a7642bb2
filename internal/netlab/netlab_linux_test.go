package netlab

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

const testTimeout = 2 * time.Minute

// pair returns two namespaces of a new lab, joined by a cable: 10.0.0.1 and
// 2001:db8::1 on the left, .2 and ::2 on the right.
func pair(t *testing.T, tools ...string) (left, right *Namespace) {
	t.Helper()
	lab := New(t, tools...)
	left, right = lab.Namespace("left"), lab.Namespace("right")
	lab.Veth(
		End{In: left, Dev: "eth0", Addrs: []string{"10.0.0.1/24", "2001:db8::1/64"}},
		End{In: right, Dev: "eth0", Addrs: []string{"10.0.0.2/24", "2001:db8::2/64"}})
	return left, right
}

func TestPing(t *testing.T) {
	left, right := pair(t, "ping")
	for _, addr := range []string{"10.0.0.2", "2001:db8::2"} {
		left.Run("ping -n -c 2 -i 0.05 -W 60 " + addr)
	}
	right.Run("ping -n -c 1 -W 60 10.0.0.1")
}

func TestTCPEcho(t *testing.T) {
	left, right := pair(t)
	for _, addr := range []string{"10.0.0.2:7", "[2001:db8::2]:7"} {
		ln, err := right.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		go func() {
			for {
				conn, err := ln.Accept()
				if err != nil {
					return
				}
				io.Copy(conn, conn)
				conn.Close()
			}
		}()

		ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
		defer cancel()
		conn, err := left.DialContext(ctx, "tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(testTimeout))
		sent := bytes.Repeat([]byte("natplane"), 1<<15)
		go func() {
			conn.Write(sent)
			conn.(*net.TCPConn).CloseWrite()
		}()
		if got, err := io.ReadAll(conn); err != nil || !bytes.Equal(got, sent) {
			t.Errorf("%s: echoed %d of %d bytes, error %v", addr, len(got), len(sent), err)
		}
	}
}

func TestNamespacesAreSeparate(t *testing.T) {
	left, right := pair(t)
	// The same address and port in both.
	for _, n := range []*Namespace{left, right} {
		pc, err := n.ListenPacket("udp", "127.0.0.1:53")
		if err != nil {
			t.Fatalf("%s: %v", n.Name(), err)
		}
		defer pc.Close()
	}
	left.Sysctl("net.ipv4.ip_forward", "1")
	if l, r := left.Run("cat /proc/sys/net/ipv4/ip_forward"), right.Run("cat /proc/sys/net/ipv4/ip_forward"); l != "1\n" || r != "0\n" {
		t.Errorf("ip_forward: left %q, right %q, want 1 and 0", l, r)
	}
}

func TestHTTPTransport(t *testing.T) {
	left, right := pair(t)
	ln, err := right.Listen("tcp", "10.0.0.2:80")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.RemoteAddr) })}
	go srv.Serve(ln)
	defer srv.Close()
	client := http.Client{Transport: &http.Transport{DialContext: left.DialContext}, Timeout: testTimeout}
	defer client.CloseIdleConnections()
	resp, err := client.Get("http://10.0.0.2/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || !strings.HasPrefix(string(body), "10.0.0.1:") {
		t.Errorf("the server saw %q, error %v, want a client at 10.0.0.1", body, err)
	}
}

func TestVethShowsWhatIsSent(t *testing.T) {
	left, _ := pair(t)
	out := left.Run("ethtool -k eth0")
	for _, feature := range []string{"tx-checksumming", "rx-checksumming", "tcp-segmentation-offload", "generic-segmentation-offload", "generic-receive-offload"} {
		if !strings.Contains(out, feature+": off") {
			t.Errorf("%s is not off:\n%s", feature, out)
		}
	}
}

func TestDo(t *testing.T) {
	ns := New(t).Namespace("only")
	want := errors.New("from inside")
	if err := ns.Do(func() error { return want }); err != want {
		t.Errorf("Do returned %v, want the error of the function", err)
	}
	if err := ns.Do(func() error { runtime.Goexit(); return nil }); err != errExited {
		t.Errorf("Do returned %v for a function that ended its goroutine, want %v", err, errExited)
	}
	inside, outside := "", netns(t)
	if err := ns.Do(func() (err error) { inside, err = os.Readlink("/proc/thread-self/ns/net"); return err }); err != nil {
		t.Fatal(err)
	}
	if inside == outside {
		t.Errorf("Do ran in the host's namespace %s", outside)
	}
	for range 100 { // threads that were inside must not come back
		if got := netns(t); got != outside {
			t.Fatalf("after Do, a goroutine runs in %s, want %s", got, outside)
		}
	}
}

// netns names the network namespace of a new goroutine's thread.
func netns(t *testing.T) string {
	t.Helper()
	type result struct {
		link string
		err  error
	}
	c := make(chan result)
	go func() {
		link, err := os.Readlink("/proc/thread-self/ns/net")
		c <- result{link, err}
	}()
	r := <-c
	if r.err != nil {
		t.Fatal(r.err)
	}
	return r.link
}

func TestCommandEndsWithContext(t *testing.T) {
	ns := New(t).Namespace("only")
	ctx, cancel := context.WithCancel(t.Context())
	cmd := ns.Command(ctx, "sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := cmd.Wait(); err == nil {
		t.Error("a killed command reported success")
	}
}

func TestLaunch(t *testing.T) {
	ns := New(t).Namespace("only")
	p := ns.Launch("here", "sh", "-c", "trap 'echo heard >&2; exit' INT; echo i am here; while :; do sleep 0.01; done")
	p.Stop(syscall.SIGINT)
	p.Signal(syscall.SIGINT) // nobody is there
	ns.Launch("on standard error", "sh", "-c", "echo on standard error >&2; exec sleep 600")
}

func TestCleanup(t *testing.T) {
	var path string
	t.Run("lab", func(t *testing.T) {
		left, _ := pair(t)
		path = left.Path()
		if _, err := os.Stat(path); err != nil {
			t.Fatal(err)
		}
	})
	if link, err := os.Readlink(path); err == nil && strings.HasPrefix(link, "net:") {
		t.Errorf("%s is still open after its test: %s", path, link)
	}
}

// TestTUN answers pings by a loop over the device: what the kernel routes into it
// comes out of Read, and what is written is received.
func TestTUN(t *testing.T) {
	ns := New(t, "ping").Namespace("host")
	tun := ns.TUN("tun0", "10.0.0.1/24")
	answered := make(chan int)
	go func() {
		n := 0
		defer func() { answered <- n }()
		for buf := make([]byte, 2048); ; {
			size, err := tun.Read(buf)
			if err != nil {
				return
			}
			if p := buf[:size]; echoReply(p) {
				n++
				tun.Write(p)
			}
		}
	}()
	ns.Run("ping -n -c 3 -i 0.05 -W 60 10.0.0.77")
	ns.Run("ping -n -c 1 -s 1400 -W 60 10.0.0.78")
	if err := tun.Close(); err != nil {
		t.Fatal(err)
	}
	if n := <-answered; n < 4 {
		t.Errorf("%d pings came out of the device, want at least 4", n)
	}
}

// echoReply turns an ICMPv4 echo request into its reply, in place.
func echoReply(p []byte) bool {
	const header, protoICMP, echoRequest = 20, 1, 8
	if len(p) < header+8 || p[0] != 0x45 || p[9] != protoICMP || p[header] != echoRequest {
		return false
	}
	var src [4]byte
	copy(src[:], p[12:16])
	copy(p[12:16], p[16:20])
	copy(p[16:20], src[:])
	p[header] = 0
	sum := uint32(binary.BigEndian.Uint16(p[header+2:])) + echoRequest<<8 // the type fell by 8
	binary.BigEndian.PutUint16(p[header+2:], uint16(sum+sum>>16))
	return true
}

func TestTUNDeadline(t *testing.T) {
	tun := New(t).Namespace("host").TUN("tun0")
	if err := tun.SetReadDeadline(time.Now().Add(30 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	for buf := make([]byte, 2048); ; { // IPv6 may have announced itself
		if _, err := tun.Read(buf); errors.Is(err, os.ErrDeadlineExceeded) {
			return
		} else if err != nil {
			t.Fatalf("Read: %v, want %v", err, os.ErrDeadlineExceeded)
		}
	}
}

func TestOpenTUNRefuses(t *testing.T) {
	ns := New(t).Namespace("host")
	ns.TUN("tun0")
	for _, dev := range []string{"tun0", "a-name-of-16-byte"} {
		if err := ns.Do(func() error {
			f, err := OpenTUN(dev)
			if err == nil {
				f.Close()
			}
			return err
		}); err == nil || !strings.Contains(err.Error(), dev) {
			t.Errorf("OpenTUN(%q): error %v, want one that names the device", dev, err)
		}
	}
}
