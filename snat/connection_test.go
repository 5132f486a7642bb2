package snat_test

// TCP connections in full, at the doors: what the tracker's own tests demand of
// its states is shown here with translated packets, ports and time.

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// talk is one TCP connection through a translator, seen from both ends. Its opener
// is called local, whichever side that is.
type talk struct {
	*bed
	inside, outside, remote string
	called                  bool // the remote opens it
}

// crosses is forwards by the doors for single packets and for batches, in turn.
func (k *talk) crosses(from flow.Side, pkt, want []byte) {
	k.t.Helper()
	s := k.Stats()
	if (s.Outbound.Forwarded+s.Inbound.Forwarded)%2 == 0 {
		k.forwards(from, pkt, want)
		return
	}
	v := make([]flow.Verdict, 1)
	if from == flow.Inside {
		k.OutboundBatch(k.now, [][]byte{pkt}, v)
	} else {
		k.InboundBatch(k.now, [][]byte{pkt}, v)
	}
	require.Equal(k.t, flow.Forward, v[0].Action, "%v", v[0].Reason)
	require.Equal(k.t, want, pkt)
	k.Check()
}

// patient is oneVM with the times of the RFCs.
func patient(ports int) snat.Config {
	c := oneVM(ports)
	c.Timeouts = flow.RFCTimeouts()
	c.Timeouts.UDPHeld = 0 // there is no inventory
	return c
}

// eachTalk begins a test for both families, before the first segment: with ports of
// the instance's own, with the only port of an inventory, of a pod behind its
// node's address, and opened from outside where the filter lets everybody in.
func eachTalk(t *testing.T, c snat.Config, f func(t *testing.T, k *talk)) {
	for name, h := range byFamily {
		outside, remote := socket(h.f, firstPort), socket(h.s, 443)
		t.Run(name, func(t *testing.T) {
			f(t, &talk{bed: newBed(t, c), inside: socket(h.a, 5000), outside: outside, remote: remote})
		})
		shared := c
		shared.Instances = slices.Clone(c.Instances)
		shared.Instances[0].Ports = nil
		shared.Ports = &snat.Shared{Frontends: []netip.Addr{addr(frontend), addr(frontend6)}, FirstPort: firstPort, LastPort: firstPort}
		t.Run(name+" of an inventory", func(t *testing.T) {
			f(t, &talk{bed: newBed(t, shared), inside: socket(h.a, 5000), outside: outside, remote: remote})
		})
		node := c
		node.Instances = slices.Clone(c.Instances)
		node.Instances[0].Inside = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24"), netip.MustParsePrefix("fd00:244::/64")}
		node.Routes = []snat.Route{{Prefix: netip.MustParsePrefix("198.51.100.0/24"), Action: snat.NodeAddress}, {Prefix: netip.MustParsePrefix("2001:db8:5::/48"), Action: snat.NodeAddress}}
		pod := map[string]string{"v4": "10.244.0.9", "v6": "fd00:244::9"}[name]
		t.Run(name+" behind a node", func(t *testing.T) {
			f(t, &talk{bed: newBed(t, node), inside: socket(pod, 5000), outside: socket(h.a, 5000), remote: remote})
		})
		open := c
		ownedPorts(&open).TCP = snat.Behavior{Mapping: snat.EndpointIndependent, Filtering: snat.EndpointIndependentFiltering, Share: snat.ShareNever}
		t.Run(name+" opened from outside", func(t *testing.T) {
			k := &talk{bed: newBed(t, open), inside: socket(h.a, 5000), outside: outside, remote: remote, called: true}
			require.Equal(t, outside, k.opens("tcp", k.inside, socket(h.s, 9))) // by this the remote knows it
			f(t, k)
		})
	}
}

// segment builds a segment; flags may be followed by the number of bytes of data,
// as in "PA 500".
func segment(src, dst, flags string, seq, ack uint32, fields []pkttest.Field) []byte {
	flags, data, _ := strings.Cut(flags, " ")
	n, _ := strconv.Atoi(data)
	return pkttest.TCP(src, dst, append([]pkttest.Field{pkttest.TCPFlags(flags), pkttest.Seq(seq), pkttest.Ack(ack), pkttest.Payload(strings.Repeat("x", n))}, fields...)...)
}

