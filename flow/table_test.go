package flow

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
)

func TestNewTableValidates(t *testing.T) {
	table, err := NewTable(Config{Shards: 65, Timeouts: Timeouts{UDP: -1, ICMP: MaxTimeout + Tick}})
	assert.Nil(t, table)
	require.ErrorIs(t, err, ErrOutOfRange)
	require.ErrorIs(t, err, ErrTimeout)
	for _, text := range []string{"flow: ", "Shards 65: ", "Timeouts.UDP -1ns: ", "UDP -1ns: ", "ICMP 576h0m0.001s: "} {
		assert.ErrorContains(t, err, text)
	}
	_, err = NewTable(Config{Shards: -1})
	assert.ErrorContains(t, err, "Shards -1: ")
	assert.NotErrorIs(t, err, ErrTimeout)
}

func TestNewTableDefaults(t *testing.T) {
	for _, c := range []struct{ given, want int }{{0, DefaultShards}, {1, 1}, {3, 3}, {MaxShards, MaxShards}} {
		table := newTable(t, Config{Shards: c.given})
		assert.Equal(t, c.want, table.NumShards())
		assert.Zero(t, table.Len())
		_, ok := table.NextDeadline()
		assert.False(t, ok)
		assert.Zero(t, table.Expire(At(MaxTimeout), nil))
		for range table.Sessions() {
			t.Error("an empty table has no sessions")
		}
		assert.Zero(t, table.Bytes(), "a table without sessions")
		for i := range uint32(c.want) {
			table.Observe(0, Key{Src: i, Dst: 7, VNIProto: 17}, nil)
		}
		assert.LessOrEqual(t, table.Bytes(), c.want*16<<10, "what Config promises")
	}
	sh := newTable(t, Config{}).Shard(0)
	for class, want := range RFCTimeouts().ticks() {
		if want == 0 {
			want = never
		}
		assert.Equal(t, want, sh.timeouts[class], "%v", Class(class))
	}
}

func TestClose(t *testing.T) {
	table := newTable(t, Config{Shards: 2})
	k := Key{Src: 1, Dst: 2, VNIProto: 17}
	table.Observe(0, k, nil)
	table.Observe6(0, key6(k), nil)
	require.Positive(t, table.Bytes())
	table.Close()
	assert.Zero(t, table.Bytes())
	for i := range table.NumShards() {
		assert.Zero(t, table.Shard(i).mem.Reserved(), "memory is returned at once")
	}
	assert.NotPanics(t, table.Close, "twice is harmless")
	in, _, created := table.Observe(0, k, nil)
	assert.False(t, created)
	assert.Zero(t, in)
	in, _, created = table.Observe6(0, key6(k), nil)
	assert.False(t, created)
	assert.Zero(t, in)
	_, ok := table.NextDeadline()
	assert.False(t, ok)
	assert.Zero(t, table.Expire(At(MaxTimeout), nil))
	assert.Zero(t, table.Len())
	for range table.Sessions() {
		t.Error("a closed table has no sessions")
	}
}

func TestSetTimeouts(t *testing.T) {
	sh := alone(t)
	id := sh.add(1, ClassTCPTimeWait, 0) // 5 s
	s := sh.At(id)
	sh.SetTimeouts(Timeouts{TCPTimeWait: 8 * time.Second})
	assert.False(t, sh.Expired(s, 5000))
	assert.Equal(t, At(8*time.Second), sh.Deadline(s))
	require.Empty(t, sh.drain(At(6*time.Second)), "the timer fires early and moves on")

	sh.SetTimeouts(Timeouts{TCPTimeWait: 7 * time.Second})
	assert.True(t, sh.Expired(s, 7000))
	sh.Rearm(id, s)
	assert.Equal(t, []Time{At(7 * time.Second)}, sh.drain(At(time.Hour)))

	assert.PanicsWithValue(t, "flow: UDP -1ns: "+ErrTimeout.Error(), func() { sh.SetTimeouts(Timeouts{UDP: -1}) })
}

