package flow

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// owner plays the owner of a Track: it keeps the timer as the effects tell it.
type owner struct {
	testing.TB
	Track
	timeouts  [NumClasses]uint32
	now, last time.Duration
}

// tcp returns a segment with the named flags (S, F, R, P, A, U) and payload
// bytes, window 8000 and no scale.
func tcp(flags string, seq, ack, payload uint32) Segment {
	s := Segment{Seq: seq, Ack: ack, Len: payload, Window: 8000, Scale: NoScale}
	for _, f := range flags {
		s.Flags |= 1 << strings.IndexRune("FSRPAU", f)
		if f == 'S' || f == 'F' {
			s.Len++
		}
	}
	return s
}

func (s Segment) win(w uint16) Segment  { s.Window = w; return s }
func (s Segment) scale(n uint8) Segment { s.Scale = n; return s }
func (s Segment) plus(n int32) Segment  { s.Seq += uint32(n); return s }

// open starts an owner with the default timeouts at time 0.
func open(t testing.TB, from Side, s Segment) *owner {
	o := &owner{TB: t, timeouts: Timeouts{}.ticks()}
	o.Open(from, &s)
	return o
}

// at moves the clock.
func (o *owner) at(d time.Duration) *owner { o.now = d; return o }

// expires returns when the session expires unless it is touched.
func (o *owner) expires() time.Duration {
	return o.last + time.Duration(o.timeouts[o.Class])*Tick
}

// send requires the session to be alive, shows it a segment, and checks the
// state it leads to and the effect.
func (o *owner) send(from Side, s Segment, want TCPState, effect Effect) {
	o.Helper()
	require.Less(o, o.now, o.expires(), "expired in state %v", o.State)
	class := o.Class
	e := o.Update(from, &s)
	if e&Touch != 0 {
		o.last = o.now
	}
	require.Equal(o, want, o.Phase(), "state %v, want %v", o.State, want)
	require.Equal(o, effect, e)
	require.Equal(o, class != o.Class, e&Rearm != 0, "Rearm")
}

// The initial sequence numbers of most tests.
const iss, irs = 1000, 5000

// eitherOpener runs a test with the inside and with the outside as opener.
func eitherOpener(t *testing.T, f func(t *testing.T, i, r Side)) {
	for i := range Outside + 1 {
		t.Run("opener="+i.String(), func(t *testing.T) { f(t, i, i^1) })
	}
}

// established returns an owner after a handshake: I sends from iss+1, R from
// irs+1.
func established(t testing.TB, i, r Side) *owner {
	o := open(t, i, tcp("S", iss, 0, 0))
	o.send(r, tcp("SA", irs, iss+1, 0), TCPSynReceived, Touch)
	o.send(i, tcp("A", iss+1, irs+1, 0), TCPEstablished, Touch|Rearm)
	return o
}

// closed returns an owner in TCPTimeWait, both FINs at sequence +1.
func closed(t testing.TB, i, r Side) *owner {
	o := established(t, i, r)
	o.send(i, tcp("FA", iss+1, irs+1, 0), TCPFinInitiator, Touch|Rearm)
	o.send(r, tcp("FA", irs+1, iss+2, 0), TCPFinBoth, Touch|Rearm)
	o.send(i, tcp("A", iss+2, irs+2, 0), TCPTimeWait, Touch|Rearm)
	return o
}

func TestNAT_K1_Handshake(t *testing.T) {
	eitherOpener(t, func(t *testing.T, i, r Side) {
		o := open(t, i, tcp("S", iss, 0, 0))
		assert.Equal(t, TCPSynSent, o.Phase())
		assert.Equal(t, i, o.Initiator())
		assert.Equal(t, ClassTCPOpening, o.Class)
		o.send(r, tcp("SA", irs, iss+1, 0), TCPSynReceived, Touch)
		assert.False(t, o.Established(), "one ACK is not enough")
		o.send(i, tcp("A", iss+1, irs+1, 0), TCPEstablished, Touch|Rearm)
		assert.True(t, o.Established())
		assert.Equal(t, ClassTCPEstablished, o.Class)
		o.send(i, tcp("PA", iss+1, irs+1, 100), TCPEstablished, Touch)
		o.send(r, tcp("A", irs+1, iss+101, 0), TCPEstablished, Touch)
		assert.Equal(t, uint32(iss+101), o.End[i])
		assert.Equal(t, uint32(iss+101), o.Ack[r])
	})
}

func TestNAT_K2_SimultaneousOpen(t *testing.T) {
	for _, flags := range []string{"SA", "A"} {
		eitherOpener(t, func(t *testing.T, i, r Side) {
			seq := uint32(0) // of a SYN-ACK, the SYN's again
			if flags == "A" {
				seq = 1
			}
			o := open(t, i, tcp("S", iss, 0, 0))
			o.send(r, tcp("S", irs, 0, 0), TCPSynBoth, Touch)
			o.send(i, tcp("S", iss, 0, 0), TCPSynBoth, Touch)
			o.send(r, tcp("S", irs, 0, 0), TCPSynBoth, Touch)
			o.send(i, tcp(flags, iss+seq, irs+1, 0), TCPSynBoth, Touch)
			o.send(r, tcp(flags, irs+seq, iss+1, 0), TCPEstablished, Touch|Rearm)
		})
	}
}

