package overlay_test

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/overlay"
)

// The example of the README: a pod opens a connection, the server answers, and
// half an hour of silence later both are told that it is over.
func Example() {
	cluster, err := overlay.New(overlay.ClusterConfig{
		NodePools: []overlay.NodePool{{Name: "apps", Count: 3}},
	})
	if err != nil {
		fmt.Println(err) // every bad field by name
		return
	}
	defer cluster.Close()
	pod, _ := cluster.AddPod(cluster.Nodes()[0].Name, "web-1")
	now := flow.At(0)

	syn := segment(pod.Addrs[0].String(), 41000, "203.0.113.80", 443, "S", 100, 0)
	v := cluster.Outbound(now, syn) // rewritten in place
	fmt.Println(v.Action, "to", v.To, describe(syn))

	synAck := segment("203.0.113.80", 443, "20.50.1.1", 1024, "SA", 500, 101)
	v = cluster.Inbound(now, synAck)
	fmt.Println(v.Action, "to", v.To, describe(synAck))

	ack := segment(pod.Addrs[0].String(), 41000, "203.0.113.80", 443, "A", 101, 501)
	cluster.Outbound(now, ack)

	cluster.Advance(now.Add(30*time.Minute), func(e flow.Emission) {
		fmt.Println("RST at", e.At, "to", e.To, describe(e.Packet))
	})
	// Output:
	// forward to outside 20.50.1.1:1024 > 203.0.113.80:443
	// forward to inside 203.0.113.80:443 > 10.244.0.2:41000
	// RST at 30m0s to inside 203.0.113.80:443 > 10.244.0.2:41000
	// RST at 30m0s to outside 20.50.1.1:1024 > 203.0.113.80:443
}

// segment builds a TCP packet with gopacket, starting at the IP header.
func segment(src string, srcPort layers.TCPPort, dst string, dstPort layers.TCPPort, flags string, seq, ack uint32) []byte {
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: net.ParseIP(src), DstIP: net.ParseIP(dst)}
	tcp := &layers.TCP{SrcPort: srcPort, DstPort: dstPort, Seq: seq, Ack: ack, Window: 64240}
	for _, f := range flags {
		tcp.SYN, tcp.ACK = tcp.SYN || f == 'S', tcp.ACK || f == 'A'
	}
	_ = tcp.SetNetworkLayerForChecksum(ip)
	buf := gopacket.NewSerializeBuffer()
	_ = gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ip, tcp)
	return buf.Bytes()
}

// describe names the endpoints of a packet.
func describe(pkt []byte) string {
	p := gopacket.NewPacket(pkt, layers.LayerTypeIPv4, gopacket.Default)
	ip, tcp := p.NetworkLayer().NetworkFlow(), p.TransportLayer().TransportFlow()
	return fmt.Sprintf("%v:%v > %v:%v", ip.Src(), tcp.Src(), ip.Dst(), tcp.Dst())
}

// The README shows the body of Example as it stands here.
func TestReadmeShowsTheExample(t *testing.T) {
	source, err := os.ReadFile("readme_test.go")
	require.NoError(t, err)
	_, body, _ := strings.Cut(string(source), "func Example() {\n")
	body, _, found := strings.Cut(body, "\n}\n")
	require.True(t, found)
	readme, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	want := strings.ReplaceAll("\n"+body, "\n\t", "\n")
	require.Contains(t, string(readme), "```go"+want+"\n```\n")
}
