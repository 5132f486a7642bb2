package nsg

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
)

// FuzzParseHostPorts wants a list either refused as a whole, by entry, or to say the same
// when it is written down again.
func FuzzParseHostPorts(f *testing.F) {
	for _, s := range []string{"80/tcp", "80/tcp,443/tcp,53/udp,40000-60000/tcp,40000-50000/udp", "80", "80/icmp", "443-80/tcp", " 1 - 65535 / UDP ", "", ",", "0/tcp", "65536/udp", "*/tcp", "1-2-3/tcp"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ports, err := ParseHostPorts(text)
		if err != nil {
			require.Nil(t, ports)
			require.ErrorIs(t, err, flow.ErrSyntax)
			require.ErrorContains(t, err, "AllowedHostPorts[")
			return
		}
		require.Len(t, ports, strings.Count(text, ",")+1)
		var entries []string
		for _, p := range ports {
			require.True(t, 1 <= p.First && p.First <= p.Last && (p.Protocol == TCP || p.Protocol == UDP), "%v", p)
			entries = append(entries, fmt.Sprintf("%d-%d/%v", p.First, p.Last, p.Protocol))
		}
		again, err := ParseHostPorts(strings.Join(entries, ","))
		require.NoError(t, err)
		require.Equal(t, ports, again)
	})
}