// TestNoSession holds record 0 to be no session and no match.
func TestNoSession(t *testing.T) {
	sh := alone(t)
	assert.Zero(t, sh.At(0).Proto())
	k := Key{VNIProto: 17}
	assert.False(t, sh.At(0).MatchInside(&k))
	assert.False(t, sh.At(0).MatchOutside(&k))
	assert.Equal(t, ID(1), sh.add(2, ClassUDP, 0))
}

// TestNewAndDiscard returns a record that was never inserted, of each family.
func TestNewAndDiscard(t *testing.T) {
	sh := alone(t)
	for _, is6 := range []bool{false, true} {
		id, s := sh.New(is6)
		assert.Equal(t, is6, id.Is6())
		assert.Same(t, s, sh.At(id))
		s.Key = Key{Src: 1, Dst: 2, SrcPort: 3, DstPort: 4, VNIProto: 17}
		s.Data = [3]uint16{1, 2, 3}
		if is6 {
			*s.Addrs6() = Addrs6{Inside: [2]uint64{1, 2}, Remote: [2]uint64{3, 4}, Outside: [2]uint64{5, 6}}
		}
		sh.Discard(id)
		assert.Empty(t, sh.IDs(make([]ID, 0, 1), 0))
		again, s := sh.New(is6)
		assert.Equal(t, id, again, "recycled")
		assert.Equal(t, Session{}, *s, "and zeroed")
		if is6 {
			assert.Equal(t, Addrs6{}, *s.Addrs6())
		}
	}
	assert.Zero(t, sh.Len())
}

// A session that is inserted by the hashes of its keys is found, and removed, like any other.
func TestInsertHashed(t *testing.T) {
	table := newTable(t, Config{Shards: 1})
	sh, h := table.Shard(0), table.Hasher()
	sh.Lock()
	defer sh.Unlock()
	for i := range uint16(100) {
		id, s := sh.New(false)
		s.Key = Key{Src: 10, Dst: 20, SrcPort: i, DstPort: 443, VNIProto: 3<<8 | protoTCP}
		s.Outside, s.OutsidePort = 30, 1024+i
		inside, outside := s.Key, s.KeyOutside()
		require.True(t, sh.InsertHashed(id, s, h.Hash(&inside), h.Hash(&outside), 0))
		assert.Equal(t, id, sh.LookupInside(&inside, h.Hash(&inside)))
		assert.Equal(t, id, sh.LookupOutside(&outside, h.Hash(&outside)))
		if i%2 == 0 {
			sh.Remove(id, s)
			assert.Zero(t, sh.LookupInside(&inside, h.Hash(&inside)))
			assert.Zero(t, sh.LookupOutside(&outside, h.Hash(&outside)))
		}
	}
	assert.Equal(t, 50, sh.Len())
}