func TestNAT_K3_SynAckLost(t *testing.T) {
	eitherOpener(t, func(t *testing.T, i, r Side) {
		o := open(t, i, tcp("S", iss, 0, 0))
		for n := range 3 {
			o.at(time.Duration(n) * 200 * time.Second)
			o.send(r, tcp("SA", irs, iss+1, 0), TCPSynReceived, Touch)
			o.send(i, tcp("S", iss, 0, 0), TCPSynReceived, Touch)
		}
		o.send(r, tcp("SA", irs, iss+1, 0), TCPSynReceived, Touch)
		o.send(i, tcp("A", iss+1, irs+1, 0), TCPEstablished, Touch|Rearm)
		o.send(r, tcp("SA", irs, iss+1, 0), TCPEstablished, Touch) // a copy that comes late is harmless
	})
}

func TestNAT_K4_HalfCloseCarriesData(t *testing.T) {
	eitherOpener(t, func(t *testing.T, i, r Side) {
		o := established(t, i, r)
		o.send(i, tcp("FA", iss+1, irs+1, 0), TCPFinInitiator, Touch|Rearm)
		for n := range uint32(60) {
			o.at(time.Duration(n) * time.Minute)
			o.send(r, tcp("PA", irs+1+n*500, iss+2, 500), TCPFinInitiator, Touch)
			o.send(i, tcp("A", iss+2, irs+1+(n+1)*500, 0), TCPFinInitiator, Touch)
		}
		o.send(r, tcp("FA", irs+1+60*500, iss+2, 0), TCPFinBoth, Touch|Rearm)
	})
}

func TestNAT_K5_CrossedFins(t *testing.T) {
	eitherOpener(t, func(t *testing.T, i, r Side) {
		o := established(t, i, r)
		o.send(r, tcp("FA", irs+1, iss+1, 0), TCPFinResponder, Touch|Rearm)
		o.send(i, tcp("FA", iss+1, irs+1, 0), TCPFinBoth, Touch|Rearm)
		o.at(239 * time.Second)
		o.send(i, tcp("A", iss+2, irs+2, 0), TCPFinBoth, 0)
		o.send(r, tcp("A", irs+2, iss+2, 0), TCPTimeWait, Touch|Rearm)
	})
}

func TestNAT_K6_FinRepeated(t *testing.T) {
	eitherOpener(t, func(t *testing.T, i, r Side) {
		o := established(t, i, r)
		o.send(i, tcp("FA", iss+1, irs+1, 0), TCPFinInitiator, Touch|Rearm)
		o.send(i, tcp("FA", iss+1, irs+1, 0), TCPFinInitiator, Touch)
		o.send(r, tcp("FA", irs+1, iss+2, 0), TCPFinBoth, Touch|Rearm)
		o.at(time.Minute)
		o.send(r, tcp("FA", irs+1, iss+2, 0), TCPFinBoth, 0)
		assert.Equal(t, 240*time.Second, o.expires(), "nothing but the last ACK moves the clock")
		o.send(i, tcp("A", iss+2, irs+2, 0), TCPTimeWait, Touch|Rearm)
		o.at(2 * time.Minute)
		o.send(r, tcp("FA", irs+1, iss+2, 0), TCPTimeWait, 0)
		o.send(i, tcp("A", iss+2, irs+2, 0), TCPTimeWait, 0)
		assert.Equal(t, time.Minute+120*time.Second, o.expires())
	})
}

func TestNAT_K7_Reset(t *testing.T) {
	finI := func(t *testing.T, i, r Side) *owner {
		o := established(t, i, r)
		o.send(i, tcp("FA", iss+1, irs+1, 0), TCPFinInitiator, Touch|Rearm)
		return o
	}
	// Each state, with the next sequence number of R and the state that an
	// exact RST and one inside the window lead to.
	for _, c := range []struct {
		state       TCPState
		start       func(t *testing.T, i, r Side) *owner
		next        uint32
		exact, near TCPState
	}{
		{TCPSynSent, func(t *testing.T, i, r Side) *owner {
			return open(t, i, tcp("S", iss, 0, 0))
		}, 0, TCPSynSent, TCPSynSent}, // a bare RST proves nothing
		{TCPSynBoth, func(t *testing.T, i, r Side) *owner {
			o := open(t, i, tcp("S", iss, 0, 0))
			o.send(r, tcp("S", irs, 0, 0), TCPSynBoth, Touch)
			return o
		}, irs + 1, TCPReset, TCPSynBoth},
		{TCPSynReceived, func(t *testing.T, i, r Side) *owner {
			o := open(t, i, tcp("S", iss, 0, 0))
			o.send(r, tcp("SA", irs, iss+1, 0), TCPSynReceived, Touch)
			return o
		}, irs + 1, TCPReset, TCPSynReceived},
		{TCPEstablished, func(t *testing.T, i, r Side) *owner { return established(t, i, r) }, irs + 1, TCPReset, TCPEstablished},
		{TCPFinInitiator, finI, irs + 1, TCPReset, TCPReset},
		{TCPFinBoth, func(t *testing.T, i, r Side) *owner {
			o := finI(t, i, r)
			o.send(r, tcp("FA", irs+1, iss+2, 0), TCPFinBoth, Touch|Rearm)
			return o
		}, irs + 2, TCPFinBoth, TCPFinBoth},
		{TCPTimeWait, func(t *testing.T, i, r Side) *owner { return closed(t, i, r) }, irs + 2, TCPTimeWait, TCPTimeWait},
	} {
		t.Run(c.state.String(), func(t *testing.T) {
			eitherOpener(t, func(t *testing.T, i, r Side) {
				for _, off := range []struct {
					by    int32
					want  TCPState
					stray bool
				}{
					{0, c.exact, false}, {1, c.near, false}, {100, c.near, false}, {8000, c.near, false},
					{1 << 30, c.state, true}, {-1 << 30, c.state, true}, {-1 << 31, c.state, true},
				} {
					o := c.start(t, i, r)
					s := tcp("R", c.next, 0, 0).plus(off.by)
					before := o.Track
					e := o.Update(r, &s)
					require.Equal(t, off.want, o.Phase(), "offset %d: %v", off.by, o.State)
					switch {
					case off.want != c.state:
						require.Equal(t, Touch|Rearm, e)
						require.Equal(t, ClassTCPReset, o.Class)
					case off.stray:
						require.Equal(t, OutOfWindow, e&^Beyond)
						fallthrough
					default:
						require.Equal(t, before, o.Track, "no trace of a RST that changes no state")
						require.Zero(t, e&Touch)
					}
				}
			})
		})
	}
	t.Run("by the end of what was sent", func(t *testing.T) {
		o := established(t, Inside, Outside)
		o.send(Outside, tcp("PA", irs+1, iss+1, 700), TCPEstablished, Touch) // never acknowledged
		o.send(Outside, tcp("RA", irs+701, 12345, 0), TCPReset, Touch|Rearm) // a receiver ignores the ACK of a RST
	})
}

