package forecast_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
	"github.com/seed-a61be3fe/natplane/snat/forecast"
)

var remote = netip.MustParseAddrPort("198.51.100.9:443")

// fed returns what is said after samples 10 s apart.
func fed(t *testing.T, c forecast.Config, samples int, row func(i int) forecast.Row) forecast.Outlook {
	t.Helper()
	f, err := forecast.New(c)
	require.NoError(t, err)
	for i := range samples {
		r := row(i)
		r.Instance, r.Remote, r.Bar = "vm", remote, 1000
		if r.Protocol == snat.All {
			r.Protocol = snat.TCP
		}
		f.Feed(flow.At(time.Duration(i+1)*10*time.Second), []forecast.Row{r})
	}
	all := f.Outlooks()
	require.Len(t, all, 1)
	assert.Equal(t, all, f.Fork().Outlooks())
	return all[0]
}

// What is said follows from the samples, and too little or no trend is said as well.
func TestOutlooks(t *testing.T) {
	lives := forecast.Config{Lifetimes: forecast.Azure(30 * time.Minute)}
	active := func(of func(i int) (ports, created int)) func(int) forecast.Row {
		return func(i int) forecast.Row {
			ports, created := of(i)
			return forecast.Row{PortUses: snat.PortUses{Active: ports}, Created: uint64(created), Looked: 64, Idle: 60}
		}
	}
	leak := active(func(i int) (int, int) { return 20 * i, 20 * i })
	for _, x := range []struct {
		name    string
		config  forecast.Config
		samples int
		row     func(int) forecast.Row
		state   forecast.State
		cause   forecast.Cause
		in      time.Duration
	}{
		{"too few", lives, 7, leak, forecast.Unknown, forecast.NoCause, 0},
		{"leak", lives, 21, leak, forecast.Exhausting, forecast.Leak, 300 * time.Second},
		{"a leak beside short connections", lives, 21, active(func(i int) (int, int) { return 20 * i, 200 * i }), forecast.Exhausting, forecast.Leak, 300 * time.Second},
		{"exhausted", lives, 51, leak, forecast.Exhausted, forecast.Leak, 0},
		{"as many as before", lives, 30, active(func(i int) (int, int) { return 400 + i%3, 100 * i }), forecast.Steady, forecast.NoCause, 0},
		{"fewer", lives, 30, active(func(i int) (int, int) { return 400 - 10*i, 100 * i }), forecast.Steady, forecast.NoCause, 0},
		{"within chance", lives, 30, active(func(i int) (int, int) { return 400 + 3*i, 100 * i }), forecast.Steady, forecast.NoCause, 0},
		{"more load", lives, 30, active(func(i int) (int, int) { return 100 + 10*i, 50*i + 3*i*i }), forecast.Unsteady, forecast.Load, 0},
		{"a slow leak", forecast.Config{Horizon: 2}, 30, active(func(i int) (int, int) { return 3 * i, 3 * i }), forecast.Distant, forecast.Leak, 0},
		{"a leak that an idle timeout ends", lives, 30, active(func(i int) (int, int) { return 3 * i, 3 * i }), forecast.LevelsOff, forecast.Leak, 0},
		{"DNS", forecast.Config{}, 21, func(i int) forecast.Row {
			return forecast.Row{Protocol: snat.UDP, PortUses: snat.PortUses{Active: 20 * i}, Created: uint64(20 * i)}
		}, forecast.Exhausting, forecast.UDP, 300 * time.Second},
		{"held", lives, 21, func(i int) forecast.Row {
			return forecast.Row{PortUses: snat.PortUses{Active: 2, HeldFIN: 20 * i}, Created: uint64(20 * i)}
		}, forecast.LevelsOff, forecast.HeldFIN, 0},
		{"reset", forecast.Config{}, 21, func(i int) forecast.Row {
			return forecast.Row{PortUses: snat.PortUses{HeldRST: 20 * i}, Created: uint64(20 * i)}
		}, forecast.Exhausting, forecast.HeldRST, 300 * time.Second},
	} {
		t.Run(x.name, func(t *testing.T) {
			o := fed(t, x.config, x.samples, x.row)
			assert.Equal(t, x.state, o.State, "%+v", o)
			assert.Equal(t, x.cause, o.Cause, "%+v", o)
			assert.Equal(t, x.in, o.In.Round(time.Second))
			if x.in > 0 {
				assert.Less(t, o.Earliest, o.In)
				assert.Greater(t, o.Latest, o.In)
			}
		})
	}
}