func TestSessionKeys(t *testing.T) {
	s := Session{
		Key:     Key{Src: 0x0a000001, Dst: 0xcb007101, SrcPort: 4000, DstPort: 443, VNIProto: 9<<8 | 6},
		Outside: 0x14320101, OutsidePort: 1024,
	}
	in, out := s.Key, s.KeyOutside()
	assert.Equal(t, Key{Src: 0xcb007101, Dst: 0x14320101, SrcPort: 443, DstPort: 1024, VNIProto: 6}, out)
	assert.True(t, s.MatchInside(&in))
	assert.False(t, s.MatchInside(&out))
	assert.True(t, s.MatchOutside(&out))
	assert.False(t, s.MatchOutside(&in))
	out.VNIProto |= 77 << 8
	assert.True(t, s.MatchOutside(&out), "the outside has no realms")
	for _, change := range []func(k *Key){
		func(k *Key) { k.Src++ }, func(k *Key) { k.Dst++ }, func(k *Key) { k.SrcPort++ },
		func(k *Key) { k.DstPort++ }, func(k *Key) { k.VNIProto ^= 16 },
	} {
		a, b := in, out
		change(&a)
		change(&b)
		assert.False(t, s.MatchInside(&a))
		assert.False(t, s.MatchOutside(&b))
	}
	in.VNIProto += 1 << 8
	assert.False(t, s.MatchInside(&in), "the inside has")

	var s6 session6
	s6.Key = Key{SrcPort: 4000, DstPort: 443, VNIProto: 9<<8 | 6}
	s6.OutsidePort = 1024
	s6.Addrs6 = Addrs6{Inside: [2]uint64{1, 2}, Remote: [2]uint64{3, 4}, Outside: [2]uint64{5, 6}}
	in6, out6 := s6.KeyInside6(), s6.KeyOutside6()
	assert.Equal(t, Key6{Src: [2]uint64{1, 2}, Dst: [2]uint64{3, 4}, SrcPort: 4000, DstPort: 443, VNIProto: 9<<8 | 6}, in6)
	assert.Equal(t, Key6{Src: [2]uint64{3, 4}, Dst: [2]uint64{5, 6}, SrcPort: 443, DstPort: 1024, VNIProto: 6}, out6)
	assert.True(t, s6.MatchInside6(&in6))
	assert.True(t, s6.MatchOutside6(&out6))
	for _, change := range []func(k *Key6){
		func(k *Key6) { k.Src[0]++ }, func(k *Key6) { k.Src[1]++ }, func(k *Key6) { k.Dst[0]++ }, func(k *Key6) { k.Dst[1]++ },
		func(k *Key6) { k.SrcPort++ }, func(k *Key6) { k.DstPort++ }, func(k *Key6) { k.VNIProto ^= 16 },
	} {
		a, b := in6, out6
		change(&a)
		change(&b)
		assert.False(t, s6.MatchInside6(&a))
		assert.False(t, s6.MatchOutside6(&b))
	}
}

// TestInfo reads translated sessions of both families.
func TestInfo(t *testing.T) {
	sh := alone(t)
	id, s := sh.New(false)
	s.Key = MakeKey(netip.MustParseAddrPort("10.0.0.1:4000"), netip.MustParseAddrPort("203.0.113.1:443"), protoTCP, 9)
	s.Outside, s.OutsidePort, s.Data = Addr4(netip.MustParseAddr("20.50.1.1")), 1024, [3]uint16{1, 2, 3}
	s.Track.Open(Inside, &Segment{Flags: SYN, Len: 1, Scale: NoScale})
	sh.Insert(id, s, 0)
	want := Info{
		Proto: 6, VNI: 9, Data: [3]uint16{1, 2, 3}, State: "syn-sent", Class: ClassTCPOpening,
		Inside: netip.MustParseAddrPort("10.0.0.1:4000"), Outside: netip.MustParseAddrPort("20.50.1.1:1024"),
		Remote: netip.MustParseAddrPort("203.0.113.1:443"),
	}
	want.Due = sh.Deadline(s)
	assert.NotZero(t, want.Due)
	assert.Equal(t, want, sh.Info(id))

	id6, s6 := sh.New(true)
	k := MakeKey6(netip.MustParseAddrPort("[fd00::1]:4000"), netip.MustParseAddrPort("[2001:db8::1]:53"), 17, 9)
	s6.Key = Key{SrcPort: k.SrcPort, DstPort: k.DstPort, VNIProto: k.VNIProto}
	*s6.Addrs6() = Addrs6{Inside: k.Src, Remote: k.Dst, Outside: Addr6(netip.MustParseAddr("2001:db8::ff"))}
	s6.OutsidePort, s6.Track.Class = 1032, ClassUDP
	sh.Insert(id6, s6, At(3*time.Second))
	sh.Expire(At(3 * time.Second)) // ends the first one, which is still there
	want6 := Info{
		Proto: 17, VNI: 9, Class: ClassUDP,
		Inside: netip.MustParseAddrPort("[fd00::1]:4000"), Outside: netip.MustParseAddrPort("[2001:db8::ff]:1032"),
		Remote: netip.MustParseAddrPort("[2001:db8::1]:53"),
	}
	want6.Due = sh.Deadline(s6)
	assert.Equal(t, want6, sh.Info(id6))
	sh.Remove(id, s)

	// Idle is as old as the last call of Expire: a later packet makes it zero.
	sh.Expire(At(10 * time.Second))
	assert.Equal(t, 7*time.Second, sh.Info(id6).Idle)
	s6.Touch(At(12 * time.Second))
	assert.Zero(t, sh.Info(id6).Idle)
	sh.Expire(At(12*time.Second + Time(Tick).Duration()))
	assert.Equal(t, Tick, sh.Info(id6).Idle)
}