// local sends a segment of the opener, which must reach the other end translated
// and otherwise as it is.
func (k *talk) local(flags string, seq, ack uint32, fields ...pkttest.Field) {
	k.t.Helper()
	k.from(k.called, flags, seq, ack, fields)
}

// far sends a segment of the other end likewise.
func (k *talk) far(flags string, seq, ack uint32, fields ...pkttest.Field) {
	k.t.Helper()
	k.from(!k.called, flags, seq, ack, fields)
}

func (k *talk) from(remote bool, flags string, seq, ack uint32, fields []pkttest.Field) {
	k.t.Helper()
	if remote {
		k.crosses(flow.Outside, segment(k.remote, k.outside, flags, seq, ack, fields), segment(k.remote, k.inside, flags, seq, ack, fields))
	} else {
		k.crosses(flow.Inside, segment(k.inside, k.remote, flags, seq, ack, fields), segment(k.outside, k.remote, flags, seq, ack, fields))
	}
}

// The initial sequence numbers of both ends.
const (
	iss uint32 = 1000
	irs uint32 = 5000
)

func (k *talk) establish() {
	k.local("S", iss, 0)
	k.far("SA", irs, iss+1)
	k.local("A", iss+1, irs+1)
	k.is("established")
}

// states are those of the sessions with the remote.
func (k *talk) states() (states []string) {
	for s := range k.Sessions() {
		if s.Remote.String() == k.remote {
			states = append(states, s.State)
		}
	}
	return states
}

// created is how many sessions the connection has made.
func (k *talk) created() uint64 {
	n := k.Stats().SessionsCreated
	if k.called {
		n-- // the one by which the remote knows the inside
	}
	return n
}

// is demands that there is one session, in a state.
func (k *talk) is(state string) {
	k.t.Helper()
	require.Equal(k.t, []string{state}, k.states())
}

// ends demands that the session ends at d and not before.
func (k *talk) ends(d time.Duration) {
	k.t.Helper()
	k.at(d - flow.Tick)
	require.Len(k.t, k.states(), 1, "before %v", d)
	k.at(d)
	require.Empty(k.t, k.states(), "at %v", d)
}

// stations lead a connection into each state of the tracker, with the time class
// it is in there by the RFCs.
var stations = []struct {
	state string
	idle  time.Duration
	reach func(k *talk)
}{
	{"syn-sent", 240 * time.Second, func(k *talk) { k.local("S", iss, 0) }},
	{"syn-both", 240 * time.Second, func(k *talk) {
		k.local("S", iss, 0)
		k.far("S", irs, 0)
	}},
	{"syn-received", 240 * time.Second, func(k *talk) {
		k.local("S", iss, 0)
		k.far("SA", irs, iss+1)
	}},
	{"established", 7440 * time.Second, (*talk).establish},
	{"fin-initiator", 7440 * time.Second, func(k *talk) {
		k.establish()
		k.local("FA", iss+1, irs+1)
	}},
	{"fin-responder", 7440 * time.Second, func(k *talk) {
		k.establish()
		k.far("FA", irs+1, iss+1)
	}},
	{"fin-both", 240 * time.Second, func(k *talk) {
		k.establish()
		k.local("FA", iss+1, irs+1)
		k.far("FA", irs+1, iss+2)
	}},
	{"time-wait", 120 * time.Second, func(k *talk) {
		k.establish()
		k.local("FA", iss+1, irs+1)
		k.far("FA", irs+1, iss+2)
		k.local("A", iss+2, irs+2)
	}},
	{"reset", 240 * time.Second, func(k *talk) {
		k.establish()
		k.far("R", irs+1, 0)
	}},
}

