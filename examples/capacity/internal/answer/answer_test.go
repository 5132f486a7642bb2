package answer

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/whatif"
)

// Findings say what held the ports, and only that.
func TestFind(t *testing.T) {
	codes := func(r whatif.Result, idle time.Duration) (all []string) {
		a := Answer{AsItIs: ResultOf(&r)}
		a.Cluster.IdleSeconds = idle.Seconds()
		a.Find()
		for i, f := range a.Findings {
			assert.Equal(t, i == 0 && strings.Contains("held abandoned udp", f.Code), strings.Contains(f.Text, " % of what held ports at the peak were "), f.Text)
			assert.Equal(t, idle > minIdle && f.Code != "held" && f.Code != "cut" && f.Code != "headroom", strings.Contains(f.Text, "shorter idle timeout"), f.Text)
			all = append(all, f.Code)
		}
		return all
	}
	node := []whatif.Fill{{Allocated: 100, Peak: 40}}
	assert.Equal(t, []string{"held", "headroom"}, codes(whatif.Result{Peak: whatif.Uses{HeldFIN: 90, UDPWaiting: 5, Abandoned: 5}, Nodes: node}, minIdle))
	assert.Equal(t, []string{"abandoned", "udp"}, codes(whatif.Result{Peak: whatif.Uses{UDPWaiting: 50, Abandoned: 50}, Total: whatif.Counts{Refused: 1}, Nodes: node}, minIdle))
	assert.Equal(t, []string{"abandoned", "udp"}, codes(whatif.Result{Peak: whatif.Uses{UDPWaiting: 50, Abandoned: 50}, Total: whatif.Counts{Refused: 1}, Nodes: node}, time.Hour))
	assert.Equal(t, []string{"cut"}, codes(whatif.Result{Total: whatif.Counts{Cut: 1}}, time.Hour))
	assert.Empty(t, codes(whatif.Result{}, time.Hour))
}

// No peak is below that of a node, which may have been between two samples.
func TestPeaks(t *testing.T) {
	r := whatif.Result{
		Peak:      whatif.Uses{Ports: 90, Busy: 90},
		Nodes:     []whatif.Fill{{Name: "a", Allocated: 100, Peak: 80}, {Name: "b", Allocated: 100, Peak: 95}, {Name: "b", Is6: true, Allocated: 100, Peak: 7}},
		Frontends: []whatif.Fill{{Allocated: 64000, Peak: 93}},
	}
	d := ResultOf(&r)
	assert.Equal(t, []int{95, 90}, []int{d.Peak.Ports, d.Peak.Busy})
	protocol := d.Nodes[0].Protocol
	assert.Equal(t, 95, d.PeakOf(&Line{Name: "b", Protocol: protocol, Used: []int{50, 94}}))
	assert.Equal(t, 8, d.PeakOf(&Line{Name: "b", IPv6: true, Protocol: protocol, Used: []int{8}}), "of a cluster that was another one")
	r.Frontends[0].Peak, r.Nodes = 100, nil
	d = ResultOf(&r)
	assert.Equal(t, 100, d.Peak.Ports)
	assert.Equal(t, 100, d.PeakOf(&Line{Name: d.Frontends[0].Label(), Protocol: protocol, Used: []int{1}}))
	r.Peak.Ports = 150
	assert.Equal(t, 150, ResultOf(&r).Peak.Ports)
}

// How long ports rest is told as the timers of the simulation have it.
func TestHolds(t *testing.T) {
	for _, c := range []struct {
		config overlay.ClusterConfig
		want   string
	}{
		{overlay.ClusterConfig{}, "for 4m,"},
		{overlay.ClusterConfig{Timeouts: flow.Timeouts{TCPTimeWait: 3 * time.Minute}}, "for 3m,"},
		{overlay.ClusterConfig{OutboundType: overlay.OutboundManagedNATGatewayV2}, "for 1m5s,"},
		{overlay.ClusterConfig{OutboundType: overlay.OutboundUserAssignedNATGateway}, "for 1m5s,"},
	} {
		a := Answer{AsItIs: ResultOf(&whatif.Result{Peak: whatif.Uses{HeldFIN: 1}})}
		a.Cluster.HoldSeconds, a.Cluster.OutboundType, a.Cluster.PortsPerNode = HoldAfterFIN(&c.config).Seconds(), c.config.OutboundType.String(), 720
		a.Find()
		assert.Contains(t, a.Findings[0].Text, "They keep a port from their destination "+c.want)
		assert.Equal(t, c.want == "for 3m,", strings.Contains(a.Findings[0].Text, "last for 4.0 new"))
	}
}

