package flow

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Conversations by ConntrackRules: lines "side flags seq ack bytes", and what each
// leads to, "state class", with "." where the timer goes on.
func TestConntrackScenes(t *testing.T) {
	const opening = `
i S 1000 0 0    > syn-sent tcp-opening
o SA 5000 1001 0 > syn-received tcp-syn-received
i A 1001 5001 0 > established tcp-established
`
	for name, scene := range map[string]string{
		"the SYN again": `
i S 1000 0 0 > syn-sent tcp-opening
i S 1000 0 0 > syn-sent tcp-opening .
i S 9000 0 0 > syn-sent tcp-opening .
o SA 5000 9001 0 > syn-received tcp-syn-received`,
		"the SYN again after something has come back": `
i S 1000 0 0 > syn-sent tcp-opening
o A 7000 800 0 > syn-sent tcp-opening .
i S 1000 0 0 > syn-sent tcp-opening`,
		"both open": `
i S 1000 0 0 > syn-sent tcp-opening
o S 5000 0 0 > syn-both tcp-opening
i SA 1000 5001 0 > syn-received tcp-syn-received
o SA 5000 1001 0 > syn-received tcp-syn-received .
o A 5001 1001 0 > established tcp-established`,
		"unacknowledged data": opening + `
i PA 1001 5001 10 > established tcp-unacknowledged
i PA 1011 5001 10 > established tcp-unacknowledged
o A 5001 1011 0 > established tcp-unacknowledged
o A 5001 1021 0 > established tcp-established`,
		"a probe four times": opening + `
i A 1000 5001 0 > established tcp-established
i A 1000 5001 0 > established tcp-established
i A 1000 5001 0 > established tcp-established
i A 1000 5001 0 > established tcp-unacknowledged
o A 5001 1001 0 > established tcp-established`,
		"three probes, and something else between": opening + `
i A 1000 5001 0 > established tcp-established
i A 1000 5001 0 > established tcp-established
i A 1000 5001 0 > established tcp-established
o A 5001 1001 0 > established tcp-established
i A 1000 5001 0 > established tcp-established`,
		"one FIN twice": opening + `
i FA 1001 5001 0 > fin-initiator tcp-half-closed
i FA 1001 5001 0 > fin-both tcp-closing
o A 5001 1002 0 > time-wait tcp-time-wait`,
		"half-closed, and the timers of each step": opening + `
o FA 5001 1001 0 > fin-responder tcp-half-closed
i A 1001 5002 0 > close-wait tcp-close-wait
i PA 1001 5002 7 > close-wait tcp-close-wait
i FA 1008 5002 0 > fin-both tcp-closing
o A 5002 1009 0 > time-wait tcp-time-wait
o A 5002 1009 0 > time-wait tcp-time-wait
i S 90000 0 0 > syn-sent tcp-opening
o SA 70000 90001 0 > syn-received tcp-syn-received`,
		"a RST is believed for good": opening + `
o R 5001 0 0 > reset tcp-reset
i PA 1001 5001 10 > reset tcp-reset
o A 5001 1011 0 > reset tcp-reset`,
		"after the opener's own RST a SYN begins": opening + `
i RA 1001 5001 0 > reset tcp-reset
i S 90000 0 0 > syn-sent tcp-opening
o SA 70000 90001 0 > syn-received tcp-syn-received`,
		"after the other's RST the SYN-ACK does": opening + `
o R 5001 0 0 > reset tcp-reset
i S 90000 0 0 > reset tcp-reset .
o SA 70000 90001 0 > syn-received tcp-syn-received`,
		"a RST beside the edge": opening + `
o R 5009 0 0 > established tcp-reset
i A 1001 5001 0 > established tcp-unacknowledged
o A 5009 1001 0 > established tcp-unacknowledged
i A 1001 5009 0 > established tcp-established`,
		"a RST outside the window": opening + `
o R 905001 0 0 > established tcp-established .`,
		"a SYN in between, answered": opening + `
i S 90000 0 0 > established tcp-established .
o SA 70000 90001 0 > syn-received tcp-syn-received
i A 90001 70001 0 > established tcp-established`,
		"a SYN in between, challenged": opening + `
i FA 1001 5001 0 > fin-initiator tcp-half-closed
o FA 5001 1002 0 > fin-both tcp-closing
i S 90000 0 0 > fin-both tcp-closing .
o A 5002 1002 0 > fin-both tcp-closing .
i A 1002 5002 0 > time-wait tcp-time-wait`,
		"the responder's SYN means nothing": opening + `
o S 90000 0 0 > established tcp-established .
i SA 70000 90001 0 > established tcp-established .`,
		"picked up": `
i A 1001 5001 0 > midstream tcp-unacknowledged
i A 1001 5001 0 > midstream tcp-unacknowledged
o A 5001 1001 0 > established tcp-unacknowledged
i A 1001 5001 0 > established tcp-established
i PA 901001 5001 0 > established tcp-unacknowledged`,
		"picked up and closed": `
i A 1001 5001 0 > midstream tcp-unacknowledged
i FA 1001 5001 0 > fin-initiator tcp-half-closed
o FA 5001 1002 0 > fin-both tcp-closing`,
	} {
		for _, opener := range []Side{Inside, Outside} {
			t.Run(fmt.Sprintf("%s, opened by the %v", name, opener), func(t *testing.T) {
				var tr Track
				for line := range strings.Lines(strings.TrimSpace(scene)) {
					if line == "\n" {
						continue
					}
					var who, flags, state, class, still string
					var seq, ack, n uint32
					got, err := fmt.Sscanf(line, "%s %s %d %d %d > %s %s %s", &who, &flags, &seq, &ack, &n, &state, &class, &still)
					require.True(t, err == nil || got == 7, line)
					seg := tcp(flags, seq, ack, n).win(1000)
					from := opener
					if who == "o" {
						from ^= 1
					}
					before := tr.Class
					effect := Touch
					if tr.Phase() == TCPNone {
						tr.OpenBy(ConntrackRules, from, &seg)
					} else {
						effect = tr.Update(from, &seg)
					}
					require.Equal(t, state+" "+class, tr.State.String()+" "+tr.Class.String(), line)
					require.Equal(t, still == "", effect&Touch != 0, "restarts the timer: %s", line)
					if before != ClassNone && before != tr.Class && before != ClassTCPUnacknowledged {
						require.NotZero(t, effect&Rearm, line)
					}
					assert.False(t, tr.Data(from, seq+n, ack, 0, 1000), "it is not for the short cut")
				}
			})
		}
	}
}

