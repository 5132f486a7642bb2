package main

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/snat"
)

// gateway runs the command and returns what it printed.
func gateway(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, complaints bytes.Buffer
	status = run(t.Context(), args, &out, &complaints)
	return status, out.String(), complaints.String()
}

// good is a command line without mistakes.
var good = []string{"-inside-dev", "tun0", "-outside-dev", "tun1", "-inside", "10.0.0.0/24,fd00::/64", "-frontend", "198.51.100.1,2001:db8::1"}

func TestOptions(t *testing.T) {
	o, err := parseOptions(append([]string{"-idle", "90s", "-ports", "1024", "-reset", "-icmp", "-fragments", "-preset", "azure-lb"}, good...), nil)
	require.NoError(t, err)
	assert.Equal(t, options{
		insideDev: "tun0", outsideDev: "tun1",
		inside:    []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("fd00::/64")},
		frontends: []netip.Addr{netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("2001:db8::1")},
		preset:    "azure-lb", ports: 1024, idle: 90 * time.Second, reset: true, icmp: true, fragments: true,
	}, o)
	o, err = parseOptions([]string{"-selftest"}, nil)
	require.NoError(t, err)
	assert.True(t, o.selftest)
}

func TestHelp(t *testing.T) {
	status, stdout, stderr := gateway(t, "-h")
	assert.Zero(t, status)
	assert.Empty(t, stderr)
	for _, want := range []string{"-selftest", "-inside-dev device", "-frontend IPs", "azure-lb"} {
		assert.Contains(t, stdout, want)
	}
}

// Every mistake is named with its flag and value, all at once.
func TestMistakes(t *testing.T) {
	for name, tt := range map[string]struct {
		args []string // after those of good, which they override
		want []string // in order, one per line
	}{
		"lists": {
			[]string{"-inside", "10.0.0.1/24,x,::ffff:10.0.0.0/104", "-frontend", "127.0.0.1,fe80::1%eth0,y,1.2.3.4,1.2.3.4"},
			[]string{
				`-inside "10.0.0.1/24,x,::ffff:10.0.0.0/104": 10.0.0.1/24 has host bits: 10.0.0.0/24`, `"x" is not an address range`, `IPv4 in the form of IPv6`,
				`"127.0.0.1" is not the address of a single host`, `"fe80::1%eth0" is not`, `"y" is not`, `1.2.3.4 is named twice`,
			},
		},
		"numbers": {
			[]string{"-ports", "7", "-ports", "many", "-ports", "262152", "-idle", "0s", "-idle", "577h", "-idle", "1.5ms", "-idle", "soon"},
			[]string{`-ports "7": must be a multiple of 8`, `-ports "many"`, `-ports "262152"`, `-idle "0s"`, `-idle "577h"`, `-idle "1.5ms"`, `-idle "soon"`},
		},
		"names": {
			[]string{"-preset", "aws", "-inside-dev", "a-name-of-16-byte", "-outside-dev", "a/b", "rest"},
			[]string{`-preset "aws": must be one of azure-lb`, `unexpected argument "rest"`, `-inside-dev "a-name-of-16-byte"`, `-outside-dev "a/b"`},
		},
		"one device twice":       {[]string{"-outside-dev", "tun0"}, []string{`-outside-dev "tun0": must be another`}},
		"frontend is inside":     {[]string{"-frontend", "10.0.0.7,2001:db8::1"}, []string{`-frontend 10.0.0.7: lies in -inside 10.0.0.0/24`}},
		"hosts without frontend": {[]string{"-frontend", "198.51.100.1"}, []string{`-inside has IPv6 hosts, but there is no IPv6 frontend`}},
		"frontend without hosts": {[]string{"-inside", "10.0.0.0/24"}, []string{`there are no IPv6 hosts for -frontend 2001:db8::1`}},
		"more ports than there are": {
			[]string{"-ports", "64008"},
			[]string{`-ports 64008: the IPv4 frontends have 64000`, `-ports 64008: the IPv6 frontends have 64000`},
		},
		"more ports than one instance can use": {
			[]string{"-inside", "10.0.0.0/24", "-frontend", "192.0.2.1,192.0.2.2,192.0.2.3,192.0.2.4,192.0.2.5"},
			[]string{`5 IPv4 addresses have 320000 ports, more than the 262144`},
		},
		"self-test with others": {[]string{"-selftest"}, []string{`-selftest: brings its own network`}},
		"unknown flag":          {[]string{"-nodes", "3"}, []string{"not defined: -nodes"}},
	} {
		t.Run(name, func(t *testing.T) {
			status, stdout, stderr := gateway(t, append(append([]string{}, good...), tt.args...)...)
			assert.Equal(t, 2, status)
			assert.Empty(t, stdout)
			lines := strings.Split(strings.TrimSpace(stderr), "\n")
			require.Len(t, lines, len(tt.want), stderr)
			for i, want := range tt.want {
				assert.Contains(t, lines[i], want)
			}
		})
	}
	status, _, stderr := gateway(t)
	assert.Equal(t, 2, status)
	for _, name := range []string{"-inside-dev", "-outside-dev", "-inside", "-frontend"} {
		assert.Contains(t, stderr, "gateway: "+name+": missing\n")
	}
}

func TestConfig(t *testing.T) {
	addrs := func(texts ...string) (all []netip.Addr) {
		for _, s := range texts {
			all = append(all, netip.MustParseAddr(s))
		}
		return all
	}
	for name, tt := range map[string]struct {
		ports     int
		frontends []netip.Addr
		want      []int // ports of each frontend that has some
	}{
		"all":               {0, addrs("192.0.2.1", "192.0.2.2", "2001:db8::1"), []int{64000, 64000, 64000}},
		"the first is full": {64_008, addrs("192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"), []int{64000, 8, 64000, 8}},
		"the first will do": {1024, addrs("192.0.2.1", "192.0.2.2", "2001:db8::1"), []int{1024, 1024}},
	} {
		t.Run(name, func(t *testing.T) {
			for preset := range presets {
				o := options{preset: preset, ports: tt.ports, frontends: tt.frontends, inside: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, idle: time.Hour, reset: true, icmp: true, fragments: true}
				c := o.config()
				require.NoError(t, c.Validate(), preset)
				var got []int
				for _, r := range c.Instances[0].Ports {
					assert.Equal(t, snat.All, r.Protocol)
					got = append(got, r.Count)
				}
				assert.Equal(t, tt.want, got)
				assert.Equal(t, time.Hour, c.IdleTimeout)
				assert.True(t, c.EnableTCPReset && c.ICMP.Queries && c.ICMP.Errors)
				assert.Equal(t, snat.FragmentsVirtual, c.Fragments.Mode)
			}
		})
	}
}
