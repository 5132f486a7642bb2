//go:build linux

package story

// How the built-in capture is made. Two network namespaces, joined by one veth
// pair, hold a few clients and a few servers; real programs talk through real
// Linux TCP stacks while tcpdump listens on the clients' side. Offloads are off,
// so that the capture holds what a wire would carry: packets of at most 1500
// bytes with finished checksums. As root,
//
//	go test -run TestRecord ./examples/egress/internal/story -update
//
// records examples/egress/testdata/conversations.pcap anew. Without -update the recording is
// made all the same, and checked.

import (
	"bufio"
	"flag"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/netlab"
)

var update = flag.Bool("update", false, "record testdata/conversations.pcap anew")

func TestRecord(t *testing.T) {
	runtime.LockOSThread() // tcpdump lives as long as the thread that starts it
	defer runtime.UnlockOSThread()
	lab := netlab.New(t, "tcpdump")
	inside, outside := lab.Namespace("clients"), lab.Namespace("servers")
	lab.Veth(netlab.End{In: inside, Dev: "eth0", Addrs: hostRoutes(clientAddrs)},
		netlab.End{In: outside, Dev: "eth0", Addrs: hostRoutes(serverAddrs)})
	for _, ns := range []*netlab.Namespace{inside, outside} {
		ns.Run("ip route add default dev eth0")
		ns.Run("ip -6 route add default dev eth0")
	}
	serve(t, outside)

	name := filepath.Join(t.TempDir(), "conversations.pcap")
	stop := listen(t, inside, name)
	c := &clients{in: inside}
	err := c.converse(t.Context())
	stop() // before the idle connections close
	c.close()
	require.NoError(t, err)

	file, err := os.ReadFile(name)
	require.NoError(t, err)
	checkRecording(t, file)
	d := egressJSON(t, "-pcap", name, "-copies", "3")
	assert.Zero(t, d.Packets.Dropped)
	assert.Zero(t, d.SNAT.Connections.Failed)
	if *update {
		require.NoError(t, os.WriteFile("../../testdata/conversations.pcap", file, 0o644))
	}
}

// hostRoutes returns addresses as networks of one host each.
func hostRoutes(addrs []string) (routes []string) {
	for _, a := range addrs {
		if strings.Contains(a, ":") {
			routes = append(routes, a+"/128")
		} else {
			routes = append(routes, a+"/32")
		}
	}
	return routes
}

// listen captures what passes eth0 until stop is called.
func listen(t *testing.T, in *netlab.Namespace, name string) (stop func()) {
	dump := in.Command(t.Context(), "tcpdump", "-i", "eth0", "-w", name,
		"--time-stamp-precision=nano", "--immediate-mode", "-Z", "root", "tcp or udp")
	messages, err := dump.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, dump.Start())
	lines := bufio.NewScanner(messages)
	for lines.Scan() && !strings.Contains(lines.Text(), "listening on") {
	}
	return func() {
		time.Sleep(200 * time.Millisecond) // let the last packets arrive
		require.NoError(t, dump.Process.Signal(os.Interrupt))
		for lines.Scan() {
			t.Log("tcpdump:", lines.Text())
		}
		require.NoError(t, lines.Err())
		require.NoError(t, dump.Wait())
	}
}
