package main

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/examples/internal/command"
	"github.com/seed-a61be3fe/natplane/snat"
	"github.com/seed-a61be3fe/natplane/snat/preset"
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
	o, err := parseOptions(append([]string{"-idle", "90m", "-ports", "1024", "-reset", "-icmp", "-seed", "3", "-preset", "gcp-cloudnat"}, good...), nil)
	require.NoError(t, err)
	assert.Equal(t, options{
		insideDev: "tun0", outsideDev: "tun1",
		inside:    []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("fd00::/64")},
		frontends: []netip.Addr{netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("2001:db8::1")},
		preset:    "gcp-cloudnat", ports: 1024, idle: 90 * time.Minute, seed: 3, extras: command.Extras{Reset: true, ICMP: true},
	}, o)
	o, err = parseOptions(good, nil)
	require.NoError(t, err)
	other, err := parseOptions(good, nil)
	require.NoError(t, err)
	assert.NotEqual(t, o.seed, other.seed, "strangers could guess it")
	o, err = parseOptions([]string{"-selftest", "-preset", "linux-masquerade"}, nil)
	require.NoError(t, err)
	assert.True(t, o.selftest)
	assert.Equal(t, "linux-masquerade", o.preset)
}

func TestHelp(t *testing.T) {
	status, stdout, stderr := gateway(t, "-h")
	assert.Zero(t, status)
	assert.Empty(t, stderr)
	for _, want := range []string{"-selftest", "-inside-dev device", "-frontend IPs", "azure-lb"} {
		assert.Contains(t, stdout, want)
	}
	for _, p := range preset.All() {
		assert.Contains(t, stdout, p.Name)
		assert.Contains(t, stdout, p.Summary)
	}
}