func TestNAT_K8_DataRevives(t *testing.T) {
	eitherOpener(t, func(t *testing.T, i, r Side) {
		o := established(t, i, r)
		o.send(r, tcp("R", irs+1, 0, 0), TCPReset, Touch|Rearm)
		o.at(10 * time.Second)
		o.send(i, tcp("PA", iss+1+1<<30, irs+1, 10), TCPReset, OutOfWindow|Beyond)
		o.send(i, tcp("PA", iss+1, irs+1, 10), TCPEstablished, Touch|Rearm)
		assert.Equal(t, 10*time.Second+7440*time.Second, o.expires())

		// One that was half closed, or still opening, becomes that again.
		o.send(i, tcp("FA", iss+11, irs+1, 0), TCPFinInitiator, Touch|Rearm)
		o.send(i, tcp("R", iss+12, 0, 0), TCPReset, Touch|Rearm)
		o.send(r, tcp("A", irs+1, iss+12, 0), TCPFinInitiator, Touch|Rearm)

		o = open(t, i, tcp("S", iss, 0, 0))
		o.send(r, tcp("SA", irs, iss+1, 0), TCPSynReceived, Touch)
		o.send(r, tcp("R", irs+1, 0, 0), TCPReset, Touch|Rearm)
		o.send(r, tcp("SA", irs, iss+1, 0), TCPSynReceived, Touch|Rearm)
	})
}

func TestNAT_K9_ResetThenSilence(t *testing.T) {
	o := established(t, Inside, Outside)
	o.at(time.Hour)
	o.send(Outside, tcp("R", irs+1, 0, 0), TCPReset, Touch|Rearm)
	o.at(time.Hour + 100*time.Second)
	o.send(Outside, tcp("R", irs+1, 0, 0), TCPReset, 0)
	o.send(Inside, tcp("R", iss+1, 0, 0), TCPReset, 0)
	assert.Equal(t, time.Hour+240*time.Second, o.expires(), "repeated RSTs do not hold the port")
}

func TestNAT_K10_SynInEstablished(t *testing.T) {
	eitherOpener(t, func(t *testing.T, i, r Side) {
		o := established(t, i, r)
		o.at(time.Minute)
		o.send(i, tcp("S", 77000, 0, 0), TCPEstablished, OutOfWindow) // I restarted
		o.send(r, tcp("A", irs+1, iss+1, 0), TCPEstablished, Touch)   // challenge ACK
		o.send(i, tcp("R", iss+1, 0, 0), TCPReset, Touch|Rearm)       // to which it answers
		again := Effect(0)
		if i == Inside {
			again = Touch
		}
		o.send(i, tcp("S", 77000, 0, 0), TCPSynAgain, again)
		assert.Equal(t, ClassTCPReset, o.Class)
		o.send(r, tcp("SA", 99000, 77001, 0), TCPSynReceived, Touch|Rearm|Reopened)
		o.send(i, tcp("A", 77001, 99001, 0), TCPEstablished, Touch|Rearm)
	})
}

