package annotations_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/overlay/internal/annotations"
)

// parse reads "name=value" lines, with the prefix put before each.
func parse(text string) (annotations.Settings, error) {
	all := make(map[string]string)
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			all[annotations.Prefix+key] = value
		}
	}
	return annotations.Parse(all, 30)
}

func TestEveryAnnotationOfTheListIsModelledOrRefused(t *testing.T) {
	for line, want := range map[string]error{
		"azure-load-balancer-internal=true":                       nil,
		"azure-load-balancer-internal=false":                      nil,
		"azure-load-balancer-internal-subnet=apps":                problems.ErrConflict,
		"azure-load-balancer-ipv4=20.50.1.7":                      nil,
		"azure-load-balancer-ipv6=2001:db8::7":                    nil,
		"azure-pip-name=ip":                                       nil,
		"azure-pip-name=":                                         problems.ErrMissing,
		"azure-pip-name-ipv6=ip":                                  nil,
		"azure-pip-prefix-id=id":                                  nil,
		"azure-pip-prefix-id-ipv6=id":                             nil,
		"azure-pip-tags=team=shop":                                nil,
		"azure-pls-create=true":                                   annotations.ErrNotModelled,
		"azure-load-balancer-configurations=lb1,lb2":              annotations.ErrNotModelled,
		"azure-pip-ip-tags=RoutingPreference=Internet":            nil,
		"azure-dns-label-name=shop":                               nil,
		"azure-load-balancer-resource-group=rg":                   nil,
		"azure-shared-securityrule=true":                          nil,
		"azure-shared-securityrule=1":                             problems.ErrSyntax,
		"azure-allowed-service-tags=AzureFrontDoor, Sql.West":     nil,
		"azure-allowed-service-tags=AzureFrontDoor,,":             problems.ErrSyntax,
		"azure-allowed-ip-ranges=10.0.0.0/8, 2001:db8::/32":       nil,
		"azure-allowed-ip-ranges=10.0.0.1/8":                      problems.ErrSyntax,
		"azure-allowed-ip-ranges=10.0.0.1":                        problems.ErrSyntax,
		"azure-deny-all-except-load-balancer-source-ranges=true":  nil,
		"azure-deny-all-except-load-balancer-source-ranges=no":    problems.ErrSyntax,
		"azure-load-balancer-tcp-idle-timeout=4":                  nil,
		"azure-load-balancer-tcp-idle-timeout=31":                 problems.ErrOutOfRange,
		"azure-load-balancer-tcp-idle-timeout=3":                  problems.ErrOutOfRange,
		"azure-load-balancer-tcp-idle-timeout=4m":                 problems.ErrSyntax,
		"azure-load-balancer-disable-tcp-reset=true":              nil,
		"azure-load-balancer-disable-tcp-reset=yes":               problems.ErrSyntax,
		"azure-load-balancer-enable-high-availability-ports=true": problems.ErrConflict,
		"azure-disable-load-balancer-floating-ip=true":            nil,
		"azure-additional-public-ips=20.1.1.1, 20.1.1.2":          nil,
		"azure-additional-public-ips=20.1.1.1,x":                  problems.ErrAddress,
		"azure-load-balancer-mode=default":                        nil,
		"azure-load-balancer-mode=__auto__":                       nil,
		"azure-load-balancer-mode=":                               problems.ErrMissing,
		"azure-load-balancer-health-probe-protocol=HTTP":          nil,
		"azure-load-balancer-health-probe-protocol=udp":           problems.ErrOutOfRange,
		"azure-load-balancer-health-probe-interval=5":             nil,
		"azure-load-balancer-health-probe-interval=4":             problems.ErrOutOfRange,
		"azure-load-balancer-health-probe-num-of-probe=2":         nil,
		"azure-load-balancer-health-probe-request-path=/ok":       nil,
		"azure-load-balancer-health-probe-request-path=ok":        problems.ErrSyntax,
		"azure-load-balancer-health-probe-port=80":                problems.ErrUnknownName,
		"port_80_no_lb_rule=true":                                 nil,
		"port_80_no_probe_rule=true":                              nil,
		"port_80_health-probe_protocol=tcp":                       nil,
		"port_80_health-probe_port=8080":                          nil,
		"port_80_health-probe_interval=10":                        nil,
		"port_80_health-probe_num-of-probe=3":                     nil,
		"port_80_health-probe_request-path=/":                     nil,
		"port_0_no_lb_rule=true":                                  problems.ErrSyntax,
		"port_80_no_rule=true":                                    problems.ErrUnknownName,
		"azure-load-balancer-colour=blue":                         problems.ErrUnknownName,
	} {
		_, err := parse(line)
		if want == nil {
			assert.NoError(t, err, line)
			continue
		}
		key, value, _ := strings.Cut(line, "=")
		assert.ErrorIs(t, err, want, line)
		assert.ErrorContains(t, err, annotations.Prefix+key)
		assert.ErrorContains(t, err, value)
	}
}

