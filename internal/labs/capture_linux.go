// Captures: what tshark, which knows nothing of us, says of the packets at a device.

package labs

import (
	"strings"
	"syscall"

	"github.com/seed-a61be3fe/natplane/internal/netlab"
)

// Wrong is the display filter of packets with a wrong checksum, or malformed ones. Where the
// checksum of a TCP segment is 0 Linux sends 0xffff, as if it were UDP (skb_checksum_help);
// both mean the same (RFC 1624), but not to tshark.
const Wrong = "ip.checksum.status==0||(tcp.checksum.status==0&&!(tcp.checksum==0xffff&&tcp.checksum_calculated==0))||udp.checksum.status==0||icmp.checksum.status==0||icmpv6.checksum.status==0||_ws.malformed"

// Capture is a file with the packets at a device. It needs the program tshark.
type Capture struct {
	in      *netlab.Namespace
	file    string
	process *netlab.Process
}

// NewCapture begins to capture what passes a device of a host.
func NewCapture(in *netlab.Namespace, dev, file string) *Capture {
	return &Capture{in, file, in.Launch("Capturing on", "tshark", "-i", dev, "-w", file)}
}

// Stop ends the capture. Only then it can be read.
func (c *Capture) Stop() { c.process.Stop(syscall.SIGINT) }

// Packets returns a line for each packet, with its number and the fields that the
// options of tshark in args select, as does its option -Y. Checksums are verified.
func (c *Capture) Packets(args string) (lines []string) {
	// A payload is no more than bytes: some random ones resemble a malformed something.
	out := c.in.Run("tshark -n -r " + c.file + " -d tcp.port==1-65535,data -d udp.port==1-65535,data -o ip.check_checksum:TRUE -o tcp.check_checksum:TRUE -o udp.check_checksum:TRUE -T fields -e frame.number " + args)
	for line := range strings.Lines(out) {
		if line[0] >= '0' && line[0] <= '9' { // and no warning about running as root
			lines = append(lines, line)
		}
	}
	return lines
}