// TestGuessesAgree compares the batch door of the index with single look-ups, in
// batches of all sizes.
func TestGuessesAgree(t *testing.T) {
	table := newTable(t, Config{Shards: 1})
	sh, g := table.Shard(0), new(Guesses)
	key := func(i int) Key { return Key{Src: uint32(i), Dst: 7, SrcPort: 1, DstPort: 2, VNIProto: 17} }
	const n = MaxGuesses * (MaxGuesses + 1) / 2
	for i := 0; i < n; i += 2 {
		table.Observe(0, key(i), nil)
		table.Observe6(0, key6(key(i)), nil)
	}
	found, i := 0, 0
	for size := range MaxGuesses + 1 {
		g.Reset()
		for at := range size {
			if k := key(i + at); at%3 == 0 {
				k6 := key6(k)
				g.Add(sh, table.Hasher().Hash6(&k6))
			} else {
				g.Add(sh, table.Hasher().Hash(&k))
			}
		}
		g.Look()
		for at := range size {
			k := key(i)
			id, s := g.At(at)
			assert.Same(t, sh.At(id), s)
			if k6 := key6(k); at%3 == 0 && id.Is6() && s.MatchInside6(&k6) {
				assert.Equal(t, sh.LookupInside6(&k6, table.Hasher().Hash6(&k6)), id)
				found++
			} else if at%3 != 0 && !id.Is6() && s.MatchInside(&k) {
				assert.Equal(t, sh.LookupInside(&k, table.Hasher().Hash(&k)), id)
				found++
			}
			i++
		}
	}
	assert.Equal(t, n, i)
	assert.Greater(t, found, n/2-50, "nearly every guess is right")
	assert.LessOrEqual(t, found, n/2)
}

// However full the index is, nearly every guess is right: an entry whose home bucket is full of
// others is most often in the next one.
func TestGuessesLookOn(t *testing.T) {
	table := newTable(t, Config{Shards: 1, HashKey: 1})
	sh, g := table.Shard(0), new(Guesses)
	key := func(i int) Key { return Key{Src: uint32(i), Dst: 7, SrcPort: 1, DstPort: 2, VNIProto: 17} }
	for n := 0; n < 32_768; {
		for end := n + 1024; n < end; n++ {
			table.Observe(0, key(n), nil)
		}
		right := 0
		for i := 0; i < n; i += MaxGuesses {
			g.Reset()
			for at := range MaxGuesses {
				k := key(i + at)
				g.Add(sh, table.Hasher().Hash(&k))
			}
			g.Look()
			for at := range MaxGuesses {
				k := key(i + at)
				if _, s := g.At(at); s.MatchInside(&k) {
					right++
				}
			}
		}
		require.Greater(t, float64(right)/float64(n), 0.94, "%d sessions", n)
	}
}

