package snat_test

// Rows of the requirement sheet on the times of TCP sessions and on what a RST
// does to them, by the timers of the RFCs and by Azure's.

import (
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// stage is a state of a connection from r.a to r.s, and what begins its timer.
type stage struct {
	name       string
	rfc, azure time.Duration
	reach      func(b *bed, inside, server string)
}

// stages are those with timers of their own.
var stages = []stage{
	{"SYN sent", 240 * time.Second, 30 * time.Second, func(b *bed, inside, server string) {
		b.opens("tcp", inside, server)
	}},
	{"SYN received", 240 * time.Second, 30 * time.Second, func(b *bed, inside, server string) {
		b.remotely(server, b.opens("tcp", inside, server), "SA", 5000, 1001)
	}},
	{"established", 7440 * time.Second, 240 * time.Second, func(b *bed, inside, server string) { b.dials(inside, server) }},
	{"half closed", 7440 * time.Second, 240 * time.Second, func(b *bed, inside, server string) {
		b.dials(inside, server)
		b.locally(inside, server, "FA", 1001, 5001)
	}},
	{"closing", 240 * time.Second, 240 * time.Second, func(b *bed, inside, server string) {
		outside := b.dials(inside, server)
		b.locally(inside, server, "FA", 1001, 5001)
		b.remotely(server, outside, "FA", 5001, 1001)
	}},
	{"both FINs acknowledged", 120 * time.Second, 240 * time.Second, func(b *bed, inside, server string) {
		outside := b.dials(inside, server)
		b.locally(inside, server, "FA", 1001, 5001)
		b.remotely(server, outside, "FA", 5001, 1002)
		b.locally(inside, server, "A", 1002, 5002)
	}},
	{"reset", 240 * time.Second, 15 * time.Second, func(b *bed, inside, server string) {
		b.remotely(server, b.dials(inside, server), "R", 5001, 0)
	}},
}

func TestNAT_T5_IdleTimeouts(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		inside, server := socket(r.a, 5000), socket(r.s, 443)
		for _, st := range stages {
			t.Run("rfc", func(t *testing.T) {
				t.Run(st.name, func(t *testing.T) {
					lives(t, underRFC(8), st.rfc, func(b *bed) { st.reach(b, inside, server) })
				})
			})
			t.Run("azure", func(t *testing.T) {
				t.Run(st.name, func(t *testing.T) {
					lives(t, oneVM(8), st.azure, func(b *bed) { st.reach(b, inside, server) })
				})
			})
		}
		// What comes just in time passes, and goes on if the connection does.
		b := newBed(t, underRFC(8))
		outside := b.dials(inside, server)
		b.at(7439 * time.Second)
		require.Equal(t, inside, destination(b.remotely(server, outside, "PA", 5001, 1001)))
		b.at((7439 + 7439) * time.Second)
		b.locally(inside, server, "FA", 1001, 5001)
		b.remotely(server, outside, "FA", 5001, 1002)
		b.at((7439 + 7439 + 239) * time.Second)
		require.Equal(t, outside, source(b.locally(inside, server, "A", 1002, 5002)), "the last ACK")
	})
}

func TestNAT_T5a_TimeoutsAreConfigurable(t *testing.T) {
	c := oneVM(8)
	c.Timeouts.TCPOpening, c.Timeouts.TCPEstablished, c.Timeouts.TCPHalfClosed = 21*time.Second, 22*time.Second, 23*time.Second
	c.Timeouts.TCPClosing, c.Timeouts.TCPTimeWait, c.Timeouts.TCPReset = 24*time.Second, 25*time.Second, 26*time.Second
	want := []time.Duration{21, 21, 22, 23, 24, 25, 26}
	eachRealm(t, func(t *testing.T, r realm) {
		for i, st := range stages {
			t.Run(st.name, func(t *testing.T) {
				lives(t, c, want[i]*time.Second, func(b *bed) { st.reach(b, socket(r.a, 5000), socket(r.s, 443)) })
			})
		}
	})
}

func TestNAT_P2a_OpeningAndClosingApart(t *testing.T) {
	c := underRFC(8)
	c.Timeouts.TCPOpening, c.Timeouts.TCPClosing = 30*time.Second, 100*time.Second
	eachRealm(t, func(t *testing.T, r realm) {
		lives(t, c, 30*time.Second, func(b *bed) { stages[0].reach(b, socket(r.a, 5000), socket(r.s, 443)) })
		lives(t, c, 100*time.Second, func(b *bed) { stages[4].reach(b, socket(r.a, 5000), socket(r.s, 443)) })
	})
}

func TestNAT_P2b_TransitoryTimesBelowFourMinutes(t *testing.T) {
	c := underRFC(8)
	c.Timeouts.TCPOpening, c.Timeouts.TCPClosing, c.Timeouts.TCPTimeWait, c.Timeouts.TCPReset = 30*time.Second, 30*time.Second, 30*time.Second, 30*time.Second
	assert.NoError(t, c.Validate(), "although minimums are enforced")
	eachRealm(t, func(t *testing.T, r realm) {
		for _, i := range []int{0, 1, 4, 5, 6} {
			lives(t, c, 30*time.Second, func(b *bed) { stages[i].reach(b, socket(r.a, 5000), socket(r.s, 443)) })
		}
		lives(t, underRFC(8), 240*time.Second, func(b *bed) { stages[0].reach(b, socket(r.a, 5000), socket(r.s, 443)) })
	})
}