func TestNAT_K11_SynReopens(t *testing.T) {
	// The same tuple is used again after each way a connection ends.
	ends := map[TCPState]func(t *testing.T, i, r Side) *owner{
		TCPFinBoth: func(t *testing.T, i, r Side) *owner {
			o := established(t, i, r)
			o.send(i, tcp("FA", iss+1, irs+1, 0), TCPFinInitiator, Touch|Rearm)
			o.send(r, tcp("FA", irs+1, iss+2, 0), TCPFinBoth, Touch|Rearm)
			return o
		},
		TCPTimeWait: func(t *testing.T, i, r Side) *owner { return closed(t, i, r) },
		TCPReset: func(t *testing.T, i, r Side) *owner {
			o := established(t, i, r)
			o.send(r, tcp("R", irs+1, 0, 0), TCPReset, Touch|Rearm)
			return o
		},
	}
	touch := map[Side]Effect{Inside: Touch, Outside: 0} // a SYN from outside may be forged
	for state, end := range ends {
		t.Run(state.String(), func(t *testing.T) {
			eitherOpener(t, func(t *testing.T, i, r Side) {
				for again := range Outside + 1 { // the side that opens again
					other := again ^ 1
					o := end(t, i, r)
					class := o.Class
					o.at(100 * time.Second)
					o.send(again, tcp("S", 70000, 0, 0), TCPSynAgain, touch[again])
					assert.Equal(t, again, o.Initiator())
					assert.Equal(t, class, o.Class, "the old clock until the other side agrees")
					o.send(other, tcp("A", irs+2, iss+2, 0), TCPSynAgain, OutOfWindow) // old TIME_WAIT challenges
					o.send(again, tcp("R", iss+2, 0, 0), TCPSynAgain, OutOfWindow)
					o.send(again, tcp("S", 70000, 0, 0), TCPSynAgain, touch[again])
					o.at(110 * time.Second)
					o.send(other, tcp("SA", 90000, 70001, 0), TCPSynReceived, Touch|Rearm|Reopened)
					assert.Equal(t, 350*time.Second, o.expires(), "full timers")
					o.at(300 * time.Second)
					o.send(again, tcp("A", 70001, 90001, 0), TCPEstablished, Touch|Rearm)
					assert.Equal(t, 7740*time.Second, o.expires(), "the old deadline is forgotten")

					// SYNs from both.
					o = end(t, i, r)
					o.send(again, tcp("S", 70000, 0, 0), TCPSynAgain, touch[again])
					o.send(other, tcp("S", 90000, 0, 0), TCPSynBoth, Touch|Rearm|Reopened)
					o.send(again, tcp("SA", 70000, 90001, 0), TCPSynBoth, Touch)
					o.send(other, tcp("SA", 90000, 70001, 0), TCPEstablished, Touch|Rearm)

					// Refused: RST-ACK.
					o = end(t, i, r)
					o.send(again, tcp("S", 70000, 0, 0), TCPSynAgain, touch[again])
					e := Effect(0)
					if state != TCPReset {
						e = Touch | Rearm
					}
					o.send(other, tcp("RA", 0, 70001, 0), TCPReset, e)
				}
			})
		})
	}
}

func TestNAT_K12_ScaleAndWrap(t *testing.T) {
	eitherOpener(t, func(t *testing.T, i, r Side) {
		for _, isn := range []uint32{0, 1, 1<<31 - 2, 1 << 31, 1<<32 - 1 - 1<<29, 1<<32 - 2, 1<<32 - 1} {
			o := open(t, i, tcp("S", isn, 0, 0).win(64000).scale(15)) // 15 counts as 14
			o.send(r, tcp("SA", ^isn, isn+1, 0).win(65535).scale(15), TCPSynReceived, Touch)
			assert.Equal(t, uint32(65536), o.window(r), "the window of a SYN is not scaled, only rounded up")
			assert.Equal(t, uint32(65536), o.window(i))
			o.send(i, tcp("A", isn+1, ^isn+1, 0).win(65535), TCPEstablished, Touch|Rearm)
			o.send(r, tcp("A", ^isn+1, isn+1, 0).win(65535), TCPEstablished, Touch)
			const gigabyte = 65535 << 14
			assert.Equal(t, uint32(gigabyte), o.window(i))
			o.send(i, tcp("A", isn+1+gigabyte+1, ^isn+1, 0), TCPEstablished, OutOfWindow|Beyond)
			o.send(i, tcp("PA", isn+1+gigabyte-1400, ^isn+1, 1400), TCPEstablished, Touch)
			o.send(r, tcp("A", ^isn+1, isn+1+gigabyte, 0).win(65535), TCPEstablished, Touch)
			for range 8 { // twice around
				o.send(i, tcp("A", o.Ack[r]+gigabyte-1, ^isn+1, 1), TCPEstablished, Touch)
				o.send(r, tcp("A", ^isn+1, o.End[i], 0), TCPEstablished, Touch)
			}
			o.send(i, tcp("R", o.Ack[r], 0, 0), TCPReset, Touch|Rearm)
		}
	})
	for _, c := range []struct{ mine, theirs uint8 }{{7, NoScale}, {NoScale, 7}, {NoScale, NoScale}} {
		o := open(t, Inside, tcp("S", iss, 0, 0).scale(c.mine))
		o.send(Outside, tcp("SA", irs, iss+1, 0).scale(c.theirs), TCPSynReceived, Touch)
		o.send(Inside, tcp("A", iss+1, irs+1, 0), TCPEstablished, Touch|Rearm)
		o.send(Outside, tcp("A", irs+1+8001, iss+1, 0), TCPEstablished, OutOfWindow|Beyond) // in force only if both offer
		o.send(Outside, tcp("A", irs+1+8000, iss+1, 0), TCPEstablished, Touch)
	}
}

func TestNAT_K13_OldSegment(t *testing.T) {
	o := established(t, Inside, Outside)
	o.send(Inside, tcp("PA", iss+1, irs+1, 500), TCPEstablished, Touch)
	o.send(Outside, tcp("A", irs+1, iss+501, 0), TCPEstablished, Touch)
	o.at(time.Minute)
	o.send(Inside, tcp("PA", iss+1, irs+1, 500), TCPEstablished, OutOfWindow) // legal: not Beyond
	o.send(Inside, tcp("A", iss+501, irs+2, 0), TCPEstablished, OutOfWindow|Beyond)
	o.send(Inside, tcp("A", iss+501+8001, irs+1, 0), TCPEstablished, OutOfWindow|Beyond)
	assert.Equal(t, 7440*time.Second, o.expires())
}