func TestNAT_K1_ThreeSegments(t *testing.T) {
	eachTalk(t, patient(8), func(t *testing.T, k *talk) {
		k.local("S", iss, 0, pkttest.MSS(1460), pkttest.WScale(7))
		k.is("syn-sent")
		k.far("SA", irs, iss+1, pkttest.MSS(1440), pkttest.WScale(9))
		k.is("syn-received")
		k.local("A", iss+1, irs+1)
		k.is("established")
		k.local("PA 100", iss+1, irs+1)
		k.far("A", irs+1, iss+101)
		k.ends(7440 * time.Second)
		assert.Zero(t, k.Stats().OutOfWindow)
	})
}

// crossed opens a connection from both ends, which acknowledge each other's SYN
// by a segment with flags.
func (k *talk) crossed(flags string) {
	seq := uint32(len("SA") - len(flags)) // of a SYN-ACK, the SYN's again
	k.local("S", iss, 0)
	k.far("S", irs, 0)
	k.is("syn-both")
	k.local(flags, iss+seq, irs+1)
	k.is("syn-both")
	k.far(flags, irs+seq, iss+1)
	k.is("established")
}

func TestNAT_T2a_BothOpenAtOnce(t *testing.T) {
	eachTalk(t, patient(8), func(t *testing.T, k *talk) {
		k.crossed("SA")
		k.local("PA 10", iss+1, irs+1)
		k.far("PA 10", irs+1, iss+11)
		k.ends(7440 * time.Second)
		assert.Zero(t, k.Stats().OutOfWindow)
	})
}

func TestNAT_K2_SYNsCross(t *testing.T) {
	eachTalk(t, patient(8), func(t *testing.T, k *talk) {
		k.crossed("A")
		k.ends(7440 * time.Second)
	})
	eachTalk(t, patient(8), func(t *testing.T, k *talk) {
		k.local("S", iss, 0)
		for range 3 { // all are repeated before one is answered
			k.far("S", irs, 0)
			k.local("S", iss, 0)
		}
		k.local("SA", iss, irs+1)
		k.far("SA", irs, iss+1)
		k.is("established")
	})
}

func TestNAT_K3_SynAckLost(t *testing.T) {
	eachTalk(t, patient(8), func(t *testing.T, k *talk) {
		k.local("S", iss, 0)
		for i := range 3 {
			k.at(time.Duration(1+i) * 200 * time.Second)
			k.far("SA", irs, iss+1)
			k.local("S", iss, 0)
		}
		k.far("SA", irs, iss+1)
		k.local("A", iss+1, irs+1)
		k.is("established")
		k.far("SA", irs, iss+1) // a copy that comes late
		k.is("established")
		assert.Equal(t, uint64(1), k.created())
	})
}

func TestNAT_K4_HalfClosedForAnHour(t *testing.T) {
	eachTalk(t, patient(8), func(t *testing.T, k *talk) {
		k.establish()
		k.local("FA", iss+1, irs+1)
		seq := irs + 1
		for i := range 60 {
			k.at(time.Duration(1+i) * time.Minute)
			k.far("PA 500", seq, iss+2)
			seq += 500
			k.local("A", iss+2, seq)
		}
		k.is("fin-initiator")
		k.far("FA", seq, iss+2)
		k.local("A", iss+2, seq+1)
		k.is("time-wait")
		k.ends(time.Hour + 120*time.Second)
	})
}

func TestNAT_K5_FINsCross(t *testing.T) {
	eachTalk(t, patient(8), func(t *testing.T, k *talk) {
		k.establish()
		k.local("FA", iss+1, irs+1)
		k.far("FA", irs+1, iss+1) // without that of the inside
		k.is("fin-both")
		k.at(239 * time.Second)
		k.local("A", iss+2, irs+2)
		k.is("fin-both")
		k.far("A", irs+2, iss+2)
		k.is("time-wait")
		k.ends((239 + 120) * time.Second)
	})
}

func TestNAT_K6_FINRepeated(t *testing.T) {
	eachTalk(t, patient(8), func(t *testing.T, k *talk) {
		k.establish()
		k.local("FA", iss+1, irs+1)
		k.local("FA", iss+1, irs+1)
		k.far("FA", irs+1, iss+2)
		k.at(100 * time.Second)
		k.far("FA", irs+1, iss+2)
		k.local("FA", iss+1, irs+1)
		k.is("fin-both")
		k.ends(240 * time.Second)
	})
}