// Every mistake is named with its flag and value, all at once.
func TestMistakes(t *testing.T) {
	for name, tt := range map[string]struct {
		args []string // in place of those of good, and besides
		want []string // in order, one per line
	}{
		"lists": {
			[]string{"-inside", "10.0.0.1/24,x,::ffff:10.0.0.0/104", "-frontend", "127.0.0.1,fe80::1%eth0,y,1.2.3.4,1.2.3.4"},
			[]string{
				`-inside "10.0.0.1/24,x,::ffff:10.0.0.0/104": 10.0.0.1/24 has host bits: 10.0.0.0/24`, `"x" is not an address range`, `IPv4 in the form of IPv6`,
				`"127.0.0.1" is not the address of a single host`, `"fe80::1%eth0" is not`, `"y" is not`, `1.2.3.4 is named twice`,
			},
		},
		"forwards": {
			[]string{
				"-forward", "198.51.100.1:80", "-forward", "198.51.100.1=10.0.0.1:80", "-forward", "198.51.100.1:80=10.0.0.1", "-forward", "198.51.100.1:0=10.0.0.1:1",
				"-forward", "127.0.0.1:80=10.0.0.1:1", "-forward", "198.51.100.1:80=[fd00::1]:80", "-forward", "198.51.100.1:80=10.0.0.1:80,10.0.0.1:81", "-forward", "198.51.100.1:80=",
			},
			[]string{
				`-forward "198.51.100.1:80": must be FRONTEND:PORT=BACKEND:PORT`, `"198.51.100.1" is not a socket`, `"10.0.0.1" is not a socket`, `"198.51.100.1:0" is not a socket`,
				`127.0.0.1 is not the address of a single host`, `[fd00::1]:80 is not of the family of 198.51.100.1:80`, `10.0.0.1 is named twice`, `"" is not a socket`,
			},
		},
		"forwards together": {
			[]string{
				"-forward", "10.0.0.9:80=10.0.0.1:80", "-forward", "198.51.100.1:80=10.0.0.2:80,10.0.1.1:80", "-forward", "198.51.100.1:80=10.0.0.3:80",
				"-forward", "198.51.100.1:81=10.0.0.3:80",
			},
			[]string{
				`-forward "10.0.0.9:80=10.0.0.1:80": 10.0.0.9 lies in -inside`, `-forward "198.51.100.1:80=10.0.0.2:80,10.0.1.1:80": 10.0.1.1 does not lie in -inside`,
				`198.51.100.1:80 is forwarded already`, `-forward "198.51.100.1:81=10.0.0.3:80": 10.0.0.3:80 serves 198.51.100.1:80`,
			},
		},
		"forwards of shared ports": {[]string{"-preset", "azure-natgw", "-forward", "198.51.100.1:80=10.0.0.3:80"}, []string{`-forward "198.51.100.1:80=10.0.0.3:80": not with preset azure-natgw`}},
		"forwards and hairpins":    {[]string{"-preset", "rfc", "-forward", "198.51.100.1:80=10.0.0.3:80"}, []string{`-forward "198.51.100.1:80=10.0.0.3:80": not with preset rfc`}},
		"a forward of a SNAT port": {[]string{"-ports", "8192", "-forward", "198.51.100.1:8080=10.0.0.3:80"}, []string{`Forwards[0].FirstPort 8080`}},
		"numbers": {
			[]string{"-ports", "0", "-idle", "0s"},
			[]string{`-ports "0": must be a positive number`, `-idle "0s"`},
		},
		"no numbers": {
			[]string{"-ports", "many", "-idle", "soon"},
			[]string{`-ports "many"`, `-idle "soon"`},
		},
		"what the preset does not take": {[]string{"-idle", "90s"}, []string{`-preset azure-lb: preset: azure-lb: IdleTimeout 1m30s: out of range`}},
		"ports of nobody":               {[]string{"-preset", "azure-natgw", "-ports", "8"}, []string{`-ports 8: preset azure-natgw preallocates none`}},
		"two for one address":           {[]string{"-preset", "linux-masquerade", "-frontend", "198.51.100.1,198.51.100.2,2001:db8::1"}, []string{`-preset linux-masquerade: preset: linux-masquerade: Frontends has 2 addresses`}},
		"names": {
			[]string{"-preset", "aws", "-inside-dev", "a-name-of-16-byte", "-outside-dev", "a/b", "rest"},
			append(append([]string{`-preset "aws": must be one of`}, presetLines()...), `unexpected argument "rest"`, `-inside-dev "a-name-of-16-byte"`, `-outside-dev "a/b"`),
		},
		"one device twice":                     {[]string{"-outside-dev", "tun0"}, []string{`-outside-dev "tun0": must be another`}},
		"frontend is inside":                   {[]string{"-frontend", "10.0.0.7,2001:db8::1"}, []string{`-frontend 10.0.0.7: lies in -inside 10.0.0.0/24`}},
		"hosts without frontend":               {[]string{"-frontend", "198.51.100.1"}, []string{`-inside has IPv6 hosts, but there is no IPv6 frontend`}},
		"frontend without hosts":               {[]string{"-inside", "10.0.0.0/24"}, []string{`there are no IPv6 hosts for -frontend 2001:db8::1`}},
		"more ports than there are":            {[]string{"-ports", "64008"}, []string{`-preset azure-lb: preset: azure-lb: PortsPerInstance 64008`}},
		"more ports than one instance can use": {[]string{"-inside", "10.0.0.0/24", "-frontend", "192.0.2.1,192.0.2.2,192.0.2.3,192.0.2.4,192.0.2.5,192.0.2.6,192.0.2.7,192.0.2.8,192.0.2.9"}, []string{`576000`}},
		"self-test with others":                {[]string{"-selftest"}, []string{`-frontend: not with -selftest`, `-inside: not with`, `-inside-dev: not with`, `-outside-dev: not with`}},
		"unknown flag":                         {[]string{"-nodes", "3"}, []string{"not defined: -nodes"}},
	} {
		t.Run(name, func(t *testing.T) {
			var args []string
			for pair := range slices.Chunk(good, 2) {
				if !slices.Contains(tt.args, pair[0]) {
					args = append(args, pair...)
				}
			}
			status, stdout, stderr := gateway(t, append(args, tt.args...)...)
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

// presetLines is what the complaint about a preset says of each.
func presetLines() (lines []string) {
	for _, p := range preset.All() {
		lines = append(lines, p.Summary)
	}
	return lines
}

// Every preset makes a gateway, for hosts and frontends of both families.
func TestEveryPresetMakesAGateway(t *testing.T) {
	for _, p := range preset.All() {
		o, err := parseOptions(append([]string{"-preset", p.Name}, good...), nil)
		require.NoError(t, err, p.Name)
		c, err := o.config()
		require.NoError(t, err, p.Name)
		nat, err := snat.New(c)
		require.NoError(t, err, p.Name)
		nat.Close()
	}
}

// Forwards take blocks of eight ports out of those of the inside, each once.
func TestForwards(t *testing.T) {
	o, err := parseOptions(append([]string{
		"-forward", "198.51.100.1:8080=10.0.0.1:80,10.0.0.2:81", "-forward", "198.51.100.1:8087=10.0.0.1:81", "-forward", "198.51.100.1:1024=10.0.0.1:82",
		"-forward", "198.51.100.1:443=10.0.0.1:83", "-forward", "[2001:db8::2]:9000=[fd00::1]:80",
	}, good...), nil)
	require.NoError(t, err)
	assert.Equal(t, "198.51.100.1:8080=10.0.0.1:80,10.0.0.2:81", o.forwards[0].String())
	c, err := o.config()
	require.NoError(t, err)
	v4, v6 := o.frontends[0], o.frontends[1]
	assert.Equal(t, []snat.PortRange{
		{Frontend: v4, First: 1032, Count: 8080 - 1032}, {Frontend: v4, First: 8088, Count: 65024 - 8088}, {Frontend: v6, First: 1024, Count: 64000},
	}, c.Instances[0].Ports)
	require.Len(t, c.Forwards, 5)
	assert.Equal(t, snat.Forward{Frontend: v4, FirstPort: 8080, Targets: []snat.Target{
		{Instance: "inside", Addr: netip.MustParseAddr("10.0.0.1"), Port: 80}, {Instance: "inside", Addr: netip.MustParseAddr("10.0.0.2"), Port: 81},
	}}, c.Forwards[0])
	assert.Equal(t, netip.MustParseAddr("2001:db8::2"), c.Forwards[4].Frontend, "a frontend without SNAT ports")
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
		"the first is full": {64_000, addrs("192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"), []int{64000, 64000}},
		"the first will do": {1024, addrs("192.0.2.1", "192.0.2.2", "2001:db8::1"), []int{1024, 1024}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, preset := range []string{"azure-lb", "azure-lb-2019"} {
				o := options{preset: preset, ports: tt.ports, frontends: tt.frontends, inside: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, idle: time.Hour, extras: command.Extras{Reset: true}}
				c, err := o.config()
				require.NoError(t, err, preset)
				var got []int
				for _, r := range c.Instances[0].Ports {
					assert.Equal(t, snat.All, r.Protocol)
					got = append(got, r.Count)
				}
				assert.Equal(t, tt.want, got)
				assert.Equal(t, time.Hour, c.IdleTimeout)
				assert.True(t, c.EnableTCPReset)
			}
		})
	}
}