func TestNAT_K14_KeepaliveRefreshes(t *testing.T) {
	for _, payload := range []uint32{0, 1} {
		eitherOpener(t, func(t *testing.T, i, r Side) {
			o := established(t, i, r)
			o.at(7439 * time.Second)
			o.send(i, tcp("A", iss, irs+1, payload), TCPEstablished, Touch)
			o.at(7439 * 2 * time.Second)
			o.send(r, tcp("A", irs+1, iss+1, 0).win(0), TCPEstablished, Touch)
			o.send(i, tcp("A", iss+1, irs+1, 1), TCPEstablished, Touch) // zero-window probe
			assert.Equal(t, (7439*2+7440)*time.Second, o.expires())
		})
	}
}

func TestNAT_K15_SynFlood(t *testing.T) {
	live := established(t, Outside, Inside)
	before := live.Track
	for n := range uint32(1000) {
		s := tcp("S", n*0x9e3779b9, 0, 0)
		o := open(t, Outside, s)
		assert.Equal(t, 240*time.Second, o.expires())
		o.send(Outside, tcp("S", s.Seq+12345, 0, 0), TCPSynSent, Touch|Reopened)
		e := live.Update(Outside, &s)
		require.Zero(t, e&^OutOfWindow)
	}
	assert.Equal(t, 7440*time.Second, live.expires())
	live.send(Inside, tcp("A", irs+1, iss+1, 0), TCPEstablished, Touch)
	assert.Equal(t, before, live.Track, "an established connection does not care")
}

func TestNAT_K16_FinOutOfWindow(t *testing.T) {
	eitherOpener(t, func(t *testing.T, i, r Side) {
		o := established(t, i, r)
		before := o.Track
		for _, off := range []int32{8001, 1 << 30, -1 << 31, -2, -1 << 30} {
			s := tcp("FA", irs+1, iss+1, 0).plus(off)
			require.Equal(t, OutOfWindow, o.Update(r, &s)&^Beyond)
			require.Equal(t, before, o.Track)
		}
		o.send(r, tcp("FA", irs+1, iss+2, 0), TCPEstablished, OutOfWindow|Beyond) // acknowledges what was not sent
		o.send(r, tcp("FA", irs+1, iss+1, 0), TCPFinResponder, Touch|Rearm)
	})
}

func TestNAT_K17_WrongSynAck(t *testing.T) {
	eitherOpener(t, func(t *testing.T, i, r Side) {
		o := open(t, i, tcp("S", iss, 0, 0))
		for _, ack := range []uint32{iss, iss + 2, iss + 1 + 1<<31, 0} {
			o.send(r, tcp("SA", 44, ack, 0), TCPSynSent, OutOfWindow)
			o.send(r, tcp("A", 44, ack, 0), TCPSynSent, OutOfWindow) // challenge ACK
			o.send(i, tcp("R", ack, 0, 0), TCPSynSent, OutOfWindow)  // I's answer to it
			o.send(r, tcp("RA", 44, ack, 0), TCPSynSent, OutOfWindow)
		}
		o.send(r, tcp("SA", irs, iss+1, 0), TCPSynReceived, Touch)
		o.send(i, tcp("A", iss+1, irs, 0), TCPSynReceived, OutOfWindow) // does not acknowledge R's SYN
		o.send(i, tcp("A", iss+1, irs+1, 0), TCPEstablished, Touch|Rearm)
	})
}

func TestNAT_K18_ResetOnlyEstablished(t *testing.T) {
	for _, st := range stations {
		for i := range Outside + 1 {
			o := st.reach(t, i, i^1, iss, irs)
			assert.Equal(t, st.state >= TCPFinBoth, o.Closing(), "%v", st.state)
			for to := range Outside + 1 {
				seqs, n := o.Resets(to)
				if st.state != TCPEstablished {
					assert.Zero(t, n, "%v", st.state)
					continue
				}
				require.Equal(t, 1, n)
				assert.Equal(t, o.Ack[to], seqs[0])
			}
		}
	}
}

func TestNAT_K19_Refused(t *testing.T) {
	eitherOpener(t, func(t *testing.T, i, r Side) {
		o := open(t, i, tcp("S", iss, 0, 0))
		o.send(r, tcp("R", iss+1, 0, 0), TCPSynSent, OutOfWindow)
		o.send(r, tcp("RA", 0, iss+1, 0), TCPReset, Touch|Rearm)
		assert.Equal(t, ClassTCPReset, o.Class)
		o.send(r, tcp("RA", 0, iss+1, 0), TCPReset, 0)
		o.send(r, tcp("SA", irs, iss+1, 0), TCPSynReceived, Touch|Rearm) // the refusal was forged
	})
}

func TestNAT_K20_FastOpen(t *testing.T) {
	eitherOpener(t, func(t *testing.T, i, r Side) {
		for _, acked := range []uint32{0, 400} {
			o := open(t, i, tcp("S", iss, 0, 400))
			o.send(i, tcp("S", iss, 0, 0), TCPSynSent, Touch) // repeated without the data
			o.send(r, tcp("SA", irs, iss+1+acked, 0), TCPSynReceived, Touch)
			o.send(r, tcp("PA", irs+1, iss+1+acked, 300), TCPSynReceived, Touch)
			o.send(r, tcp("FA", irs+301, iss+401, 0), TCPSynReceived, Touch) // a server may be done before I acknowledges
			o.send(i, tcp("A", iss+401, irs+302, 0), TCPFinResponder, Touch|Rearm)
		}
	})
}

