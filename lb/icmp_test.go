package lb

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
)

// ICMP errors about a rule's flows find the backend and the client, if they are carried.
func TestInboundICMPErrors(t *testing.T) {
	c := web(Standard, 2, nil)
	c.ICMP.Errors = true
	s := newSite(t, c)
	sent := dgram(client(1), "20.50.1.1:53")
	to := s.in(sent) // what the backend got
	answer := dgram(node(to)+":5353", client(1))
	require.Equal(t, "20.50.1.1:53", s.out(answer))

	about := pkttest.ICMP("198.51.100.1", "20.50.1.1", 3, 1, 0, answer[:28]) // a router of the client's about the answer
	require.Equal(t, to, s.in(about))
	pkttest.Check(t, about, pkttest.Dst(node(to)), pkttest.ChecksumsOK())
	about = pkttest.ICMP(node(to), strings.Split(client(1), ":")[0], 3, 3, 0, sent[:28]) // the backend about the query
	v := s.Outbound(s.now, about)
	require.Equal(t, flow.Forward, v.Action, "%v", v.Reason)
	pkttest.Check(t, about, pkttest.Src("20.50.1.1"), pkttest.ChecksumsOK())
}