// The headline says what to change where the run can tell, and with which numbers.
func TestConclude(t *testing.T) {
	result := func(refused, cut uint64, peak int) Result {
		return ResultOf(&whatif.Result{
			Total: whatif.Counts{Conversations: 1000, Refused: refused, Cut: cut, FirstRefused: 90 * time.Second},
			Peak:  whatif.Uses{HeldFIN: 80, Abandoned: 20, Busy: 1}, Nodes: []whatif.Fill{{Allocated: 100, Peak: peak}},
		})
	}
	conclude := func(now Result, edit func(*Answer)) Headline {
		a := Answer{AsItIs: now}
		a.Settings.HeadroomPercent = 20
		a.Cluster.PortsPerNode, a.Cluster.IPs, a.Cluster.IdleSeconds = 1024, 1, 1800
		edit(&a)
		a.Conclude()
		return a.Headline
	}
	better := result(0, 0, 60)
	recommend := func(a *Answer) {
		a.Recommendation = &Recommendation{IPs: 2, PortsPerNode: 2048, IdleSeconds: 600, TooLongIdleSeconds: 900, Setting: "ips=2 ports=2048 idle=10m", Result: better}
	}
	h := conclude(result(250, 3, 100), recommend)
	assert.False(t, h.Good)
	assert.Equal(t, "250 of 1,000 conversations refused, the first after 1m30s", h.Verdict)
	assert.Equal(t, "Give each node 2,048 SNAT ports instead of 1,024, and take 2 outbound IPs instead of 1, and set the idle timeout to 10m instead of 30m: none of 1,000 conversations refused instead of 250, none cut or broken instead of 3, and the fullest node at 60 % of its ports instead of 100 %.", h.Change)
	assert.Equal(t, "At the peak ports were held 79 % by connections that were closed; their ports rest for the same destination; 20 % by TCP connections that no pod knows any more, until the idle timeout. 3 conversations rested for longer than the idle timeout of 30m.", h.Why)
	assert.Equal(t, &Figures{"ips=2 ports=2048 idle=10m", 1000, 0, 0, 0.6}, h.After)

	h = conclude(result(0, 0, 40), recommend)
	assert.True(t, h.Good)
	assert.Regexp(t, `^Nothing has to change. The cheapest setting, with 20 % of the ports kept free, is to give each node`, h.Change)
	assert.Empty(t, h.Why)
	h = conclude(result(0, 0, 95), recommend)
	assert.True(t, h.Good)
	assert.Regexp(t, `^What is set fills 95 % of the ports of the fullest node. To keep 20 % of them free, give each node .* the fullest node at 60 % of its ports instead of 95 %\.$`, h.Change)
	assert.Equal(t, 1.0, result(0, 0, 120).PeakShare, "ports that have been taken away since count no more than all")

	half, same, worse := result(100, 0, 100), result(250, 0, 100), result(400, 0, 100)
	h = conclude(result(250, 0, 100), func(a *Answer) {
		a.Sweep = []Row{{Setting: "a=1", Result: &worse}, {Setting: "a=2", Error: "x"}, {Setting: "a=3", Result: &half}}
	})
	assert.Regexp(t, `^None of the settings tried is enough; a=3 comes closest: 100 of 1,000`, h.Change)
	sweep := func(results ...*Result) func(*Answer) {
		return func(a *Answer) {
			for i, r := range results {
				a.Sweep = append(a.Sweep, Row{Setting: fmt.Sprint("a=", i+1), Result: r})
			}
		}
	}
	for _, c := range []struct {
		want    string
		results []*Result
	}{
		{`^a=1 is not enough: 100 of 1,000`, []*Result{&half}},
		{`^None of the settings tried is enough; a=2 and a=3 come closest, alike: 100 of 1,000`, []*Result{&worse, &half, &half}},
		{`^None of the settings tried is enough; a=1 and 3 others come closest, alike: 100 of 1,000`, []*Result{&half, &half, &half, &half, &worse}},
		{`^None of the settings tried is enough; all come to the same: 100 of 1,000`, []*Result{&half, &half}},
		{`^None of the settings tried is better than what is set; a=2 comes to this: 250 of 1,000`, []*Result{&worse, &same}},
		{`^a=1 is no better than what is set: 400 of 1,000`, []*Result{&worse}},
	} {
		assert.Regexp(t, c.want, conclude(result(250, 0, 100), sweep(c.results...)).Change)
	}
	h = conclude(result(250, 0, 100), func(a *Answer) { a.Sweep = []Row{{Setting: "a=3", Result: &half}, {Setting: "a=4", Result: &better}} })
	assert.Regexp(t, `^Of the settings tried, a=4 does it: none of 1,000`, h.Change)
	h = conclude(result(250, 0, 100), func(a *Answer) { a.NoSetting = "no setting that does" })
	assert.Equal(t, "More ports alone do not help; there is no setting that does.", h.Change)
	assert.Nil(t, h.After)
	h = conclude(result(0, 0, 0), func(*Answer) {})
	assert.Equal(t, []any{true, "none of 1,000 conversations refused", "Nothing has to change."}, []any{h.Good, h.Verdict, h.Change})
	assert.Equal(t, "none of 1,000 conversations refused, 5 cut or broken", conclude(result(0, 5, 0), func(*Answer) {}).Verdict)
}

