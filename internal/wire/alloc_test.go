package wire

import (
	"os"
	"os/exec"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// The hot path: nothing here may allocate.
func TestNoAllocs(t *testing.T) {
	packets := [][]byte{
		unhex("450000280000400040060692c63364070a00000401bb9c4055667788000000005004000010b80000"),
		unhex("600000000014064020010db8000500000000000000000007fd00000000000000000000000000000401bb9c405566778800000000500400001a2d0000"),
		udp6(destOpts, hopOpts),
		fragment(src6, dst6, ProtoTCP, 64, false, []byte("x")),
		fragment(src4, dst4, ProtoTCP, 0, true, segment()),
		unhex("4500"),
	}
	require.Zero(t, testing.AllocsPerRun(100, func() {
		for _, b := range packets {
			var p Packet
			if Parse(b, &p) != OK || p.Flags&NonFirst != 0 {
				continue
			}
			VerifyL4(&p)
			translate(&p, f4, f6, 1024)
			p.Fragment()
			if p.Proto == ProtoTCP {
				p.TCP().WindowScale()
			}
		}
	}))
}

// What the translator applies per packet has to inline, where the compiler joins
// the loads of a word: on other machines the views cost more than it allows.
func TestInlining(t *testing.T) {
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("no go command to compile with")
	}
	build := exec.Command(goTool, "build", "-gcflags=-m", ".")
	build.Env = append(os.Environ(), "GOARCH=amd64", "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	inlinable := map[string]bool{}
	for _, m := range regexp.MustCompile(`can inline (\S+)`).FindAllStringSubmatch(string(out), -1) {
		inlinable[m[1]] = true
	}
	for _, name := range []string{
		"Fold", "Delta16", "Delta32",
		"Delta.Add", "Delta.Reverse", "Delta.Apply", "Delta.ApplyIPv4", "Delta.ApplyUDP",
		"IPv4.Src", "IPv4.Dst", "IPv4.SetSrc", "IPv4.SetDst", "IPv4.Adjust", "IPv6.SrcWords", "IPv6.DstWords",
		"TCP.SrcPort", "TCP.DstPort", "TCP.Flags", "TCP.Seq", "TCP.Ack", "TCP.Window", "TCP.Adjust",
		"UDP.SrcPort", "UDP.DstPort", "UDP.Adjust", "(*Packet).TCP", "(*Packet).UDP", "(*Packet).IPv4", "(*Packet).IPv6",
	} {
		if !inlinable[name] {
			t.Errorf("%s does not inline", name)
		}
	}
}