// A row that goes and comes back begins anew, and so does one whose counts go back.
func TestRowsBeginAnew(t *testing.T) {
	f, err := forecast.New(forecast.Config{})
	require.NoError(t, err)
	feed := func(at time.Duration, rows ...forecast.Row) { f.Feed(flow.At(at), rows) }
	row := forecast.Row{Instance: "vm", Remote: remote, Protocol: snat.TCP, Bar: 8, PortUses: snat.PortUses{Active: 1}, Created: 5}
	for i := range 20 {
		feed(time.Duration(i+1)*time.Second, row)
	}
	assert.Equal(t, forecast.Steady, f.Outlooks()[0].State)
	row.Created = 1
	feed(30*time.Second, row)
	assert.Equal(t, forecast.Unknown, f.Outlooks()[0].State)
	feed(31 * time.Second)
	assert.Empty(t, f.Outlooks())
	assert.Panics(t, func() { feed(31 * time.Second) })
}

func TestConfig(t *testing.T) {
	_, err := forecast.New(forecast.Config{Window: time.Second, Samples: 2, Horizon: -1, Rows: -1, IdleAfter: 1, Lifetimes: forecast.Lifetimes{FIN: -1}})
	for _, field := range []string{"Window 1s", "Samples 2", "Horizon -1", "Rows -1", "IdleAfter 1ns", "Lifetimes.FIN -1ns"} {
		assert.ErrorContains(t, err, field)
	}
	assert.ErrorIs(t, err, flow.ErrOutOfRange)
	assert.Equal(t, "State(99) Cause(99) levels off hold after close", fmt.Sprint(forecast.State(99), forecast.Cause(99), forecast.LevelsOff, forecast.HeldFIN))
}

// A client leaks a connection every other second: after two minutes it is foretold when its 128 ports are gone.
func ExampleForecast() {
	nat, err := snat.New(snat.Config{
		Instances: []snat.Instance{{
			Name: "vm", Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.4")},
			Ports: []snat.PortRange{{Frontend: netip.MustParseAddr("203.0.113.10"), First: 1024, Count: 128}},
		}},
		Policy:    snat.Policy{IdleTimeout: 30 * time.Minute, Timeouts: flow.Timeouts{TCPOpening: 30 * time.Minute}},
		Dataplane: snat.Dataplane{CountHolders: snat.CountHolders{On: true, IdleAfter: 10 * time.Second}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer nat.Close()
	f, err := forecast.New(forecast.Config{IdleAfter: 10 * time.Second, Lifetimes: forecast.Azure(30 * time.Minute)})
	if err != nil {
		fmt.Println(err)
		return
	}
	for second := range 121 {
		now := flow.At(time.Duration(second) * time.Second)
		nat.Advance(now, nil)
		if second%2 == 0 {
			nat.Outbound(now, pkttest.TCP(fmt.Sprintf("10.0.0.4:%d", 40000+second), "198.51.100.9:443", pkttest.SYN))
		}
		if second%10 == 0 {
			f.Sample(now, nat)
		}
	}
	for _, o := range f.Outlooks() {
		fmt.Printf("%s towards %v: %d of %d ports, %v in %v: %v\n", o.Instance, o.Remote, o.Ports, o.Bar, o.State, o.In.Round(time.Second), o.Cause)
	}
	// Output:
	// vm towards 198.51.100.9:443: 61 of 128 ports, exhausting in 2m14s: idle connections
}