// TestIDsPages reads a shard in pages of all sizes; the families meet within a page.
func TestIDsPages(t *testing.T) {
	sh := alone(t)
	var want []ID
	for n := range uint32(20) {
		want = append(want, sh.add(n, ClassUDP, 0))
	}
	for _, n := range []int{0, 3, 4, 19} { // holes at both ends and in the middle
		sh.Remove(want[n], sh.At(want[n]))
		want[n] = 0
	}
	alive := map[ID]bool{}
	for _, id := range want {
		if id != 0 {
			alive[id] = true
		}
	}
	for size := 1; size <= 20; size++ {
		seen := map[ID]bool{}
		for after, page := ID(0), make([]ID, 0, size); ; after = page[len(page)-1] {
			if page = sh.IDs(page[:0], after); len(page) == 0 {
				break
			}
			for _, id := range page {
				assert.False(t, seen[id], "%#x twice", id)
				seen[id] = true
			}
		}
		assert.Equal(t, alive, seen, "pages of %d", size)
	}
	assert.Len(t, sh.IDs([]ID{7}, 0), 1, "no room, nothing appended")
}

// TestWalk walks over more sessions than one step shows, also while they go.
func TestWalk(t *testing.T) {
	sh := alone(t)
	alive := map[ID]bool{}
	var ids []ID
	for n := range uint32(2*walkStep + 3) {
		id := sh.add(n, ClassUDP, 0)
		ids, alive[id] = append(ids, id), true
	}
	seen := map[ID]bool{}
	sh.Walk(func(id ID, s *Session) {
		assert.False(t, seen[id], "%#x twice", id)
		assert.Same(t, sh.At(id), s)
		seen[id] = true
	})
	assert.Equal(t, alive, seen)
	shown := 0
	sh.Walk(func(id ID, _ *Session) {
		shown++
		for _, other := range []ID{id, ids[len(ids)-shown]} {
			if sh.Has(other) {
				sh.Remove(other, sh.At(other))
			}
		}
	})
	assert.Zero(t, sh.Len())
	assert.Less(t, shown, len(ids), "what is gone is not shown")
}

// TestSessions iterates over more sessions than one page, in several shards.
func TestSessions(t *testing.T) {
	const n = 3000
	table := newTable(t, Config{Shards: 3})
	want := map[netip.AddrPort]bool{}
	for i := range uint32(n) {
		k := Key{Src: i, Dst: 0xcb007101, SrcPort: 53, DstPort: 53, VNIProto: 17}
		if i%3 == 0 {
			in, _, _ := table.Observe6(0, key6(k), nil)
			want[in.Inside] = true
		} else {
			in, _, _ := table.Observe(0, k, nil)
			want[in.Inside] = true
		}
	}
	require.Len(t, want, n)
	require.Equal(t, n, table.Len())
	for i := range table.NumShards() {
		assert.Greater(t, table.Shard(i).Len(), n/4, "shard %d", i)
	}
	for in := range table.Sessions() {
		require.True(t, want[in.Inside], "%v twice, or from nowhere", in.Inside)
		delete(want, in.Inside)
	}
	assert.Empty(t, want)
	seen := 0
	for range table.Sessions() {
		if seen++; seen == 300 {
			break
		}
	}
	assert.Equal(t, 300, seen)
	for range table.Sessions() { // the loop body may use the table: no lock is held
		assert.Equal(t, n, table.Expire(At(time.Hour), nil))
		break
	}
	assert.Zero(t, table.Len())
}