// The old connection is forgotten at both ends before it was closed.
func TestTrackForgottenByBoth(t *testing.T) {
	for _, state := range []TCPState{TCPSynBoth, TCPSynReceived, TCPEstablished, TCPFinInitiator, TCPFinResponder} {
		eitherOpener(t, func(t *testing.T, i, r Side) {
			start := stations[slices.IndexFunc(stations, func(st station) bool { return st.state == state })]
			for again := range Outside + 1 {
				for _, scale := range []uint8{NoScale, 3} {
					other := again ^ 1
					o := start.reach(t, i, r, iss, irs)
					rearm := Effect(0)
					if o.Class != ClassTCPOpening {
						rearm = Rearm
					}
					synAck := tcp("SA", 1<<30, 70001, 0).scale(scale)
					require.Equal(t, OutOfWindow, o.Update(other, &synAck)&^Beyond, "nobody asked for it yet")
					o.send(again, tcp("S", 70000, 0, 0).scale(scale), state, OutOfWindow)
					assert.Equal(t, i, o.Initiator())
					o.send(other, synAck, TCPSynReceived, Touch|Reopened|rearm)
					assert.Equal(t, again, o.Initiator())
					o.send(again, tcp("A", 70001, 1<<30+1, 0), TCPEstablished, Touch|Rearm)
					o.send(other, tcp("PA", 1<<30+1+8000, 70001, 1), TCPEstablished, Touch)
				}
			}
			// Whoever answers with a segment of the old connection still has it.
			if state == TCPEstablished {
				o := start.reach(t, i, r, iss, irs)
				o.send(i, tcp("S", 70000, 0, 0), state, OutOfWindow)
				o.send(r, tcp("A", irs+1, iss+1, 0), state, Touch)
				o.send(r, tcp("SA", 1<<30+irs, 70001, 0), state, OutOfWindow|Beyond)
			}
		})
	}
}

func TestTrackResets(t *testing.T) {
	o := established(t, Inside, Outside)
	o.send(Inside, tcp("PA", iss+1, irs+1, 100), TCPEstablished, Touch)
	o.send(Outside, tcp("A", irs+1, iss+51, 0), TCPEstablished, Touch)
	seqs, n := o.Resets(Inside)
	assert.Equal(t, 1, n)
	assert.Equal(t, uint32(irs+1), seqs[0], "what the inside acknowledged")
	seqs, n = o.Resets(Outside)
	assert.Equal(t, [2]uint32{iss + 51, iss + 101}, seqs, "then the end of what it may have received since")
	assert.Equal(t, 2, n)

	o.MarkReset()
	assert.Equal(t, ClassTCPResetSent, o.Class)
	assert.True(t, o.Closing())
	o.send(Outside, tcp("A", irs+1, iss+101, 0), TCPResetSent, Answer|Discard) // challenge ACK
	o.send(Inside, tcp("PA", iss+101, irs+1, 9), TCPResetSent, Answer|Discard)
	o.send(Outside, tcp("R", irs+1, 0, 0), TCPResetSent, Discard) // never answer a RST
	o.send(Outside, tcp("RA", irs+1, 1, 0), TCPResetSent, Discard)
	o.send(Outside, tcp("S", 1, 0, 0), TCPResetSent, Discard)
	o.send(Inside, tcp("S", 7, 0, 0), TCPSynSent, Touch|Rearm|Reopened)
	o.send(Outside, tcp("SA", 9, 8, 0), TCPSynReceived, Touch)
}

func TestTrackMidstream(t *testing.T) {
	o := open(t, Inside, tcp("PA", iss, irs, 100))
	assert.Equal(t, TCPMidstream, o.Phase())
	assert.Equal(t, ClassTCPOpening, o.Class)
	o.send(Inside, tcp("PA", iss+100, irs, 100), TCPMidstream, Touch)
	o.send(Outside, tcp("A", irs+3000, iss+250, 700), TCPEstablished, Touch|Rearm) // 50 bytes we never saw
	o.send(Inside, tcp("A", iss+250, irs+3700, 0), TCPEstablished, Touch)
	seqs, n := o.Resets(Outside)
	assert.Equal(t, 1, n)
	assert.Equal(t, uint32(iss+250), seqs[0])

	o = open(t, Outside, tcp("FA", irs, iss, 0))
	o.send(Inside, tcp("A", iss, irs+1, 0), TCPFinInitiator, Touch|Rearm)
	o = open(t, Outside, tcp("SA", irs, iss+1, 0))
	assert.Equal(t, Inside, o.Initiator(), "a SYN-ACK answers")
	o.send(Inside, tcp("A", iss+1, irs+1, 0), TCPEstablished, Touch|Rearm)
	o = open(t, Outside, tcp("A", irs, iss, 0))
	o.send(Inside, tcp("S", 5, 0, 0), TCPSynSent, Touch|Reopened)
	assert.Equal(t, Inside, o.Initiator())
	o = open(t, Outside, tcp("A", irs, iss, 0))
	o.send(Outside, tcp("R", irs, 0, 0), TCPReset, Touch|Rearm)
	o.send(Inside, tcp("A", iss, irs, 0), TCPEstablished, Touch|Rearm)

	assert.Panics(t, func() { s := tcp("R", 1, 0, 0); new(Track).Open(Inside, &s) })
	assert.Panics(t, func() { s := tcp("A", 1, 0, 0); new(Track).Update(Inside, &s) })
}

// station is a state and how to get there with given initial sequence numbers.
// Afterwards I has sent up to iss+1, R up to irs+1, FINs not counted, and all
// of it is acknowledged.
type station struct {
	state TCPState
	path  string // "I" or "R", then flags; joined by spaces
}