func TestAnnotationsOfAPortWin(t *testing.T) {
	s, err := parse(`azure-load-balancer-health-probe-interval=7
		azure-load-balancer-health-probe-protocol=http
		port_443_health-probe_protocol=tcp
		port_443_health-probe_port=8443
		port_80_no_lb_rule=true
		azure-load-balancer-ipv6=2001:db8::7
		azure-load-balancer-tcp-idle-timeout=30
		azure-dns-label-name=shop`)
	require.NoError(t, err)
	p, noRule, noProbe := s.Of(443)
	assert.Equal(t, annotations.Probe{Protocol: "tcp", Port: 8443, Interval: 7 * time.Second}, p)
	assert.False(t, noRule || noProbe)
	_, noRule, noProbe = s.Of(80)
	assert.True(t, noRule && noProbe, "no rule has no probe")
	assert.Equal(t, [2]netip.Addr{1: netip.MustParseAddr("2001:db8::7")}, s.Addrs)
	assert.Equal(t, 30*time.Minute, s.IdleTimeout)
	assert.Equal(t, map[string]string{annotations.Prefix + "azure-dns-label-name": "shop"}, s.Labels)
}

func TestAnnotationsTogether(t *testing.T) {
	s, err := parse("azure-load-balancer-internal=true\nazure-load-balancer-enable-high-availability-ports=true")
	require.NoError(t, err)
	assert.True(t, s.HAPorts)
	s, err = parse("azure-pip-name=a\nazure-pip-prefix-id-ipv6=/subscriptions/s/p\nazure-load-balancer-mode=default")
	require.NoError(t, err)
	assert.Equal(t, annotations.Settings{PublicIPNames: [2]string{"a"}, PublicIPPrefixIDs: [2]string{1: "/subscriptions/s/p"}}, s)
	for _, tt := range []struct{ lines, want string }{
		{"azure-pip-name=a\nazure-pip-prefix-id=b", "azure-pip-prefix-id] \"b\": conflict: not with azure-pip-name"},
		{"azure-pip-name-ipv6=a\nazure-load-balancer-internal=true", "azure-pip-name-ipv6] \"a\": conflict: is public"},
		{"azure-load-balancer-internal=true\nazure-disable-load-balancer-floating-ip=true\nazure-load-balancer-enable-high-availability-ports=true", "with floating IP"},
	} {
		_, err := parse(tt.lines)
		assert.ErrorIs(t, err, problems.ErrConflict, tt.lines)
		assert.ErrorContains(t, err, tt.want)
	}
}

func TestOtherPrefixesAreNotItsBusiness(t *testing.T) {
	_, err := annotations.Parse(map[string]string{"kubectl.kubernetes.io/last-applied-configuration": "{}"}, 30)
	assert.NoError(t, err)
}

func FuzzParse(f *testing.F) {
	f.Add("port_80_health-probe_interval", "7")
	f.Add("azure-additional-public-ips", "1.2.3.4,::1")
	f.Add("port_99999_no_lb_rule", "")
	f.Fuzz(func(t *testing.T, key, value string) {
		s, err := annotations.Parse(map[string]string{annotations.Prefix + key: value}, 100)
		if err != nil {
			return
		}
		for port := range s.Ports {
			if p, _, _ := s.Of(port); port == 0 || p.Interval < 0 || p.NumberOfProbes < 0 {
				t.Errorf("%s=%s: port %d %+v", key, value, port, p)
			}
		}
		if s.IdleTimeout != 0 && (s.IdleTimeout < 4*time.Minute || s.IdleTimeout > 100*time.Minute) {
			t.Errorf("%s=%s: %v", key, value, s.IdleTimeout)
		}
	})
}