// In each state an exact RST, one inside the window and one outside of it are
// forwarded, and only what the receiver would accept ends the connection.
func TestNAT_K7_ResetsInEachState(t *testing.T) {
	after := map[string][2]string{ // by state: after an exact RST, and one inside the window
		"syn-sent": {"syn-sent", "syn-sent"}, "syn-both": {"reset", "syn-both"}, "syn-received": {"reset", "syn-received"},
		"established": {"reset", "established"}, "fin-initiator": {"reset", "reset"}, "fin-responder": {"reset", "reset"},
		"fin-both": {"fin-both", "fin-both"}, "time-wait": {"time-wait", "time-wait"}, "reset": {"reset", "reset"},
	}
	next := map[string]uint32{"fin-responder": irs + 2, "fin-both": irs + 2, "time-wait": irs + 2}
	for _, st := range stations {
		for off, want := range map[uint32]string{0: after[st.state][0], 100: after[st.state][1], 1 << 30: st.state, 3 << 30: st.state} {
			t.Run(fmt.Sprintf("%s, %#x beside", st.state, off), func(t *testing.T) {
				eachTalk(t, patient(8), func(t *testing.T, k *talk) {
					st.reach(k)
					seq := irs + 1
					if n, ok := next[st.state]; ok {
						seq = n
					}
					k.at(10 * time.Second)
					k.far("R", seq+off, 0)
					k.is(want)
					if want == st.state {
						k.ends(st.idle) // nor does it prolong anything
					} else {
						k.ends(250 * time.Second)
					}
				})
			})
		}
	}
}

func TestNAT_K8_DataRevives(t *testing.T) {
	eachTalk(t, patient(8), func(t *testing.T, k *talk) {
		k.establish()
		k.far("R", irs+1, 0)
		k.is("reset")
		k.at(10 * time.Second)
		k.local("PA 10", iss+1+1<<30, irs+1) // proves nothing
		k.is("reset")
		k.local("PA 10", iss+1, irs+1)
		k.is("established")
		k.far("A", irs+1, iss+11)
		k.ends((10 + 7440) * time.Second)
	})
}

func TestNAT_K9_ResetThenSilence(t *testing.T) {
	eachTalk(t, patient(8), func(t *testing.T, k *talk) {
		k.establish()
		k.at(time.Minute)
		k.far("R", irs+1, 0)
		k.at(2 * time.Minute)
		k.far("R", irs+1, 0)
		k.local("R", iss+1, 0)
		k.ends(5 * time.Minute)
	})
}

func TestNAT_K10_SYNWithin(t *testing.T) {
	eachTalk(t, patient(8), func(t *testing.T, k *talk) {
		k.establish()
		k.local("S", 77000, 0) // the inside has restarted
		k.is("established")
		k.far("A", irs+1, iss+1) // which the remote doubts
		k.local("R", iss+1, 0)   // rightly
		k.is("reset")
		k.local("S", 77000, 0)
		k.far("SA", 99000, 77001)
		k.local("A", 77001, 99001)
		k.is("established")
		k.ends(7440 * time.Second)
		assert.Equal(t, uint64(1), k.created())
	})
}

// A SYN opens a closed connection anew: with the same port, though another would
// be free, and with times of its own.
func TestNAT_K11_OpenedAnew(t *testing.T) {
	for _, st := range stations[6:] {
		for _, who := range []string{"inside", "outside", "both"} {
			t.Run(st.state+" by "+who, func(t *testing.T) {
				eachTalk(t, patient(16), func(t *testing.T, k *talk) {
					st.reach(k)
					k.at(100 * time.Second)
					switch who {
					case "inside":
						k.local("S", 70000, 0)
						k.is("syn-again")
						k.far("A", irs+2, iss+2) // the old connection's challenge
						k.local("S", 70000, 0)
						k.far("SA", 90000, 70001)
						k.local("A", 70001, 90001)
					case "outside":
						k.far("S", 90000, 0)
						k.is("syn-again")
						k.local("SA", 70000, 90001)
						k.far("A", 90001, 70001)
					case "both":
						k.local("S", 70000, 0)
						k.far("S", 90000, 0)
						k.local("SA", 70000, 90001)
						k.far("SA", 90000, 70001)
					}
					k.is("established")
					k.ends((100 + 7440) * time.Second)
				})
			})
		}
		t.Run(st.state+" by a forger outside", func(t *testing.T) {
			eachTalk(t, patient(8), func(t *testing.T, k *talk) {
				st.reach(k)
				for d := 10 * time.Second; d < st.idle; d += 10 * time.Second {
					k.at(d)
					k.from(true, "S", 90000, 0, nil)
				}
				k.ends(st.idle)
			})
		})
	}
}

