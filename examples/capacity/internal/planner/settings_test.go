package planner

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/whatif"
)

func TestSweepsAreRead(t *testing.T) {
	for text, want := range map[string][]string{
		"ips=2":               {"ips=2"},
		"ips=1..3,8":          {"ips=1", "ips=2", "ips=3", "ips=8"},
		"ports=auto,1024":     {"ports=auto", "ports=1024"},
		"  idle=4m,2h  ips=1": {"idle=4m ips=1", "idle=2h ips=1"},
		"ips=1,2 ports=8,16":  {"ips=1 ports=8", "ips=1 ports=16", "ips=2 ports=8", "ips=2 ports=16"},
		"reuse=off,on":        {"reuse=off", "reuse=on"},
		"reset=on":            {"reset=on"},
		"dns-cache=0s,30s":    {"dns-cache=0s", "dns-cache=30s"},
		"keepalive=1m":        {"keepalive=1m"},
		"nodes=2 nodes(a)=3":  {"nodes=2 nodes(a)=3"},
		"surge(a)=1,33%":      {"surge(a)=1", "surge(a)=33%"},
		"ips=2 outbound=managedNATGateway,loadBalancer": {"outbound=managedNATGateway ips=2", "outbound=loadBalancer ips=2"},
		"outbound=managedNATGatewayV2":                  {"outbound=managedNATGatewayV2"},
	} {
		var s sweep
		require.Empty(t, s.set(text), text)
		var names []string
		for _, setting := range whatif.Grid(s.axes...) {
			names = append(names, setting.Name)
		}
		assert.Equal(t, want, names, text)
		assert.Equal(t, strings.Join(strings.Fields(text), " "), s.text)
	}
	var s sweep
	require.Empty(t, s.set("nodes(a)=1 nodes=2 surge(b)=1"))
	assert.Equal(t, []string{"a", "b"}, s.pools())

	// The outbound type is changed first, so that what follows is about it.
	require.Empty(t, s.set("ips=2 idle=10m outbound=managedNATGateway"))
	c := builtIn().Config
	whatif.Grid(s.axes...)[0].Change(&c, &whatif.Workload{})
	assert.Equal(t, overlay.NATGatewayProfile{ManagedOutboundIPCount: 2, IdleTimeout: 10 * time.Minute}, c.NATGatewayProfile)
	require.NoError(t, c.Validate())
}

func TestMistakesInSweeps(t *testing.T) {
	names := `there are ips, ports, idle, outbound, nodes(POOL), surge(POOL), reset, dns-cache, reuse, close, keepalive`
	for text, want := range map[string]string{
		" ":                      `" ": must have a setting, such as ips=1..8`,
		"ips":                    `"ips": must be such as ips=1..8`,
		"ips=":                   `"ips=": "" must be a number or range, 1 to 100`,
		"ips=0,101,x,3..1,1..":   `"ips=0,101,x,3..1,1..": "0" must be a number or range, 1 to 100; "ips=0,101,x,3..1,1..": "101" must be a number or range, 1 to 100; "ips=0,101,x,3..1,1..": "x" must be a number or range, 1 to 100; "ips=0,101,x,3..1,1..": "3..1" must be a number or range, 1 to 100; "ips=0,101,x,3..1,1..": "1.." must be a number or range, 1 to 100`,
		"ips=2,1..3":             `"ips=2,1..3": "2" is there twice; each value must be another one, a number or range, 1 to 100`,
		"ips=1 ips=2":            `"ips=2": ips is there twice`,
		"ips(a)=1":               `"ips(a)=1": there is no setting "ips(a)"; ` + names,
		"nodes()=1":              `"nodes()=1": there is no setting "nodes()"; ` + names,
		"nodes(a=1":              `"nodes(a=1": there is no setting "nodes(a"; ` + names,
		"nodes=1..101":           `"nodes=1..101": "1..101" must be a number or range, 1 to 1000`,
		"cpus=1 ips=0":           `"cpus=1": there is no setting "cpus"; ` + names + `; "ips=0": "0" must be a number or range, 1 to 100`,
		"ports=0,12,64008":       `"ports=0,12,64008": "0" must be auto, or a multiple of 8 up to 64,000; "ports=0,12,64008": "12" must be auto, or a multiple of 8 up to 64,000; "ports=0,12,64008": "64008" must be auto, or a multiple of 8 up to 64,000`,
		"idle=3m":                `"idle=3m": "3m" must be whole minutes, 4m to 120m`,
		"idle=270s":              `"idle=270s": "270s" must be whole minutes, 4m to 120m`,
		"outbound=none":          `"outbound=none": "none" must be an outbound type that needs nothing else: loadBalancer, managedNATGateway or managedNATGatewayV2`,
		"surge=+1":               `"surge=+1": "+1" must be a number or percentage, such as 1 or 33%`,
		"surge=":                 `"surge=": "" must be a number or percentage, such as 1 or 33%`,
		"reset=true":             `"reset=true": "true" must be on or off`,
		"keepalive=-1s":          `"keepalive=-1s": "-1s" must be a duration, 0s for none`,
		"ips=1..100 nodes=1..11": `"ips=1..100 nodes=1..11": has more than 1000 combinations`,
	} {
		var s sweep
		assert.Equal(t, want, strings.ReplaceAll(errors.Join(s.set(text)...).Error(), "\n", "; "), text)
	}
}

// Whatever is read without a complaint makes as many settings as it should, all different.
func FuzzSweep(f *testing.F) {
	for _, text := range []string{storySweep, "ips=1..8 ports=auto,1024,2048 idle=4m,10m,30m", "nodes(a)=1..3 surge=33%", "outbound=loadBalancer dns-cache=0s", "ips=1..", "(=)", "reset=on,off keepalive=1m reuse=on"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var s sweep
		if errs := s.set(text); len(errs) > 0 {
			for _, err := range errs {
				if err.Error() == "" || strings.Contains(err.Error(), "\n") {
					t.Errorf("%q: %q", text, err)
				}
			}
			return
		}
		settings := whatif.Grid(s.axes...)
		if len(settings) == 0 || len(settings) > maxSettings {
			t.Fatalf("%q: %d settings", text, len(settings))
		}
		var names []string
		for _, x := range settings {
			c, w := builtIn().Config, builtInWorkload()
			x.Change(&c, &w)
			names = append(names, x.Name)
		}
		slices.Sort(names)
		if n := len(slices.Compact(names)); n != len(settings) {
			t.Errorf("%q: %d settings, %d different", text, len(settings), n)
		}
	})
}

// IPs are counted as a recommendation counts them: a dual-stack cluster has as many of IPv6 beside them.
func TestIPs(t *testing.T) {
	frontends := func(all ...string) (r whatif.Result) {
		for _, a := range all {
			r.Frontends = append(r.Frontends, whatif.Fill{Frontend: netip.MustParseAddr(a)})
		}
		return r
	}
	both, six := frontends("203.0.113.1", "203.0.113.1", "203.0.113.2", "2001:db8::1"), frontends("2001:db8::1")
	assert.Equal(t, []int{2, 1}, []int{ips(&both), ips(&six)})
}