// Of what is recommended it is said what is needed, and what is merely free to take.
func TestNeeded(t *testing.T) {
	result := func(refused, cut uint64, peak int) Result {
		return ResultOf(&whatif.Result{Total: whatif.Counts{Conversations: 1000, Refused: refused, Cut: cut}, Nodes: []whatif.Fill{{Allocated: 100, Peak: peak}}})
	}
	judge := func(now Result, edit func(*Answer)) (needed, free []string, change string) {
		a := Answer{AsItIs: now, Recommendation: &Recommendation{
			IPs: 1, PortsPerNode: 2048, LeastPorts: 1600, IdleSeconds: 1800, Result: result(0, 0, 80), ShortestIdleSeconds: 240, TooLongIdleSeconds: 2700,
		}}
		a.Settings.HeadroomPercent = 20
		a.Cluster.PortsPerNode, a.Cluster.IPs, a.Cluster.IdleSeconds = 1024, 1, 240
		edit(&a)
		a.Conclude()
		return a.Recommendation.Needed, a.Recommendation.Free, a.Headline.Change
	}
	does, refuses, full := result(0, 0, 70), result(9, 0, 100), result(0, 0, 90)
	const ports = "2,048 SNAT ports per node instead of 1,024: fewer than 1,600 refuse conversations"
	needed, free, change := judge(refuses, func(*Answer) {})
	assert.Equal(t, []string{ports}, needed)
	assert.Equal(t, []string{"the idle timeout may be as long as 30m; your 4m works, too"}, free)
	assert.Regexp(t, `^Give each node 2,048 SNAT ports instead of 1,024: none of .* The idle timeout may be as long as 30m; your 4m works, too\.$`, change)
	for want, edit := range map[string]func(*Answer){
		"30m instead of 4m: of those tried, shorter ones than 10m cut conversations or need more ports": func(a *Answer) { a.Recommendation.ShortestIdleSeconds = 600 },
		"30m instead of 4m: of those tried, shorter ones than 10m need more ports": func(a *Answer) {
			a.Recommendation.ShortestIdleSeconds, a.Settings.AcceptCuts = 600, true
		},
		"30m instead of 45m: one of 45m needs more ports": func(a *Answer) { a.Cluster.IdleSeconds = 2700 },
		"30m instead of 40m: one of 45m needs more ports": func(a *Answer) { a.Cluster.IdleSeconds = 2400 },
	} {
		needed, free, change = judge(refuses, edit)
		assert.Equal(t, []string{ports, "an idle timeout of " + want}, needed)
		assert.Empty(t, free)
		assert.Contains(t, change, ", and set the idle timeout to 30m instead of 4")
	}
	_, free, change = judge(refuses, func(a *Answer) { a.Cluster.IdleSeconds, a.Recommendation.TooLongIdleSeconds = 7200, 0 })
	assert.Equal(t, []string{"the idle timeout may be 30m; what your 2h holds longer does not show in so short a time"}, free)
	assert.NotContains(t, change, "set the idle timeout")
	needed, free, _ = judge(full, func(a *Answer) {
		a.Cluster.PortsPerNode, a.Cluster.IPs, a.Cluster.IdleSeconds = 1800, 3, 1800
	})
	assert.Equal(t, []string{"2,048 SNAT ports per node instead of 1,800: for the 20 % that are kept free"}, needed)
	assert.Equal(t, []string{"1 outbound IP is enough; your 3 work, too"}, free)
	needed, free, _ = judge(refuses, func(a *Answer) { a.Cluster.PortsPerNode, a.Cluster.IdleSeconds = 4096, 7200 })
	assert.Equal(t, []string{"an idle timeout of 30m instead of 2h: one of 45m needs more ports"}, needed)
	assert.Equal(t, []string{"each node may have as few as 2,048 SNAT ports; your 4,096 work, too"}, free)
	needed, _, _ = judge(refuses, func(a *Answer) { a.Recommendation.IPs = 2 })
	assert.Contains(t, needed, "2 outbound IPs instead of 1: for so many ports")
	needed, free, _ = judge(does, func(*Answer) {})
	assert.Empty(t, needed)
	assert.Equal(t, []string{"nothing of it has to be: what is set does, too"}, free)
}