func TestNAT_K12_GigabyteWindow(t *testing.T) {
	eachTalk(t, patient(8), func(t *testing.T, k *talk) {
		mine, theirs := uint32(1<<32-2), uint32(1<<31-2)
		k.local("S", mine, 0, pkttest.WScale(14))
		k.far("SA", theirs, mine+1, pkttest.WScale(15)) // counts as 14
		k.local("A", mine+1, theirs+1)
		k.far("A", theirs+1, mine+1)
		const window = 65535 << 14
		k.local("PA 1000", mine+1+window-1000, theirs+1)
		k.far("A", theirs+1, mine+1+window)
		k.far("PA 1000", theirs+1+window-1000, mine+1+window)
		k.local("A", mine+1+window, theirs+1+window)
		assert.Zero(t, k.Stats().OutOfWindow)
		k.local("A", mine+1+window+window+100, theirs+1+window)
		assert.Equal(t, uint64(1), k.Stats().OutOfWindow)
		k.far("R", theirs+1+window, 0)
		k.is("reset")
	})
}

func TestNAT_K13_OldSegment(t *testing.T) {
	eachTalk(t, patient(8), func(t *testing.T, k *talk) {
		k.establish()
		k.local("PA 500", iss+1, irs+1)
		k.far("A", irs+1, iss+501)
		k.at(time.Minute)
		k.local("PA 500", iss+1, irs+1)
		k.is("established")
		assert.Equal(t, uint64(1), k.Stats().OutOfWindow)
		k.ends(7440 * time.Second)
	})
}

func TestNAT_K14_Keepalive(t *testing.T) {
	for _, flags := range []string{"A", "A 1"} {
		eachTalk(t, patient(8), func(t *testing.T, k *talk) {
			k.establish()
			k.at(7439 * time.Second)
			k.local(flags, iss, irs+1)
			k.at(2 * 7439 * time.Second)
			k.far("A", irs+1, iss+1, pkttest.Window(0))
			k.local("A 1", iss+1, irs+1) // probes the window
			k.ends((2*7439 + 7440) * time.Second)
		})
	}
}

// A flood of SYNs gets the ports there are, for the time of opening, and nothing
// of an established connection.
func TestNAT_K15_SYNFlood(t *testing.T) {
	for name, h := range byFamily {
		t.Run(name, func(t *testing.T) {
			k := &talk{bed: newBed(t, patient(64)), inside: socket(h.a, 5000), outside: socket(h.f, firstPort), remote: socket(h.s, 443)}
			k.seldom = true
			k.establish()
			opened := 0
			for i := range 1000 {
				if k.opens("tcp", socket(h.a, 6000+i), k.remote) != "drop ports" {
					opened++
				}
			}
			k.Check()
			assert.Equal(t, 63, opened)
			assert.Equal(t, uint64(1000-63), k.Stats().Outbound.Drops[flow.ReasonPorts])
			k.local("PA 10", iss+1, irs+1)
			k.at(240 * time.Second)
			k.is("established")
			k.ends(7440 * time.Second)
		})
	}
}

func TestNAT_K16_FINOutOfWindow(t *testing.T) {
	eachTalk(t, patient(8), func(t *testing.T, k *talk) {
		k.establish()
		k.at(time.Minute)
		for _, off := range []uint32{70000, 1 << 30, 1 << 31, 3 << 30} {
			k.far("FA", irs+1+off, iss+1)
		}
		k.far("FA", irs+1, iss+2) // acknowledges what was not sent
		k.is("established")
		k.ends(7440 * time.Second)
	})
}

