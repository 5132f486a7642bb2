// Arrivals: when which host wants something of whom.

package whatif

import (
	"math"
	"sort"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/internal/splitmix"
)

// never is the time of what does not come.
const never = flow.Time(math.MaxInt64)

// arrival is the next one of a stream.
type arrival struct {
	at     flow.Time
	stream uint32
}

// Before orders arrivals by time, then by stream.
func (a arrival) Before(b arrival) bool {
	return a.at < b.at || a.at == b.at && a.stream < b.stream
}

// stream is a Traffic on its way.
type stream struct {
	Class
	index   uint32 // among streams
	rate    Rate
	total   float64 // arrivals per second of all hosts, before factors
	hosts   []uint32
	to      []Destination
	up      []int // weights of destinations, added up
	peers   []peer
	first   []int // peers of destinations
	chance  splitmix.Source
	turn    int           // of the next host, where they take turns
	bursts  float64       // the product of their factors
	edge    time.Duration // until when that stays as it is
	counts  Counts
	pools   []pool      // of host i and peer j at i * len(peers) + j
	answers []flow.Time // until when host i knows name j, at i * Names + j

	recorded []recorded // of the trace; turn is the next one then

	rtt, think, pause, keepAlive, timeout, idle, interval int64 // in steps
}

// chance returns the source of a stream.
func chance(seed uint64, stream int) splitmix.Source {
	all := splitmix.Source(seed)
	own := splitmix.Source(all.Uint64() + uint64(stream))
	return splitmix.Source(own.Uint64())
}

// addStream compiles a Traffic.
func (s *Simulation) addStream(l *problems.List, c Config, i int) {
	t, at := &c.Workload.Traffic[i], problems.Index("Workload.Traffic", i)
	st := stream{Class: t.Class.withDefaults(), index: uint32(i), rate: t.Rate, to: append([]Destination(nil), t.To...)}
	st.counts.Name = t.Name
	st.chance = chance(c.Workload.Seed, i)
	sum := 0
	for j := range st.to {
		d := &st.to[j]
		def(&d.Addresses, 1)
		def(&d.Weight, 1)
		sum += d.Weight
		st.up = append(st.up, sum)
	}
	for j, h := range c.Hosts {
		if (t.From.Pods == "" || t.From.Pods == h.Name || t.From.Pods == h.Group) && (t.From.Count == 0 || len(st.hosts) < t.From.Count) {
			st.hosts = append(st.hosts, uint32(j))
		}
	}
	if len(st.hosts) == 0 {
		l.Add(at+".From.Pods", t.From.Pods, flow.ErrUnknownName, "no host and no group of hosts is named so")
		return
	}
	if len(st.hosts) < t.From.Count {
		l.Add(at+".From.Count", t.From.Count, flow.ErrOutOfRange, "there are %d of them", len(st.hosts))
	}
	for j, d := range st.to {
		for _, h := range st.hosts {
			if !s.hosts[h].has[flow.Family(d.Addr.Addr())] {
				l.Add(problems.Index(at+".To", j)+".Addr", d.Addr, flow.ErrAddress, "%q has no address of that family", c.Hosts[h].Name)
				break
			}
		}
	}
	if st.total = t.Rate.Total + t.Rate.PerHost*float64(len(st.hosts)); st.total > maxRate {
		l.Add(at+".Rate.PerHost", t.Rate.PerHost, flow.ErrOutOfRange, "%d hosts make more than %d arrivals a second", len(st.hosts), maxRate)
	}
	if !st.tables(l, at) {
		return
	}
	st.rtt, st.think, st.pause = s.steps(st.RTT), 0, s.steps(st.Pause)
	if st.Think > 0 {
		st.think = s.steps(st.Think)
	}
	if st.KeepAlive > 0 {
		st.keepAlive = s.steps(st.KeepAlive)
	}
	st.timeout, st.idle, st.interval = s.steps(st.ConnectTimeout), s.steps(st.PoolIdle), s.steps(st.Interval)
	if first := s.following(&st, s.begin); first != never {
		s.arrivals.Push(arrival{first, st.index})
	}
	s.streams = append(s.streams, st)
}

// peer is the socket of a destination.
type peer struct {
	addr
	port uint16
}

// tables makes what is kept for each peer, for each host and peer, or for each host and name.
func (st *stream) tables(l *problems.List, at string) bool {
	n := 0
	for i := range st.to {
		n += st.to[i].Addresses
	}
	if !problems.AtMost(l, at+".To", n, "addresses", maxPeers) {
		return false
	}
	for _, d := range st.to {
		st.first = append(st.first, len(st.peers))
		for i := range d.Addresses {
			st.peers = append(st.peers, peer{addrOf(plus(d.Addr.Addr(), i)), d.Addr.Port()})
		}
	}
	switch n *= len(st.hosts); {
	case st.Kind == Pool:
		if !problems.AtMost(l, at+".To", n, "addresses times hosts", maxTables) {
			return false
		}
		st.pools = make([]pool, n)
		for i := range st.pools {
			st.pools[i].first = none
		}
	case st.Kind == Lookup && st.CacheTTL > 0:
		if n = st.Names * len(st.hosts); !problems.AtMost(l, at+".Names", n, "names times hosts", maxTables) {
			return false
		}
		st.answers = make([]flow.Time, n)
	}
	return true
}