// What is written is read again, and nothing else is.
func TestJSON(t *testing.T) {
	a := Answer{AsItIs: ResultOf(&whatif.Result{Total: whatif.Counts{Refused: 3}, Frontends: []whatif.Fill{{Allocated: 8}}}), Sweep: []Row{}}
	a.Conclude()
	var b bytes.Buffer
	require.NoError(t, a.WriteJSON(&b))
	again, err := ReadJSON(bytes.NewReader(b.Bytes()))
	require.NoError(t, err)
	assert.Equal(t, &a, again)
	for _, text := range []string{"", "{", "[]", `{"x": 1}`, b.String() + "{}"} {
		_, err := ReadJSON(strings.NewReader(text))
		assert.Error(t, err, text)
	}
}

func TestForetold(t *testing.T) {
	f := Foretold{Node: "vm", Destination: "203.0.113.9:443", Cause: "DNS", SaidSeconds: 60, ForetoldSeconds: 120, EarliestSeconds: 90, LatestSeconds: 180, ExhaustedSeconds: 130}
	assert.Equal(t, "After 1m it was foretold that vm runs out of ports to 203.0.113.9:443 after 2m (1m30s to 3m), because of DNS; they did after 2m10s.", f.Sentence())
	f.Node, f.LatestSeconds, f.ExhaustedSeconds = "", 0, 0
	assert.Equal(t, "After 1m it was foretold that the NAT gateway runs out of ports to 203.0.113.9:443 after 2m (1m30s or later), because of DNS; they lasted.", f.Sentence())
	f.SaidSeconds = 0
	assert.Empty(t, f.Sentence(), "ports ran out unforetold")
}

// Every name of -json is in the command's documentation, and every column of -csv is a name of -json.
func TestNamesAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../main.go")
	require.NoError(t, err)
	doc, _, _ = bytes.Cut(doc, []byte("package main"))
	names := map[string]bool{}
	var look func(reflect.Type)
	look = func(of reflect.Type) {
		for of.Kind() == reflect.Slice || of.Kind() == reflect.Pointer {
			of = of.Elem()
		}
		if of.Kind() != reflect.Struct {
			return
		}
		for f := range of.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name == "" || names[name] && of == reflect.TypeFor[Result]() {
				continue
			}
			names[name] = true
			assert.Regexp(t, regexp.MustCompile(`\b`+name+`\b`), string(doc), "%v", of)
			look(f.Type)
		}
	}
	look(reflect.TypeFor[Answer]())
	assert.Greater(t, len(names), 100)
	var b bytes.Buffer
	require.NoError(t, (&Answer{}).WriteCSV(&b))
	lines, err := csv.NewReader(&b).ReadAll()
	require.NoError(t, err)
	seen := map[string]bool{}
	for _, column := range lines[0] {
		assert.True(t, names[column], column)
		assert.False(t, seen[column], "%s is there twice", column)
		seen[column] = true
	}
}