// Whatever comes, every state has a class of its own, and a tombstone that we have
// made of a connection behaves as one of the other rules.
func TestConntrackAnything(t *testing.T) {
	rng := rand.New(rand.NewPCG(20261128, 0))
	flags := []string{"S", "SA", "A", "PA", "FA", "R", "RA"}
	var reached [numTCPStates]int
	for range 2000 {
		var tr Track
		first := tcp("S", 1000, 0, 0).win(1000)
		if rng.IntN(3) == 0 {
			first = tcp("A", 1001, 5001, 0).win(1000)
		}
		tr.OpenBy(ConntrackRules, Side(rng.IntN(2)), &first)
		for range 40 {
			seg := tcp(flags[rng.IntN(len(flags))], 1000+4000*uint32(rng.IntN(2))+uint32(rng.IntN(3)), 1000+4000*uint32(rng.IntN(2))+uint32(rng.IntN(3)), uint32(rng.IntN(2))).win(1000)
			if tr.Phase() == TCPEstablished && rng.IntN(50) == 0 {
				tr.MarkReset()
			}
			was := tr.Phase()
			effect := tr.Update(Side(rng.IntN(2)), &seg)
			reached[tr.Phase()]++
			if was == TCPResetSent && tr.Phase() == TCPResetSent {
				require.NotZero(t, effect&(Discard|Answer), "%v", seg)
				continue
			}
			require.NotZero(t, tr.State&conntrack, "the rules stay")
			switch tr.Class {
			case conntrackClass[tr.Phase()]:
			case ClassTCPUnacknowledged, ClassTCPReset:
				require.Equal(t, TCPEstablished, tr.Phase())
			case ClassTCPResetSent:
				require.Equal(t, TCPResetSent, tr.Phase())
			default:
				t.Fatalf("%v has class %v", tr.State, tr.Class)
			}
		}
	}
	for state := TCPSynSent; state < numTCPStates; state++ {
		assert.True(t, reached[state] > 0 || state == TCPSynAgain, "%v: %d times", state, reached[state])
	}
}

func TestConntrackNoAllocs(t *testing.T) {
	syn, synAck, ack, data := tcp("S", 1000, 0, 0), tcp("SA", 5000, 1001, 0), tcp("A", 1001, 5001, 0), tcp("PA", 1001, 5001, 9)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		var tr Track
		tr.OpenBy(ConntrackRules, Inside, &syn)
		tr.Update(Outside, &synAck)
		tr.Update(Inside, &ack)
		tr.Update(Inside, &data)
	}))
}

// A request and its acknowledgment: two changes of the class.
func BenchmarkConntrackUpdate(b *testing.B) {
	syn, synAck, ack := tcp("S", iss, 0, 0), tcp("SA", irs, iss+1, 0), tcp("A", iss+1, irs+1, 0)
	var tr Track
	tr.OpenBy(ConntrackRules, Inside, &syn)
	tr.Update(Outside, &synAck)
	tr.Update(Inside, &ack)
	data, answer := tcp("PA", iss+1, irs+1, 100), tcp("A", irs+1, iss+101, 0)
	for b.Loop() {
		tr.Update(Inside, &data)
		if tr.Update(Outside, &answer) == 0 || tr.Class != ClassTCPEstablished {
			b.Fatal(tr.State, tr.Class)
		}
		data.Seq, answer.Ack = data.Seq+100, answer.Ack+100
	}
}

func TestTCPRulesNames(t *testing.T) {
	assert.Equal(t, "RFCRules ConntrackRules TCPRules(?)", fmt.Sprint(RFCRules, " ", ConntrackRules, " ", numTCPRules))
	assert.True(t, ConntrackRules.Valid())
	assert.False(t, numTCPRules.Valid())
}