// following returns when the next arrival of a stream comes after one at a time.
func (s *Simulation) following(st *stream, from flow.Time) flow.Time {
	if st.recorded != nil {
		if st.turn == len(st.recorded) {
			return never
		}
		return s.begin.Add(st.recorded[st.turn].Start)
	}
	begin, left := s.begin, 1.0
	if !st.rate.Even {
		left = -math.Log((float64(st.chance.Uint64()>>11) + 0.5) / (1 << 53))
	}
	if len(st.rate.Daily) == 0 && len(st.rate.Bursts) == 0 {
		if left /= st.total; left > maxDuration.Seconds() {
			return never
		}
		return from.Add(time.Duration(left * float64(time.Second)))
	}
	for at := from.Sub(begin); at < maxDuration; {
		if at >= st.edge {
			st.bursts, st.edge = st.rate.bursting(at)
		}
		end, scale := st.edge, st.total*st.bursts
		if len(st.rate.Daily) > 0 {
			end = min(end, at-at%time.Hour+time.Hour)
		}
		if some := scale * st.rate.area(at, end); some < left {
			left, at = left-some, end
			continue
		}
		return begin.Add(st.rate.reach(at, end, left/scale))
	}
	return never
}

// bursting returns by what bursts multiply the rate at a time, and until when.
func (r *Rate) bursting(at time.Duration) (factor float64, until time.Duration) {
	factor, until = 1, maxDuration
	for i := range r.Bursts {
		factor *= r.Bursts[i].at(at)
		until = min(until, r.Bursts[i].edge(at))
	}
	return factor, until
}

// daily returns by what the hour of the day multiplies the rate at a time. The rate is taken as that
// until the next whole second.
func (r *Rate) daily(at time.Duration) float64 {
	if len(r.Daily) == 0 {
		return 1
	}
	hour, into := at/time.Hour, (at % time.Hour).Hours()
	return r.Daily[hour%24]*(1-into) + r.Daily[(hour+1)%24]*into
}

// area returns the sum of daily over the seconds of a span, which lies within one hour if Daily is
// set.
func (r *Rate) area(from, to time.Duration) float64 {
	if len(r.Daily) == 0 {
		return (to - from).Seconds()
	}
	first, last := from-from%time.Second+time.Second, to-to%time.Second // whole seconds
	if first > last {
		return r.daily(from) * (to - from).Seconds()
	}
	sum := r.daily(from)*(first-from).Seconds() + r.daily(last)*(to-last).Seconds()
	if first < last { // in even steps
		sum += (last - first).Seconds() * (r.daily(first) + r.daily(last-time.Second)) / 2
	}
	return sum
}

// reach returns when the area of a span from its beginning on is so much, at its end at the latest.
func (r *Rate) reach(from, to time.Duration, area float64) time.Duration {
	at := from
	if len(r.Daily) > 0 {
		// The whole second in which that is.
		begin := from - from%time.Second
		n := sort.Search(int((to-begin+time.Second-1)/time.Second)-1, func(i int) bool {
			return r.area(from, begin+time.Duration(i+1)*time.Second) >= area
		})
		if n > 0 {
			at = begin + time.Duration(n)*time.Second
			area = max(0, area-r.area(from, at))
		}
	}
	daily := r.daily(at)
	if area >= daily*(to-at).Seconds() {
		return to
	}
	return at + time.Duration(area/daily*float64(time.Second))
}

// arrive does what an arrival of a stream asks for.
func (s *Simulation) arrive(st *stream) {
	if st.recorded != nil {
		f := &st.recorded[st.turn]
		st.turn++
		st.counts.Arrivals++
		s.start(s.add(st, int(f.host), int(f.peer), st.turn-1))
		return
	}
	h := st.turn
	if st.rate.Even {
		st.turn = (st.turn + 1) % len(st.hosts)
	} else {
		h = st.chance.Below(len(st.hosts))
	}
	st.counts.Arrivals++
	d := sort.SearchInts(st.up, st.chance.Below(st.up[len(st.up)-1])+1)
	to := st.first[d] + st.chance.Below(st.to[d].Addresses)
	switch st.Kind {
	case Pool:
		s.request(st, h, to)
	case Lookup:
		name := 0 // all the same without a cache
		if st.answers != nil {
			name = st.chance.Below(st.Names)
			if st.answers[h*st.Names+name] > s.now {
				st.counts.Cached++
				return
			}
		}
		s.start(s.add(st, h, to, h*st.Names+name))
	default:
		s.start(s.add(st, h, to, 0))
	}
}
