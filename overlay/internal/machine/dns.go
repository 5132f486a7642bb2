// Queries of Azure DNS: how many a second, and how many wait for their answers.

package machine

import (
	"slices"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/overlay/ceilings"
)

// azureDNS is the address of Azure DNS, and dnsPort its port.
var azureDNS = [4]byte{168, 63, 129, 16}

const (
	dnsPort     = 53
	longestWait = 5 * time.Second // for an answer; our choice
)

// question is a query that may wait, of a port of the node.
type question struct {
	port, id uint16
	until    flow.Time
}

// questions are those of a node.
type questions struct {
	second flow.Time // which asked is about
	asked  int
	wait   []question
}

// ask notes a query at now, or returns why it is dropped. Cost: O(queries that wait).
func (q *questions) ask(now flow.Time, l *ceilings.Limits, is question) flow.Reason {
	if second := now / flow.At(time.Second); second != q.second {
		q.second, q.asked = second, 0
	}
	if l.DNSQueries > 0 && q.asked >= l.DNSQueries {
		return flow.ReasonDNSQueries
	}
	if l.DNSPending > 0 {
		q.wait = slices.DeleteFunc(q.wait, func(w question) bool { return w.until <= now || w.same(is) })
		if len(q.wait) >= l.DNSPending {
			return flow.ReasonDNSPending
		}
		is.until = now + flow.At(longestWait)
		q.wait = append(q.wait, is)
	}
	q.asked++
	return flow.ReasonNone
}

// answer notes an answer.
func (q *questions) answer(is question) {
	q.wait = slices.DeleteFunc(q.wait, is.same)
}

// same reports whether an answer to one query is that to the other.
func (w question) same(is question) bool { return w.port == is.port && w.id == is.id }
