package command

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/snat"
	"github.com/seed-a61be3fe/natplane/snat/preset"
)

func TestRunPrintsALinePerComplaint(t *testing.T) {
	fine := func() error { return nil }
	fail := func() error { return errors.Join(errors.New("-a: wrong"), errors.New("-b: too")) }
	for _, c := range []struct {
		parse, work func() error
		status      int
		complaints  string
	}{
		{fine, fine, Success, ""},
		{fail, fine, Misuse, "x: -a: wrong\nx: -b: too\n"},
		{fine, fail, Failure, "x: -a: wrong\nx: -b: too\n"},
		{fine, func() error { return fmt.Errorf("%w after a while", ErrInterrupted) }, Interrupted, "x: interrupted after a while\n"},
		{fine, func() error { return fmt.Errorf("%w: 7", ErrRefused) }, Refused, "x: refused connections: 7\n"},
		{func() error { return flag.ErrHelp }, fail, Success, ""},
	} {
		var stderr bytes.Buffer
		assert.Equal(t, c.status, Run("x", &stderr, c.parse, c.work))
		assert.Equal(t, c.complaints, stderr.String())
	}
}

func TestParse(t *testing.T) {
	flags := func() *flag.FlagSet {
		fs := flag.NewFlagSet("x", flag.ContinueOnError)
		fs.Bool("y", false, "what y does")
		return fs
	}
	var help bytes.Buffer
	require.NoError(t, Parse(flags(), []string{"-y"}, "Usage: x\n", &help))
	assert.EqualError(t, Parse(flags(), []string{"-y", "z"}, "", &help), `unexpected argument "z": all is said by flags, see -h`)
	assert.ErrorContains(t, Parse(flags(), []string{"-q"}, "", &help), "not defined: -q")
	assert.Empty(t, help.String())
	assert.Equal(t, flag.ErrHelp, Parse(flags(), []string{"-h"}, "Usage: x\n", &help))
	assert.Equal(t, "Usage: x\n  -y\twhat y does\n", help.String())
}

// A flag that is given twice is refused, but for lists, and help is as without it.
func TestFlagsGivenTwice(t *testing.T) {
	var names []string
	parse := func(args ...string) (help string, err error) {
		names = nil
		fs := flag.NewFlagSet("x", flag.ContinueOnError)
		fs.Bool("y", false, "what y does")
		fs.Int("n", 7, "a `number`")
		fs.Func("file", "one `file`", func(string) error { return nil })
		fs.Func("names", "several `names`", func(text string) error {
			names = append(names, text)
			return nil
		})
		var b strings.Builder
		err = Parse(fs, args, "", &b, "names")
		return b.String(), err
	}
	_, err := parse("-names", "a", "-y", "-names", "b", "-n", "3", "-file", "c")
	require.NoError(t, err)
	assert.Equal(t, []string{"a", "b"}, names)
	_, err = parse("-file", "a", "-y", "--file=b", "-n=1", "-y=false", "-n", "1", "-file", "c")
	assert.EqualError(t, err, "-file: is given twice, as \"a\" and as \"b\"\n-y: is given twice, as \"true\" and as \"false\"\n-n: is given twice, as \"1\" and as \"1\"")
	_, err = parse("-n", "1", "-n", "2", "-zone")
	assert.EqualError(t, err, "flag provided but not defined: -zone\n-n: is given twice, as \"1\" and as \"2\"")
	help, err := parse("-h")
	require.ErrorIs(t, err, flag.ErrHelp)
	assert.Contains(t, help, "  -n number\n    \ta number (default 7)\n")
}

func TestUnknownFlagsAreCompared(t *testing.T) {
	fs := flag.NewFlagSet("x", flag.ContinueOnError)
	for _, name := range []string{"ports", "pods-per-node", "in", "inside", "fail-on-refusal"} {
		fs.Bool(name, false, "")
	}
	for name, want := range map[string]string{
		"prots": "ports", "port": "ports", "pods": "pods-per-node", "pods-per-nod": "pods-per-node",
		"fail-on-refusals": "fail-on-refusal", "insid": "inside", "im": "in", "speed": "", "q": "",
	} {
		err := Parse(fs, []string{"-" + name}, "", io.Discard)
		complaint := "flag provided but not defined: -" + name
		if want != "" {
			complaint += "; did you mean -" + want + "?"
		}
		assert.EqualError(t, err, complaint)
	}
}

func TestPreset(t *testing.T) {
	p, err := Preset("gcp-cloudnat")
	require.NoError(t, err)
	assert.Equal(t, "gcp-cloudnat", p.Name)
	_, err = Preset("cisco")
	require.ErrorContains(t, err, `-preset "cisco": must be one of`)
	for _, p := range preset.All() {
		assert.ErrorContains(t, err, p.Name)
		assert.ErrorContains(t, err, p.Summary)
	}
}

func TestPreallocated(t *testing.T) {
	frontend := []netip.Addr{netip.MustParseAddr("198.51.100.7")}
	for _, c := range []struct {
		preset       string
		ports, wants int
	}{
		{"azure-lb", 0, 1024}, {"azure-lb", 64000, 64000}, {"azure-lb", 64008, 0}, {"gcp-cloudnat", 0, 64},
		{"gcp-cloudnat", 100, 128}, {"azure-natgw", 0, 0}, {"linux-masquerade", 0, 0},
	} {
		p, err := Preset(c.preset)
		require.NoError(t, err)
		assert.Equal(t, c.wants, Preallocated(p, preset.Site{Frontends: frontend, PortsPerInstance: c.ports}), "%s %d", c.preset, c.ports)
	}
	divided := preset.Preset{Configure: func(s preset.Site) (c snat.Config, err error) { // as pools of subscribers may be
		for _, i := range s.Instances {
			i.Ports = []snat.PortRange{{Frontend: frontend[0], First: 1024, Count: 64000 / len(s.Instances)}}
			c.Instances = append(c.Instances, i)
		}
		return c, nil
	}}
	assert.Zero(t, Preallocated(divided, preset.Site{Frontends: frontend}))
}

func TestMerge(t *testing.T) {
	var all []netip.Prefix
	for _, p := range []string{"10.1.0.0/16", "10.0.0.0/8", "fd00::/8", "10.0.0.0/8", "11.0.0.0/8", "fd00:1::/32"} {
		all = append(all, netip.MustParsePrefix(p))
	}
	assert.Equal(t, []netip.Prefix{all[1], all[2], all[4]}, Merge(all))
}

func TestExtras(t *testing.T) {
	var x Extras
	fs := flag.NewFlagSet("x", flag.ContinueOnError)
	x.Flags(fs, "rst")
	require.NoError(t, fs.Parse([]string{"-rst", "-fragments", "-icmp"}))
	var c snat.Config
	x.Apply(&c)
	assert.True(t, c.EnableTCPReset && c.ICMP.Queries && c.ICMP.Errors)
	assert.Equal(t, snat.FragmentsVirtual, c.Fragments.Mode)
}

// Help has lines of 80 columns.
func TestHelpIsWrapped(t *testing.T) {
	fs := flag.NewFlagSet("x", flag.ContinueOnError)
	fs.Bool("long", false, strings.Repeat("words of many letters ", 10))
	var help strings.Builder
	require.ErrorIs(t, Parse(fs, []string{"-h"}, "", &help), flag.ErrHelp)
	assert.Equal(t, 10, strings.Count(help.String(), "letters"))
	for line := range strings.Lines(help.String()) {
		assert.LessOrEqual(t, len(line), 81, line)
	}
}