// TestObserveDirections walks UDP, ICMP and TCP flows of both families.
func TestObserveDirections(t *testing.T) {
	table := newTable(t, Config{Timeouts: Timeouts{UDP: 30 * time.Second, UDPReplied: 10 * time.Second}})
	now := At(50 * day) // a first packet may come at any time
	a, b := netip.MustParseAddrPort("192.0.2.1:4000"), netip.MustParseAddrPort("198.51.100.1:53")
	a6, b6 := netip.MustParseAddrPort("[2001:db8::1]:4000"), netip.MustParseAddrPort("[2001:db8::2]:53")
	observe := map[int]func(proto uint8, back bool, vni uint32, seg *Segment) (Info, Side, bool){
		4: func(proto uint8, back bool, vni uint32, seg *Segment) (Info, Side, bool) {
			k := MakeKey(a, b, proto, vni)
			if back {
				k = k.Reverse()
			}
			return table.Observe(now, k, seg)
		},
		6: func(proto uint8, back bool, vni uint32, seg *Segment) (Info, Side, bool) {
			k := MakeKey6(a6, b6, proto, vni)
			if back {
				k = k.Reverse()
			}
			return table.Observe6(now, k, seg)
		},
	}
	for _, ip := range []int{4, 6} {
		inside, remote := a, b
		if ip == 6 {
			inside, remote = a6, b6
		}
		for _, c := range []struct {
			name           string
			proto          uint8
			first, replied Class
			syn, synAck    *Segment
			states         [2]string
		}{
			{"udp", 17, ClassUDP, ClassUDPReplied, nil, nil, [2]string{}},
			{"icmp", 1, ClassICMP, ClassICMP, nil, nil, [2]string{}},
			{"icmp6", 58, ClassICMP, ClassICMP, nil, nil, [2]string{}},
			{"tcp", 6, ClassTCPOpening, ClassTCPOpening,
				&Segment{Seq: 9, Len: 1, Flags: SYN, Scale: NoScale},
				&Segment{Seq: 99, Ack: 10, Len: 1, Flags: SYN | ACK, Scale: NoScale}, [2]string{"syn-sent", "syn-received"}},
		} {
			t.Run(fmt.Sprintf("ip=%d/%s", ip, c.name), func(t *testing.T) {
				want := Info{Proto: c.proto, VNI: 5, Inside: inside, Outside: inside, Remote: remote, Class: c.first, State: c.states[0]}
				in, from, created := observe[ip](c.proto, false, 5, c.syn)
				assert.NotZero(t, in.Due)
				want.Due = in.Due
				assert.Equal(t, want, in)
				assert.Equal(t, Inside, from)
				assert.True(t, created)

				want.Class, want.State = c.replied, c.states[1]
				in, from, created = observe[ip](c.proto, true, 5, c.synAck)
				want.Due = in.Due
				assert.Equal(t, want, in)
				assert.Equal(t, Outside, from)
				assert.False(t, created)

				_, from, created = observe[ip](c.proto, false, 5, c.syn)
				assert.Equal(t, Inside, from)
				assert.False(t, created)

				in, from, created = observe[ip](c.proto, true, 6, c.syn)
				assert.True(t, created, "another realm is another flow")
				assert.Equal(t, Inside, from, "and its first sender is its inside")
				assert.Equal(t, remote, in.Inside)
			})
		}
	}
	assert.Equal(t, 16, table.Len())
}

// TestObserveUDPReplied gives the replied class the shorter timeout: the reply
// must bring the timer forward.
func TestObserveUDPReplied(t *testing.T) {
	table := newTable(t, Config{Timeouts: Timeouts{UDP: 300 * time.Second, UDPReplied: 10 * time.Second}})
	k := Key{Src: 1, Dst: 2, SrcPort: 3, DstPort: 4, VNIProto: 17}
	table.Observe(0, k, nil)
	table.Observe(At(time.Second), k.Reverse(), nil)
	at, ok := table.NextDeadline()
	require.True(t, ok)
	assert.LessOrEqual(t, at, At(11*time.Second))
	assert.Zero(t, table.Expire(At(11*time.Second)-1, nil))
	assert.Equal(t, 1, table.Expire(At(11*time.Second), func(at Time, in Info) {
		assert.Equal(t, At(11*time.Second), at)
		assert.Equal(t, ClassUDPReplied, in.Class)
		assert.Equal(t, 10*time.Second, in.Idle)
	}))
}

