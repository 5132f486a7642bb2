// What of a recommendation is needed, and what is free to take.

package answer

import (
	"fmt"

	"github.com/seed-a61be3fe/natplane/examples/internal/page"
)

// judge says of what a recommendation changes what is needed for what it promises, and what is not: an idle timeout
// between two that do, and more ports or IPs, which refuse no more than fewer do.
func (a *Answer) judge() {
	r, c := a.Recommendation, &a.Cluster
	r.Needed, r.Free = []string{}, []string{}
	need := func(format string, args ...any) { r.Needed = append(r.Needed, fmt.Sprintf(format, args...)) }
	free := func(format string, args ...any) { r.Free = append(r.Free, fmt.Sprintf(format, args...)) }
	if a.fault(&a.AsItIs) == "" {
		if r.PortsPerNode != c.PortsPerNode || r.IPs != c.IPs || r.IdleSeconds != c.IdleSeconds {
			free("nothing of it has to be: what is set does, too")
		}
		return
	}
	ports, has := page.Count(r.PortsPerNode), page.Count(c.PortsPerNode)
	switch {
	case c.PortsPerNode < r.LeastPorts:
		need("%s SNAT ports per node instead of %s: fewer than %s refuse conversations", ports, has, page.Count(r.LeastPorts))
	case c.PortsPerNode < r.PortsPerNode:
		need("%s SNAT ports per node instead of %s: for the %d %% that are kept free", ports, has, a.Settings.HeadroomPercent)
	case c.PortsPerNode > r.PortsPerNode:
		free("each node may have as few as %s SNAT ports; your %s work, too", ports, has)
	}
	switch {
	case r.IPs > c.IPs:
		need("%s instead of %s: for so many ports", page.Plural(r.IPs, "outbound IP"), page.Count(c.IPs))
	case r.IPs < c.IPs:
		free("%s enough; your %s work, too", page.Plural(r.IPs, "outbound IP")+map[bool]string{true: " is", false: " are"}[r.IPs == 1], page.Count(c.IPs))
	}
	idle, is := Duration(r.IdleSeconds), Duration(c.IdleSeconds)
	switch {
	case r.IdleSeconds == c.IdleSeconds:
	case c.IdleSeconds < r.ShortestIdleSeconds:
		cut := "cut conversations or "
		if a.Settings.AcceptCuts {
			cut = ""
		}
		need("an idle timeout of %s instead of %s: of those tried, shorter ones than %s %sneed more ports", idle, is, Duration(r.ShortestIdleSeconds), cut)
	case c.IdleSeconds < r.IdleSeconds:
		free("the idle timeout may be as long as %s; your %s works, too", idle, is)
	case a.idleIsFree():
		free("the idle timeout may be %s; what your %s holds longer does not show in so short a time", idle, is)
	default:
		need("an idle timeout of %s instead of %s: one of %s needs more ports", idle, is, Duration(r.TooLongIdleSeconds))
	}
}

// idleIsFree reports whether the idle timeout as it is does with the recommended IPs and ports.
func (a *Answer) idleIsFree() bool {
	r, is := a.Recommendation, a.Cluster.IdleSeconds
	return is >= r.ShortestIdleSeconds && (is <= r.IdleSeconds || r.TooLongIdleSeconds == 0)
}

// fault says what a setting does that a recommended one must not do; "" if there is nothing.
func (a *Answer) fault(r *Result) string {
	switch t := &r.Total; {
	case t.Refused > 0:
		return "refuses " + page.Plural(t.Refused, "conversation")
	case t.Ended() > 0 && !a.Settings.AcceptCuts:
		return "cuts or breaks " + page.Plural(t.Ended(), "conversation")
	case r.PeakShare*100 > float64(100-a.Settings.HeadroomPercent)+1e-9:
		return "fills " + page.Percent(r.PeakShare) + " of the ports of the fullest node"
	}
	return ""
}
