package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/examples/internal/command"
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/netlab"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/internal/router"
	"github.com/seed-a61be3fe/natplane/snat"
	"github.com/seed-a61be3fe/natplane/snat/preset"
)

// asCommand makes the test binary the command that it tests.
const asCommand = "NATPLANE_TEST_GATEWAY"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
	}
	os.Exit(m.Run())
}

const testTimeout = 2 * time.Minute

// held counts the namespaces and TUN devices that this process has open.
func held(t *testing.T) (n int) {
	t.Helper()
	files, err := filepath.Glob("/proc/self/fd/*")
	require.NoError(t, err)
	for _, f := range files {
		if to, err := os.Readlink(f); err == nil && (strings.HasPrefix(to, "net:") || strings.HasSuffix(to, "/net/tun")) {
			n++
		}
	}
	return n
}

func TestSelftest(t *testing.T) {
	netlab.Require(t)
	all := preset.All()
	for i := 0; i < len(all); i += pkttest.Operations(4, 1, 1) {
		p := all[i]
		t.Run(p.Name, func(t *testing.T) {
			before := held(t)
			status, stdout, stderr := gateway(t, "-selftest", "-preset", p.Name)
			require.Zero(t, status, stderr)
			assert.Empty(t, stderr)
			count := 2 * (len(talk) + len(silence))
			if strings.Contains(stdout, "from outside") {
				count += 2 * len(visits)
			}
			assert.Equal(t, count, strings.Count(stdout, "\nok  "), stdout)
			assert.Equal(t, strings.HasPrefix(p.Name, "azure-lb") || p.Name == "gcp-cloudnat", strings.Contains(stdout, "from outside"), "forwards")
			for _, want := range []string{p.Name + ": ", "IPv4  DNS", "IPv6  HTTP", "STATISTICS", "every checksum was right", "self-test passed"} {
				assert.Contains(t, stdout, want)
			}
			assert.Equal(t, before, held(t), "open namespaces and devices")
		})
	}
}

func TestSelftestEndsWhenInterrupted(t *testing.T) {
	netlab.Require(t)
	before := held(t)
	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	defer out.Close()
	go func() { // interrupt while a connection idles
		gateways := 0
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if !strings.HasPrefix(lines.Text(), "azure-lb: ") {
				continue
			}
			if gateways++; gateways == len(trials) {
				time.AfterFunc(impatience/10, cancel)
			}
		}
	}()
	var complaints bytes.Buffer
	began := time.Now()
	assert.Equal(t, 1, run(ctx, []string{"-selftest"}, in, &complaints))
	assert.Less(t, time.Since(began), testTimeout)
	assert.Contains(t, complaints.String(), context.Canceled.Error())
	assert.Equal(t, before, held(t), "open namespaces and devices")
}

// start starts the gateway in a namespace and waits until it is ready.
func start(t *testing.T, in *netlab.Namespace, args ...string) (cmd *exec.Cmd, lines <-chan string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*testTimeout)
	t.Cleanup(cancel)
	cmd = in.Command(ctx, os.Args[0], args...)
	cmd.Env = append(os.Environ(), asCommand+"=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // the kernel kills the command when the thread ends that started it
		started <- cmd.Start()
		<-t.Context().Done()
	}()
	require.NoError(t, <-started)
	read := make(chan string, 1000)
	go func() {
		defer close(read)
		for s := bufio.NewScanner(out); s.Scan(); {
			read <- s.Text()
		}
	}()
	assert.Contains(t, await(t, read, "kill -USR1"), "azure-lb: ")
	return cmd, read
}

// await returns everything up to the line that contains text.
func await(t *testing.T, lines <-chan string, text string) string {
	t.Helper()
	var all []string
	for timeout := time.After(testTimeout); ; {
		select {
		case line, ok := <-lines:
			all = append(all, line)
			if strings.Contains(line, text) {
				return strings.Join(all, "\n")
			}
			require.True(t, ok, "ended without %q:\n%s", text, strings.Join(all, "\n"))
		case <-timeout:
			require.FailNow(t, "nothing more is printed", "%q is missing in:\n%s", text, strings.Join(all, "\n"))
		}
	}
}

// network is the router of the package comment, in a network of three hosts: the
// gateway makes one of the devices, and finds the other.
func network(t *testing.T, flags []string, tools ...string) (host, gw, web *netlab.Namespace, cmd *exec.Cmd, lines <-chan string) {
	t.Helper()
	lab := netlab.New(t, tools...)
	host, gw, web = lab.Namespace("host"), lab.Namespace("gateway"), lab.Namespace("web")
	lab.Veth(netlab.End{In: host, Dev: "eth0", Addrs: []string{"10.0.0.5/24", "fd00::5/64"}},
		netlab.End{In: gw, Dev: "eth1", Addrs: []string{"10.0.0.1/24", "fd00::1/64"}})
	lab.Veth(netlab.End{In: gw, Dev: "eth0", Addrs: []string{"192.0.2.1/24", "2001:db8:1::1/64"}},
		netlab.End{In: web, Dev: "eth0", Addrs: []string{"192.0.2.2/24", "2001:db8:1::2/64"}})
	gw.Run("ip tuntap add dev tun1 mode tun")
	cmd, lines = start(t, gw, append(flags, "-inside-dev", "tun0", "-outside-dev", "tun1", "-inside", "10.0.0.0/24,fd00::/64", "-frontend", "198.51.100.1,2001:db8:f::1")...)
	gw.Sysctl("net.ipv4.ip_forward", "1")
	gw.Sysctl("net.ipv6.conf.all.forwarding", "1")
	gw.Sysctl("net.ipv4.conf.all.rp_filter", "0")
	gw.Sysctl("net.ipv4.conf.tun0.rp_filter", "0")
	for option, of := range map[string]struct{ frontend, inside, outside string }{
		"":    {"198.51.100.1", "10.0.0.1", "192.0.2.1"},
		" -6": {"2001:db8:f::1", "fd00::1", "2001:db8:1::1"},
	} {
		host.Run("ip" + option + " route add default via " + of.inside)
		web.Run("ip" + option + " route add " + of.frontend + " via " + of.outside)
		gw.Run("ip" + option + " route add default dev eth0")
		gw.Run("ip" + option + " route add default dev tun0 table 100")
		gw.Run("ip" + option + " rule add iif eth1 lookup 100")
		gw.Run("ip" + option + " route add " + of.frontend + " dev tun1")
	}
	return host, gw, web, cmd, lines
}