// TestObserveTCPFirst begins TCP sessions with what a tap may see first: every
// flag, or no segment at all.
func TestObserveTCPFirst(t *testing.T) {
	k := Key{Src: 1, Dst: 2, SrcPort: 3, DstPort: 4, VNIProto: protoTCP}
	syn := &Segment{Seq: 100, Len: 1, Flags: SYN, Scale: NoScale}
	for _, c := range []struct {
		name  string
		first *Segment
		state string
	}{
		{"SYN", syn, "syn-sent"},
		{"SYN-ACK", &Segment{Seq: 1, Ack: 2, Len: 1, Flags: SYN | ACK, Scale: NoScale}, "midstream"},
		{"ACK", &Segment{Seq: 1, Ack: 2, Flags: ACK}, "midstream"},
		{"FIN", &Segment{Seq: 1, Ack: 2, Len: 1, Flags: FIN | ACK}, "midstream"},
		{"RST", &Segment{Seq: 1, Flags: RST}, "none"},
		{"RST-ACK", &Segment{Seq: 1, Ack: 2, Flags: RST | ACK}, "none"},
		{"no segment", nil, "none"},
	} {
		for _, is6 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/6=%v", c.name, is6), func(t *testing.T) {
				table := newTable(t, Config{Shards: 1})
				observe := func(now Time, reverse bool, seg *Segment) (Info, Side, bool) {
					k := k
					if reverse {
						k = k.Reverse()
					}
					if is6 {
						return table.Observe6(now, mapped(k), seg)
					}
					return table.Observe(now, k, seg)
				}
				in, _, created := observe(0, false, c.first)
				assert.True(t, created)
				assert.Equal(t, c.state, in.State)
				assert.Equal(t, ClassTCPOpening, in.Class)

				_, from, _ := observe(At(time.Second), true, nil)
				assert.Equal(t, Outside, from)
				if c.state == "none" {
					in, _, created = observe(At(2*time.Second), true, &Segment{Flags: RST})
					assert.False(t, created)
					assert.Equal(t, "none", in.State, "a RST opens nothing")
				}
				in, _, created = observe(At(3*time.Second), false, syn)
				assert.False(t, created)
				assert.Equal(t, "syn-sent", in.State, "a SYN opens in any case")
				assert.Zero(t, table.Expire(At(243*time.Second)-1, nil))
				assert.Equal(t, 1, table.Expire(At(243*time.Second), nil))
			})
		}
	}
}

// TestObserveTCPLife follows one connection to its end and expects the timeout of
// each state.
func TestObserveTCPLife(t *testing.T) {
	table := newTable(t, Config{})
	k := Key{Src: 1, Dst: 2, SrcPort: 3, DstPort: 4, VNIProto: protoTCP}
	def := RFCTimeouts()
	now := Time(0)
	for _, c := range []struct {
		back    bool
		seg     Segment
		state   string
		timeout time.Duration
	}{
		{false, tcp("S", 100, 0, 0), "syn-sent", def.TCPOpening},
		{true, tcp("SA", 500, 101, 0), "syn-received", def.TCPOpening},
		{false, tcp("A", 101, 501, 0), "established", def.TCPEstablished},
		{false, tcp("PA", 101, 501, 1000), "established", def.TCPEstablished},
		{true, tcp("A", 501, 1101, 0), "established", def.TCPEstablished},
		{true, tcp("FA", 501, 1101, 0), "fin-responder", def.TCPHalfClosed},
		{false, tcp("FA", 1101, 502, 0), "fin-both", def.TCPClosing},
		{true, tcp("A", 502, 1102, 0), "time-wait", def.TCPTimeWait},
	} {
		now = now.Add(time.Second)
		key := k
		if c.back {
			key = k.Reverse()
		}
		in, _, _ := table.Observe(now, key, &c.seg)
		require.Equal(t, c.state, in.State)
		at, ok := table.NextDeadline()
		require.True(t, ok)
		require.LessOrEqual(t, at, now.Add(c.timeout), c.state)
	}
	end := now.Add(def.TCPTimeWait)
	assert.Zero(t, table.Expire(end-1, nil))
	assert.Equal(t, 1, table.Expire(end, nil))

	// A RST shortens the timeout too.
	table.Observe(now, k, new(tcp("S", 100, 0, 0)))
	table.Observe(now, k.Reverse(), new(tcp("SA", 500, 101, 0)))
	table.Observe(now, k, new(tcp("A", 101, 501, 0)))
	in, _, _ := table.Observe(now, k, new(tcp("R", 101, 0, 0)))
	assert.Equal(t, "reset", in.State)
	assert.Equal(t, 1, table.Expire(end.Add(def.TCPReset), nil))
}

