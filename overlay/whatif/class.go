// How hosts talk: classes of conversations.

package whatif

import (
	"time"

	"github.com/seed-a61be3fe/natplane/internal/enum"
)

// Kind is what an arrival does.
type Kind uint8

// The kinds of traffic.
const (
	// PerRequest opens a TCP connection for each arrival. The default.
	PerRequest Kind = iota

	// Pool sends a request on a TCP connection that is kept open: each host has a pool of them
	// for each destination, and uses the one that was used last.
	Pool

	// Lookup asks a name server over UDP, from a socket of its own, unless the host's cache has
	// the name.
	Lookup

	// Media sends and receives datagrams on one UDP socket for a while.
	Media

	numKinds
)

var kindNames = [...]string{PerRequest: "PerRequest", Pool: "Pool", Lookup: "Lookup", Media: "Media"}

var _ = [1]struct{}{}[len(kindNames)-int(numKinds)]

// String returns the name of k.
func (k Kind) String() string { return enum.Name(k, kindNames[:]) }

// End is how a TCP connection ends.
type End uint8

// The ends of connections.
const (
	ClientCloses End = iota // the client sends the first FIN. The default.
	ServerCloses            // the answer of the server to the last request has the first FIN
	ClientResets            // the client sends a RST
	Abandoned               // neither end sends anything more, nor will it answer

	numEnds
)

var endNames = [...]string{ClientCloses: "ClientCloses", ServerCloses: "ServerCloses", ClientResets: "ClientResets", Abandoned: "Abandoned"}

var _ = [1]struct{}{}[len(endNames)-int(numEnds)]

// String returns the name of e.
func (e End) String() string { return enum.Name(e, endNames[:]) }

// Defaults of a Class. Sizes and the round trip are our choice.
const (
	DefaultRTT            = 20 * time.Millisecond
	DefaultRequestBytes   = 200
	DefaultAnswerBytes    = 1000
	DefaultConnectTimeout = 30 * time.Second // of Go's http.DefaultTransport
	DefaultPoolSize       = 8                // our choice
	DefaultPoolIdle       = 90 * time.Second // of Go's http.DefaultTransport
	DefaultNames          = 20               // our choice
	DefaultMediaInterval  = 20 * time.Millisecond
	DefaultMediaDuration  = time.Minute
	DefaultBackoff        = time.Second
)

// Class is how the conversations of a Traffic go. The zero value is one request on a connection
// that the client closes. The cases that matter to ports:
//
//	request and answer per connection    the zero value; Requests and Pause for several
//	pool with keep-alive                 Kind Pool
//	long idle                            Requests 2 and a long Pause, with or without KeepAlive
//	abandoned without FIN                End Abandoned
//	DNS per lookup, with a cache         Kind Lookup, CacheTTL
//	UDP media                            Kind Media
//	retry storm                          Retry, with Unanswered or where ports run out
//
// A field that means nothing with the Kind must be zero.
type Class struct {
	Kind Kind // what an arrival does

	// RTT is the time from the world to the destination and back; 0 means DefaultRTT. Think is how
	// long the destination takes to answer a request. All durations of a workload are from 0 to
	// 31 days, and go by whole steps.
	RTT, Think time.Duration

	// RequestBytes and AnswerBytes are the sizes of messages without headers, at most 1,440; 0 means
	// DefaultRequestBytes and DefaultAnswerBytes. A message is one packet.
	RequestBytes, AnswerBytes int

	// Requests is how many requests a connection of PerRequest carries, at most 1,000,000; 0
	// means 1.
	Requests int
	Pause    time.Duration // from an answer to the next request

	// KeepAlive is how long a connection is without packets before the client sends a keep-alive
	// probe, and then between two (RFC 1122 section 4.2.3.6); 0 means that it sends none.
	KeepAlive time.Duration

	End End // of connections; those of a Pool end so when they have been idle for PoolIdle

	// ConnectTimeout is how long a client tries to connect: it sends its SYN at 0, 1, 3, 7 .. s
	// (RFC 6298 section 2.1 and 5.5), as long as that is less. 0 means DefaultConnectTimeout.
	ConnectTimeout time.Duration

	// Unanswered is the share of conversations that the destination does not answer at
	// all, as a server does that is down; 0..1. Media are always answered.
	Unanswered float64

	// Retry is what a client does after a connection has failed, been cut or broken, or a lookup has
	// failed: another one, with another port.
	Retry Retry

	// PoolSize is how many connections a host has to one destination at most, 1..10,000; 0 means
	// DefaultPoolSize. Requests wait while all are in use. PoolIdle is how long one is kept unused; 0
	// means DefaultPoolIdle.
	PoolSize int
	PoolIdle time.Duration // see PoolSize

	// CacheTTL is how long a host remembers an answer to a Lookup; 0 means that it has no cache.
	// Names is how many names it asks for, each as often as the others, at most 10,000; 0
	// means DefaultNames. A lookup without answer is sent again after 5 s, and fails 5 s
	// later (resolv.conf(5): timeout and attempts).
	CacheTTL time.Duration
	Names    int // see CacheTTL

	// Interval is the time between two datagrams of Media, each way, and Duration how long
	// they go on; 0 means DefaultMediaInterval and DefaultMediaDuration.
	Interval, Duration time.Duration
}

// Retry says how often and how fast a client tries again.
type Retry struct {
	Attempts int           // after the first one, at most 1,000; 0 means none
	Backoff  time.Duration // before the first of them; 0 means DefaultBackoff
	Factor   float64       // by which that grows with each, 1..100; 0 means 1, so not at all
}

// withDefaults returns c with defaults in place of zeros.
func (c Class) withDefaults() Class {
	def(&c.RTT, DefaultRTT)
	def(&c.RequestBytes, DefaultRequestBytes)
	def(&c.AnswerBytes, DefaultAnswerBytes)
	def(&c.Requests, 1)
	def(&c.ConnectTimeout, DefaultConnectTimeout)
	def(&c.Retry.Backoff, DefaultBackoff)
	def(&c.Retry.Factor, 1)
	def(&c.PoolSize, DefaultPoolSize)
	def(&c.PoolIdle, DefaultPoolIdle)
	def(&c.Names, DefaultNames)
	def(&c.Interval, DefaultMediaInterval)
	def(&c.Duration, DefaultMediaDuration)
	return c
}

// def puts a default in place of zero.
func def[T comparable](v *T, to T) {
	var zero T
	if *v == zero {
		*v = to
	}
}
