package snat_test

// Scenarios are text files: commands, a line of dashes, and what they print, up
// to an empty line. "#" begins a comment. Run the test with -update to write
// what is printed into the files, then read the difference.
//
//	instance NAME [addr=IP].. [inside=PREFIX].. [ports=FRONTEND:FIRST+COUNT[/tcp|/udp]]..
//	route PREFIX translate|node|pass|drop
//	options [idle=DURATION] [reset] [udpshare=address|destination|never]
//	outbound SRC > DST udp|tcp [FLAGS] [seq=N] [ack=N] [len=N]
//	inbound SRC > DST ...
//	advance DURATION
//	stats
//
// Instances, routes and options come before the first packet.

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

var update = flag.Bool("update", false, "write the output of scenarios into testdata")

func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			got := (&scenario{t: t}).play(string(text))
			if *update {
				require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
				return
			}
			require.Equal(t, string(text), got)
		})
	}
}

// scenario is the state of a running scenario.
type scenario struct {
	t      testing.TB
	config snat.Config
	bed    *bed
	line   string
}

// play runs a text and returns it with the output that it has.
func (s *scenario) play(text string) string {
	var out strings.Builder
	var printed []string
	expected := false // between dashes and the empty line
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		switch {
		case line == "----":
			out.WriteString("----\n")
			for _, p := range printed {
				out.WriteString(p + "\n")
			}
			printed, expected = nil, true
		case expected && line != "":
		case line == "":
			out.WriteString("\n")
			expected = false
		default:
			out.WriteString(line + "\n")
			command, _, _ := strings.Cut(line, "#")
			if words := strings.Fields(command); len(words) > 0 {
				s.line = line
				printed = append(printed, s.do(words)...)
			}
		}
	}
	require.Empty(s.t, printed, "the last commands have no line of dashes")
	return out.String()
}

// do runs a command and returns what it prints.
func (s *scenario) do(words []string) []string {
	switch words[0] {
	case "instance":
		s.instance(words[1:])
		return nil
	case "route":
		actions := map[string]snat.RouteAction{"translate": snat.Translate, "node": snat.NodeAddress, "pass": snat.PassThrough, "drop": snat.Blackhole}
		action, ok := actions[words[2]]
		require.True(s.t, ok, s.line)
		s.config.Routes = append(s.config.Routes, snat.Route{Prefix: netip.MustParsePrefix(words[1]), Action: action})
		return nil
	case "options":
		s.options(words[1:])
		return nil
	}
	if s.bed == nil {
		s.bed = newBed(s.t, s.config)
	}
	b := s.bed
	switch words[0] {
	case "outbound", "inbound":
		return []string{s.packet(words[0], words[1:])}
	case "advance":
		d, err := time.ParseDuration(words[1])
		require.NoError(s.t, err, s.line)
		ended := b.Stats().SessionsEnded
		b.at(b.now.Duration() + d)
		lines := []string{fmt.Sprintf("now %v ended=%d", b.now, b.Stats().SessionsEnded-ended)}
		for _, e := range b.sent() {
			lines = append(lines, "  "+e)
		}
		return lines
	case "stats":
		return s.stats()
	}
	s.t.Fatalf("unknown command: %s", s.line)
	return nil
}

func (s *scenario) instance(words []string) {
	inst := snat.Instance{Name: words[0]}
	for _, w := range words[1:] {
		switch key, value, _ := strings.Cut(w, "="); key {
		case "addr":
			inst.Addrs = append(inst.Addrs, netip.MustParseAddr(value))
		case "inside":
			inst.Inside = append(inst.Inside, netip.MustParsePrefix(value))
		case "ports":
			value, proto, _ := strings.Cut(value, "/")
			socket, count, _ := strings.Cut(value, "+")
			n, err := strconv.Atoi(count)
			require.NoError(s.t, err, s.line)
			first := netip.MustParseAddrPort(socket)
			inst.Ports = append(inst.Ports, snat.PortRange{
				Frontend: first.Addr(), First: first.Port(), Count: n,
				Protocol: map[string]snat.Protocol{"": snat.All, "tcp": snat.TCP, "udp": snat.UDP}[proto],
			})
		default:
			s.t.Fatalf("unknown word %q: %s", w, s.line)
		}
	}
	s.config.Instances = append(s.config.Instances, inst)
}

func (s *scenario) options(words []string) {
	for _, w := range words {
		switch key, value, _ := strings.Cut(w, "="); key {
		case "idle":
			d, err := time.ParseDuration(value)
			require.NoError(s.t, err, s.line)
			s.config.IdleTimeout = d
		case "reset":
			s.config.EnableTCPReset = true
		case "udpshare":
			share, ok := map[string]snat.PortShare{"address": snat.SharePerAddress, "destination": snat.SharePerDestination, "never": snat.ShareNever}[value]
			require.True(s.t, ok, s.line)
			ownedPorts(&s.config).UDP.Share = share
		default:
			s.t.Fatalf("unknown option %q: %s", w, s.line)
		}
	}
}

// packet sends a packet and says what became of it.
func (s *scenario) packet(door string, words []string) string {
	require.GreaterOrEqual(s.t, len(words), 4, s.line)
	src, dst := words[0], words[2]
	var fields []pkttest.Field
	payload := ""
	for _, w := range words[4:] {
		key, value, ok := strings.Cut(w, "=")
		if !ok {
			fields = append(fields, pkttest.TCPFlags(w))
			continue
		}
		n, err := strconv.ParseUint(value, 10, 32)
		require.NoError(s.t, err, s.line)
		switch key {
		case "seq":
			fields = append(fields, pkttest.Seq(uint32(n)))
		case "ack":
			fields = append(fields, pkttest.Ack(uint32(n)))
		case "len":
			payload = strings.Repeat("x", int(n))
			fields = append(fields, pkttest.Payload(payload))
		default:
			s.t.Fatalf("unknown word %q: %s", w, s.line)
		}
	}
	pkt := pkttest.UDP(src, dst, payload)
	if words[3] == "tcp" {
		pkt = pkttest.TCP(src, dst, fields...)
	}
	process := s.bed.Outbound
	if door == "inbound" {
		process = s.bed.Inbound
	}
	v := process(s.bed.now, pkt)
	s.bed.Check()
	if v.Action == flow.Drop {
		return "drop " + v.Reason.String()
	}
	what := strings.Fields(pkttest.String(pkt))
	line := fmt.Sprintf("%v %s > %s", v.Action, what[1], what[3])
	if v.New {
		line += " new"
	}
	return line
}

// stats prints the use of ports and the counters that are not zero.
func (s *scenario) stats() (lines []string) {
	for _, inst := range s.bed.Instances() {
		for _, p := range inst.Pools {
			name := map[snat.Protocol]string{snat.TCP: "tcp", snat.UDP: "udp"}[p.Protocol]
			if p.Is6 {
				name += "6"
			}
			if p.Peak > 0 {
				lines = append(lines, fmt.Sprintf("%s %s allocated=%d free=%d used=%d held=%d peak=%d", inst.Name, name, p.Allocated, p.Free, p.Used, p.Held(), p.Peak))
			}
		}
	}
	st := s.bed.Stats()
	return append(lines, fmt.Sprintf("sessions active=%d created=%d ended=%d refused=%d resets=%d",
		st.SessionsActive, st.SessionsCreated, st.SessionsEnded, st.ConnectionsFailed, st.Resets))
}