var stations = []station{
	{TCPSynSent, "IS"},
	{TCPSynBoth, "IS RS"},
	{TCPSynReceived, "IS RSA"},
	{TCPMidstream, "IA"},
	{TCPEstablished, "IS RSA IA"},
	{TCPFinInitiator, "IS RSA IA IFA"},
	{TCPFinResponder, "IS RSA IA RFA"},
	{TCPFinBoth, "IS RSA IA IFA RFA"},
	{TCPTimeWait, "IS RSA IA IFA RFA IA"},
	{TCPReset, "IS RSA IA IR"},
	{TCPResetSent, "IS RSA IA !"},
	{TCPSynAgain, "IS RSA IA IFA RFA IS"},
}

// reach sends the path's segments, each with the next numbers of its sender.
func (st station) reach(t testing.TB, i, r Side, iss, irs uint32) *owner {
	o := &owner{TB: t, timeouts: Timeouts{}.ticks()}
	var seq [2]uint32
	seq[i], seq[r] = iss, irs
	for _, word := range strings.Fields(st.path) {
		if word == "!" {
			o.MarkReset()
			continue
		}
		from := i
		if word[0] == 'R' {
			from = r
		}
		s := tcp(word[1:], seq[from], seq[from^1], 0)
		if o.Phase() == TCPNone {
			if s.Flags&SYN == 0 {
				seq[i], seq[r] = iss+1, irs+1
				s = tcp(word[1:], seq[from], seq[from^1], 0)
			}
			o.Open(from, &s)
		} else {
			o.Update(from, &s)
		}
		seq[from] += s.Len
	}
	require.Equal(t, st.state, o.Phase(), "%s leads to %v", st.path, o.State)
	return o
}

// kinds are the segments that TestNAT_P1_EveryStateAndSegment sends in each state: seq is the
// sender's next number, isn its initial one, ack all that the other has sent.
var kinds = []struct {
	name string
	make func(seq, isn, ack uint32) Segment
}{
	{"SYN", func(_, isn, _ uint32) Segment { return tcp("S", isn, 0, 0) }},
	{"SYN-new", func(_, isn, _ uint32) Segment { return tcp("S", isn+77777, 0, 0) }},
	{"SYN-ACK", func(_, isn, ack uint32) Segment { return tcp("SA", isn, ack, 0) }},
	{"ACK", func(seq, _, ack uint32) Segment { return tcp("A", seq, ack, 0) }},
	{"FIN", func(seq, _, ack uint32) Segment { return tcp("FA", seq, ack, 0) }},
	{"below", func(seq, _, ack uint32) Segment { return tcp("PA", seq-10000, ack, 9) }},
	{"above", func(seq, _, ack uint32) Segment { return tcp("PA", seq+1<<31-1, ack, 9) }},
	{"unsent", func(seq, _, ack uint32) Segment { return tcp("PA", seq, ack+1, 9) }},
	{"RST", func(seq, _, _ uint32) Segment { return tcp("R", seq, 0, 0) }},
	{"RST-near", func(seq, _, _ uint32) Segment { return tcp("R", seq+100, 0, 0) }},
	{"RST-far", func(seq, _, _ uint32) Segment { return tcp("R", seq+1<<31-1, 0, 0) }},
	{"refused", func(seq, _, ack uint32) Segment { return tcp("RA", seq-20000, ack, 0) }},
}

// trackTable is what each state does with each kind from each direction. A cell
// is the next state, "=" for the same, plus the effects: t Touch, T Touch and
// Rearm, o OutOfWindow, b OutOfWindow and Beyond, n Reopened, d Discard, a
// Answer and Discard. What is in parentheses is for segments from inside only.
const trackTable = `
                 SYN            SYN-new        SYN-ACK          ACK            FIN              below  above  unsent         RST      RST-near  RST-far  refused
syn-sent I       =+t            =+tn           =+o              =+o            =+o              =+o    =+o    =+o            =+o      =+o       =+o      =+o
syn-sent R       syn-both+t     syn-both+t     syn-received+t   =+o            =+o              =+o    =+o    =+o            =+o      =+o       =+o      reset+T
syn-both I       =+t            =+o            =+t              =+t            =+t              =+o    =+o    =+o            reset+T  =         =+o      =+o
syn-both R       =+t            =+o            =+t              =+t            =+t              =+o    =+o    =+o            reset+T  =         =+o      =+o
syn-received I   =+t            =+o            established+T    established+T  fin-initiator+T  =+o    =+o    =+o            reset+T  =         =+o      =+o
syn-received R   =+t            =+o            =+t              =+t            =+t              =+o    =+o    =+o            reset+T  =         =+o      =+o
midstream I      syn-sent+tn    syn-sent+tn    =+t              =+t            =+t              =+o    =+o    =+t            reset+T  =         =+o      =+o
midstream R      syn-sent+tn    syn-sent+tn    =+o              established+T  fin-responder+T  =+o    =+o    established+T  reset+T  =         =+o      =+o
established I    =              =+o            =+t              =+t            fin-initiator+T  =+o    =+b    =+b            reset+T  =         =+b      =+o
established R    =              =+o            =+t              =+t            fin-responder+T  =+o    =+b    =+b            reset+T  =         =+b      =+o
fin-initiator I  =              =+o            =+t              =+t            =+t              =+o    =+b    =+b            reset+T  reset+T   =+b      =+o
fin-initiator R  =              =+o            =+t              =+t            fin-both+T       =+o    =+b    =+b            reset+T  reset+T   =+b      =+o
fin-responder I  =              =+o            =+t              =+t            fin-both+T       =+o    =+b    =+b            reset+T  reset+T   =+b      =+o
fin-responder R  =              =+o            =+t              =+t            =+t              =+o    =+b    =+b            reset+T  reset+T   =+b      =+o
fin-both I       syn-again(+t)  syn-again(+t)  =+o              time-wait+T    time-wait+T      =+o    =+b    =+b            =        =         =+b      =+o
fin-both R       syn-again(+t)  syn-again(+t)  =                =              =                =+o    =+b    =+b            =        =         =+b      =+o
time-wait I      syn-again(+t)  syn-again(+t)  =+o              =              =                =+o    =+b    =+b            =        =         =+b      =+o
time-wait R      syn-again(+t)  syn-again(+t)  =+o              =              =                =+o    =+b    =+b            =        =         =+b      =+o
reset I          syn-again(+t)  syn-again(+t)  established+T    established+T  fin-initiator+T  =+o    =+b    =+b            =        =         =+b      =+o
reset R          syn-again(+t)  syn-again(+t)  established+T    established+T  fin-responder+T  =+o    =+b    =+b            =        =         =+b      =+o
reset-sent I     syn-sent+Tn    syn-sent+Tn    =+a              =+a            =+a              =+a    =+a    =+a            =+d      =+d       =+d      =+d
reset-sent R     =+d            =+d            =+a              =+a            =+a              =+a    =+a    =+a            =+d      =+d       =+d      =+d
syn-again I      =(+t)          =(+t)          =+o              =+o            =+o              =+o    =+o    =+o            =+o      =+o       =+o      =+o
syn-again R      syn-both+Tn    syn-both+Tn    syn-received+Tn  =+o            =+o              =+o    =+o    =+o            =+o      =+o       =+o      reset+T
`