// observed is what TestObserveModel knows of a flow.
type observed struct {
	inside Key
	last   uint64
	class  Class
}

// TestObserveModel compares a table of several shards with a map, packet by
// packet; flows that are over but not yet removed are found in time.
func TestObserveModel(t *testing.T) {
	timeouts := Timeouts{UDP: 5 * time.Second, UDPReplied: 2 * time.Second, ICMP: time.Second}
	ticks := timeouts.ticks()
	for seed := range uint64(6) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			table := newTable(t, Config{Shards: 1 + int(seed), Timeouts: timeouts, Seed: seed})
			flows := map[Key]*observed{}
			now := starts[seed%uint64(len(starts))]
			due := func(o *observed) uint64 { return o.last + uint64(ticks[o.class]) }
			for range pkttest.Operations(5_000, 20_000, 200_000) {
				now += rng.Uint64N(12)
				k := Key{Src: rng.Uint32N(16), Dst: rng.Uint32N(16), SrcPort: uint16(rng.UintN(2)), DstPort: uint16(rng.UintN(2)), VNIProto: 17}
				if rng.UintN(4) == 0 {
					k.VNIProto = protoICMP
				}
				wantFrom, wantCreated := Inside, false
				o := flows[k]
				if o == nil {
					if o = flows[k.Reverse()]; o != nil {
						wantFrom = Outside
					}
				}
				if o != nil && now >= due(o) {
					delete(flows, o.inside)
					o = nil
				}
				switch {
				case o == nil:
					wantFrom, wantCreated = Inside, true
					o = &observed{inside: k, class: ClassUDP}
					if k.Proto() == protoICMP {
						o.class = ClassICMP
					}
					flows[k] = o
				case o.class == ClassUDP && wantFrom == Outside:
					o.class = ClassUDPReplied
				}
				o.last = now

				var in Info
				var from Side
				var created bool
				if k.Src%2 == k.Dst%2 {
					in, from, created = table.Observe(tick(now), k, nil)
				} else {
					in, from, created = table.Observe6(tick(now), mapped(k), nil)
				}
				require.Equal(t, wantFrom, from)
				require.Equal(t, wantCreated, created)
				require.Equal(t, o.class, in.Class)
				require.Equal(t, o.inside.SrcPort, in.Inside.Port())
				require.Zero(t, in.Idle)

				if rng.UintN(64) != 0 {
					continue
				}
				want := map[uint64]int{} // deadline -> sessions
				first := ^uint64(0)
				for k, o := range flows {
					first = min(first, due(o))
					if due(o) <= now {
						want[due(o)]++
						delete(flows, k)
					}
				}
				at, ok := table.NextDeadline()
				require.True(t, ok)
				require.LessOrEqual(t, at, tick(first))
				table.Expire(tick(now), func(at Time, in Info) {
					want[tickOf(at)]--
					require.Equal(t, time.Duration(ticks[in.Class])*Tick, in.Idle)
				})
				for at, n := range want {
					require.Zero(t, n, "sessions due at tick %d", at)
				}
				require.Equal(t, len(flows), table.Len())
			}
			require.NotEmpty(t, flows)
			assert.Equal(t, len(flows), table.Expire(tick(now)+Time(day), nil))
		})
	}
}