func TestGatewayInANetwork(t *testing.T) {
	host, gw, web, cmd, lines := network(t, []string{"-ports", "64"})
	for remote, frontend := range map[string]string{"192.0.2.2:80": "198.51.100.1", "[2001:db8:1::2]:80": "2001:db8:f::1"} {
		ln, err := web.Listen("tcp", remote)
		require.NoError(t, err)
		defer ln.Close()
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				fmt.Fprint(c, c.RemoteAddr())
				c.Close()
			}
		}()
		pc, err := web.ListenPacket("udp", remote)
		require.NoError(t, err)
		defer pc.Close()
		go func() {
			for {
				_, from, err := pc.ReadFrom(make([]byte, 64))
				if errors.Is(err, net.ErrClosed) {
					return
				}
				if err == nil {
					pc.WriteTo([]byte(from.String()), from)
				}
			}
		}()
		for _, network := range []string{"tcp", "udp"} {
			ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
			c, err := host.DialContext(ctx, network, remote)
			cancel()
			require.NoError(t, err, "%s to %s", network, remote)
			defer c.Close()
			require.NoError(t, c.SetDeadline(time.Now().Add(testTimeout)))
			_, err = c.Write([]byte("who am I?"))
			require.NoError(t, err)
			buf := make([]byte, 64)
			n, err := c.Read(buf)
			require.NoError(t, err, "%s to %s", network, remote)
			assert.Equal(t, netip.AddrPortFrom(netip.MustParseAddr(frontend), 1024).String(), string(buf[:n]), network)
		}
	}

	require.NoError(t, cmd.Process.Signal(syscall.SIGUSR1))
	report := await(t, lines, "[2001:db8:1::2]:80")
	for _, want := range []string{"STATISTICS  (after", "tun0 (inside)", "198.51.100.1   TCP              64"} {
		assert.Contains(t, report, want)
	}
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	assert.Contains(t, await(t, lines, "[2001:db8:1::2]:80"), "STATISTICS  (after", "at the end")
	for range lines { // to the end of the pipe, which Wait would close
	}
	require.NoError(t, cmd.Wait(), "the exit status after SIGTERM")
	links := gw.Run("ip -brief link")
	assert.NotContains(t, links, "tun0", "made by the gateway")
	assert.Regexp(t, `tun1 +DOWN`, links, "it was there, and down")
}

func TestServeRefusesDevices(t *testing.T) {
	lab := netlab.New(t)
	gw := lab.Namespace("gateway")
	require.NoError(t, gw.Do(func() error {
		status, stdout, stderr := gateway(t, "-inside-dev", "lo", "-outside-dev", "lo2", "-inside", "10.0.0.0/24", "-frontend", "198.51.100.1")
		assert.Equal(t, 1, status)
		assert.Empty(t, stdout)
		assert.Contains(t, stderr, `-inside-dev: TUN device "lo"`)
		return nil
	}))
	assert.NotContains(t, gw.Run("ip -brief link"), "lo2", "a device that was opened is given back")
}

func TestStatistics(t *testing.T) {
	o := options{inside: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, frontends: []netip.Addr{netip.MustParseAddr("198.51.100.1")}, preset: command.DefaultPreset, ports: 8}
	config, err := o.config()
	require.NoError(t, err)
	nat, err := snat.New(config)
	require.NoError(t, err)
	defer nat.Close()
	for i := range 10 {
		nat.Outbound(0, pkttest.UDP(fmt.Sprintf("10.0.0.%d:5000", 1+i), "203.0.113.53:53", "query"))
	}
	nat.Inbound(0, pkttest.UDP("203.0.113.53:53", "198.51.100.9:1", "query"))
	var out bytes.Buffer
	require.NoError(t, statistics{
		uptime: 1500 * time.Millisecond, names: [2]string{"tun7", "tun8"}, nat: nat,
		devices: [2]router.DeviceStats{flow.Inside: {Received: 10, Batches: 2}, flow.Outside: {Received: 1, Batches: 1, Sent: 7, Failed: 1}},
	}.write(&out))
	for _, want := range []string{
		"STATISTICS  (after 1.5s)\n",
		"tun7 (inside)         10           2     0        0\n",
		"tun8 (outside)         1           1     7        1\n",
		"outbound          8                 0        2\n",
		"outbound  2  ports     No SNAT port of the instance is usable for this\n                       destination.\n",
		"inbound   1  not_ours  The outside destination is none of our addresses.\n",
		"198.51.100.1  UDP               8     8       8     0     8\n",
		"10.0.0.5  1\n",
		"203.0.113.53:53  8\n",
	} {
		assert.Contains(t, out.String(), want)
	}
	assert.NotContains(t, out.String(), "10.0.0.6", "the five biggest are shown")
}