func TestNAT_K17_WrongSynAck(t *testing.T) {
	eachTalk(t, patient(8), func(t *testing.T, k *talk) {
		k.local("S", iss, 0)
		k.at(time.Second)
		for _, ack := range []uint32{iss, iss + 2, iss + 1<<31, 0} {
			k.far("SA", 44, ack)
			k.local("R", ack, 0)
			k.is("syn-sent")
		}
		k.far("SA", irs, iss+1)
		k.local("A", iss+1, irs+1)
		k.is("established")
	})
}

// In each state a connection ends in its time; only where it is established both
// ends are told.
func TestNAT_K18_IdleInEachState(t *testing.T) {
	c := patient(8)
	c.EnableTCPReset = true
	for _, st := range stations {
		t.Run(st.state, func(t *testing.T) {
			eachTalk(t, c, func(t *testing.T, k *talk) {
				st.reach(k)
				k.is(st.state)
				if st.state != "established" {
					k.ends(st.idle)
					require.Empty(t, k.sent())
					return
				}
				k.at(st.idle - flow.Tick)
				require.Empty(t, k.sent())
				k.at(st.idle)
				require.Len(t, k.sent(), 2)
				k.is("reset-sent")
			})
		})
	}
}

func TestNAT_K19_Refused(t *testing.T) {
	eachTalk(t, oneVM(8), func(t *testing.T, k *talk) {
		k.local("S", iss, 0)
		k.at(time.Second)
		k.far("RA", 0, iss+1)
		if k.called { // what the inside refuses holds nothing
			k.at(time.Second)
			require.Empty(t, k.states())
			return
		}
		k.is("reset")
		k.ends(16 * time.Second)
	})
}

func TestNAT_K20_FastOpen(t *testing.T) {
	for _, acked := range []uint32{0, 400} {
		eachTalk(t, patient(8), func(t *testing.T, k *talk) {
			k.local("S 400", iss, 0)
			k.far("SA", irs, iss+1+acked)
			k.far("PA 300", irs+1, iss+1+acked)
			k.local(fmt.Sprintf("A %d", 400-acked), iss+1+acked, irs+301)
			k.is("established")
			k.far("A", irs+301, iss+401)
			assert.Zero(t, k.Stats().OutOfWindow)
		})
	}
}

// Flags outside the windows move nothing, and SACK options pass byte for byte
// (which local and far demand of all segments).
func TestNAT_T11_WindowsAndSACK(t *testing.T) {
	eachTalk(t, patient(8), func(t *testing.T, k *talk) {
		k.establish()
		k.at(time.Minute)
		for _, flags := range []string{"R", "FA", "RA"} {
			k.far(flags, irs+1+1<<30, iss+1)
			k.local(flags, iss+1+1<<30, irs+1)
		}
		k.is("established")
		assert.Equal(t, uint64(6), k.Stats().OutOfWindow)
		head := 20
		if k.inside[0] == '[' {
			head = 40
		}
		block := func(src, dst string, seq, ack uint32) []byte { // a SACK block in place of MSS and scale
			pkt := segment(src, dst, "A", seq, ack, []pkttest.Field{pkttest.MSS(0), pkttest.WScale(0), pkttest.MSS(0), pkttest.MSS(0)})
			require.Equal(t, byte(9<<4), pkt[head+12], "16 bytes of options")
			copy(pkt[head+20:], []byte{1, 1, 5, 10, 0, 0, 0x13, 0x89, 0, 0, 0x15, 0x7d, 0, 0, 0, 0})
			pkttest.FixChecksums(pkt)
			return pkt
		}
		k.forwards(flow.Inside, block(k.inside, k.remote, iss+1, irs+1), block(k.outside, k.remote, iss+1, irs+1))
		k.forwards(flow.Outside, block(k.remote, k.outside, irs+1, iss+1), block(k.remote, k.inside, irs+1, iss+1))
	})
}