// A RST that belongs to a session is translated, whether or not it counts.
func TestNAT_P2c_ResetsAreForwarded(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		inside, server := socket(r.a, 5000), socket(r.s, 443)
		for _, st := range stages {
			for _, seq := range []uint32{5001, 5101, 1 << 31} { // exact, in the window, anywhere
				b := newBed(t, underRFC(8))
				st.reach(b, inside, server)
				in := pkttest.TCP(server, socket(r.f, firstPort), pkttest.RST, pkttest.Seq(seq))
				require.Equal(t, inside, destination(b.in(in)), "%s %d", st.name, seq)
				pkttest.Check(t, in, pkttest.Seq(seq), pkttest.TCPFlags("R"), pkttest.ChecksumsOK())
				out := pkttest.TCP(inside, server, pkttest.TCPFlags("RA"), pkttest.Seq(seq-4000), pkttest.Ack(5001))
				require.Equal(t, socket(r.f, firstPort), source(b.out(out)), "%s %d", st.name, seq)
				pkttest.Check(t, out, pkttest.Seq(seq-4000), pkttest.TCPFlags("RA"), pkttest.ChecksumsOK())
			}
		}
	})
}

func TestNAT_P2d_StateAfterReset(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		inside, server := socket(r.a, 5000), socket(r.s, 443)
		for _, tc := range []struct {
			name   string
			config snat.Config
			hold   time.Duration
		}{{"rfc", underRFC(8), 240 * time.Second}, {"azure", oneVM(8), 15 * time.Second}} {
			t.Run(tc.name, func(t *testing.T) {
				lives(t, tc.config, tc.hold, func(b *bed) {
					outside := b.dials(inside, server)
					b.remotely(server, outside, "R", 5001, 0)
					b.at(tc.hold / 2)
					require.Equal(t, inside, destination(b.remotely(server, outside, "R", 5001, 0)), "again, it passes and prolongs nothing")
				})
				b := newBed(t, tc.config)
				outside := b.dials(inside, server)
				b.remotely(server, outside, "R", 5001, 0)
				b.at(10 * time.Second)
				require.Equal(t, outside, source(b.locally(inside, server, "PA", 1001, 5001)))
				assert.Contains(t, sessions(b)[0], "established", "the RST did not land")
				b.at(10*time.Second + tc.hold)
				assert.Len(t, sessions(b), 1)
			})
		}
	})
}

func TestNAT_P2e_ResetMustBelongToTheConnection(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		inside, server := socket(r.a, 5000), socket(r.s, 443)
		for _, off := range []uint32{1 << 30, -(1 << 30) & 0xffffffff, 1 << 31} {
			lives(t, underRFC(8), 7440*time.Second, func(b *bed) {
				outside := b.dials(inside, server)
				b.at(1000 * time.Second)
				require.Equal(t, inside, destination(b.remotely(server, outside, "R", 5001+off, 0)))
				require.Equal(t, outside, source(b.locally(inside, server, "R", 1001+off, 0)))
				assert.Contains(t, sessions(b)[0], "established")
				assert.Equal(t, uint64(2), b.Stats().OutOfWindow)
			})
		}
	})
}

// Application-level gateways are off for TCP, too: texts, numbers and lengths stay.
func TestNAT_T6_StreamsAreNotRead(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		for _, text := range []string{"PORT 10,0,0,4,19,136\r\n", "EPRT |1|10.0.0.4|5000|\r\n", "227 Entering Passive Mode (10,0,0,4,19,136)\r\n"} {
			b := newBed(t, oneVM(8))
			inside, server := socket(r.a, 5000), socket(r.s, 21)
			outside := b.dials(inside, server)
			fields := []pkttest.Field{pkttest.Payload(text), pkttest.TCPFlags("PA"), pkttest.Seq(1001), pkttest.Ack(5001)}
			out := pkttest.TCP(inside, server, fields...)
			require.Equal(t, outside, source(b.out(out)))
			pkttest.Check(t, out, append(fields, pkttest.ChecksumsOK())...)
			fields = []pkttest.Field{pkttest.Payload(text), pkttest.TCPFlags("PA"), pkttest.Seq(5001), pkttest.Ack(1001 + uint32(len(text)))}
			in := pkttest.TCP(server, outside, fields...)
			require.Equal(t, inside, destination(b.in(in)))
			pkttest.Check(t, in, append(fields, pkttest.ChecksumsOK())...)
			assert.Equal(t, "drop no_flow", b.in(pkttest.TCP(socket(r.s, 20), socket(r.f, 1025), pkttest.SYN)), "no flow is expected of it")
		}
	})
}

// A policy that sets nothing has Azure's timeouts, and only the idle timeout moves them.
func TestAzureTimeouts(t *testing.T) {
	azure := snat.AzureTimeouts(0)
	assert.Equal(t, azure, snat.AzureTimeouts(snat.DefaultIdleTimeout))
	require.NoError(t, azure.Validate())
	assert.Equal(t, azure, flow.Timeouts{UDP: azure.UDP}.Or(azure))
	set := reflect.ValueOf(azure)
	for i := range set.NumField() {
		assert.Equal(t, set.Type().Field(i).Name == "UDPHeld", set.Field(i).IsZero(), set.Type().Field(i).Name)
	}
	idle := snat.AzureTimeouts(30 * time.Minute)
	azure.TCPEstablished, azure.TCPUnacknowledged, azure.UDP, azure.UDPReplied = idle.UDP, idle.UDP, idle.UDP, idle.UDP
	assert.Equal(t, azure, idle)
}