// TestNAT_P1_EveryStateAndSegment covers every state, direction and kind of segment, for both
// openers and around the places where the sequence space wraps.
func TestNAT_P1_EveryStateAndSegment(t *testing.T) {
	effect := func(e Effect) string {
		out := "+"
		for _, m := range []struct {
			bits Effect
			name string
		}{{Touch | Rearm, "T"}, {Touch, "t"}, {OutOfWindow | Beyond, "b"}, {OutOfWindow, "o"}, {Reopened, "n"}, {Answer | Discard, "a"}, {Discard, "d"}} {
			if e&m.bits == m.bits {
				e, out = e&^m.bits, out+m.name
			}
		}
		require.Zero(t, e)
		return strings.TrimSuffix(out, "+")
	}
	isns := []uint32{iss, 0, 1<<32 - 1, 1<<32 - 2, 1<<31 - 1, 1 << 31}
	var text strings.Builder
	out := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, k := range kinds {
		fmt.Fprintf(out, "\t%s", k.name)
	}
	fmt.Fprintln(out)
	for _, st := range stations {
		for dir := range Side(2) {
			fmt.Fprintf(out, "%s %c", st.state, "IR"[dir])
			for _, k := range kinds {
				cells := map[string]bool{}
				for _, i := range []Side{Inside, Outside} {
					for _, isn := range isns {
						// I and R as of the path, not as of a reopening.
						isns := [2]uint32{isn, ^isn}
						o := st.reach(t, i, i^1, isns[0], isns[1])
						from := i ^ dir
						if !o.has(synSeen|ackSeen, from) {
							isns[dir]-- // nothing sent yet: its first number is isn
						}
						seq := o.End[from]
						if !o.has(synSeen, from) && st.state != TCPMidstream {
							seq = isns[dir] + 1
						}
						s := k.make(seq, isns[dir], o.End[from^1])
						e := o.Update(from, &s)
						to := "="
						if o.Phase() != st.state {
							to = o.Phase().String()
						}
						cells[to+effect(e)] = true
					}
				}
				cell := slices.Sorted(maps.Keys(cells))
				if len(cell) == 2 && cell[1] == cell[0]+"+t" {
					cell = []string{cell[0] + "(+t)"}
				}
				fmt.Fprintf(out, "\t%s", strings.Join(cell, "|"))
			}
			fmt.Fprintln(out)
		}
	}
	require.NoError(t, out.Flush())
	assert.Equal(t, strings.Trim(trackTable, "\n"), strings.TrimRight(text.String(), "\n"))
}

func TestTrackNoAllocs(t *testing.T) {
	seg := tcp("A", iss+1, irs+1, 0)
	syn, fin := tcp("S", 1, 0, 0), tcp("FA", iss+1, irs+1, 0)
	o := established(t, Inside, Outside)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		tr := o.Track
		tr.Update(Inside, &seg)
		tr.Update(Inside, &fin)
		tr.Resets(Inside)
		tr.MarkReset()
		tr.Update(Inside, &syn)
		tr.Open(Outside, &syn)
	}))
}

func TestTrackNames(t *testing.T) {
	seen := map[string]bool{}
	for s := range numTCPStates {
		assert.Equal(t, s.String(), (s | fromOutside).String())
		assert.False(t, seen[s.String()], "%v twice", s)
		seen[s.String()] = true
	}
	assert.Equal(t, "tcp-state(?)", fmt.Sprint(numTCPStates))
}

func BenchmarkTrackUpdate(b *testing.B) {
	o := established(b, Inside, Outside)
	segs := [2]Segment{tcp("PA", iss+1, irs+1, 100), tcp("A", irs+1, iss+1, 0)}
	var from Side
	for b.Loop() {
		if o.Track.Update(from, &segs[from]) != Touch {
			b.Fatal(o.State)
		}
		from ^= 1
	}
}
