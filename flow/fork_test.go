package flow

import (
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
)

// A copy does what the original does, session by session and timer by timer, and neither
// notices what the other does later.
func TestFork(t *testing.T) {
	const seed = 1
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 40 {
		w := newTwin(t, 0)
		script := make([]byte, 4*200)
		for i := range script {
			script[i] = byte(rng.Uint32())
		}
		for i := 0; i < len(script)/2; i += 4 { // run, but for its end, where all sessions go
			inside, outside := keysOf(script[i+1], script[i+2])
			if w.insert(inside, outside, 1+Class(script[i+3])%(numBuiltinClasses-1)); script[i]%4 == 0 {
				w.expire()
			}
			w.advance(uint64(script[i]))
		}
		w.Lock()
		table, err := w.table.Fork(nil, nil)
		w.Unlock()
		require.NoError(t, err)
		before := table.Bytes()
		require.Equal(t, w.table.Bytes(), before)
		var left []Info // of the copy, while the original goes on and ends
		for in := range table.Sessions() {
			left = append(left, in)
		}
		mine := []Info{}
		for in := range w.table.Sessions() {
			mine = append(mine, in)
		}
		require.Equal(t, mine, left, "seed %d", seed)
		w.run(script[len(script)/2:])
		w.table.Close()
		again := []Info{}
		for in := range table.Sessions() {
			again = append(again, in)
		}
		require.Equal(t, mine, again, "seed %d: the copy has noticed", seed)
		require.Equal(t, before, table.Bytes())
		table.Expire(Time(1<<40)*Time(Tick), nil)
		require.Zero(t, table.Len())
		table.Close()
	}
}

// The copy of a table has hooks of its own, and there is none of a closed one.
func TestForkTies(t *testing.T) {
	asked, mine := [2]int{}, new(Notice)
	keys := func(of int) func(ID, *Session) (uint64, uint64) {
		return func(id ID, s *Session) (uint64, uint64) {
			asked[of]++
			return uint64(s.Key.SrcPort) << 40, uint64(s.Key.SrcPort)<<40 + 1<<33
		}
	}
	table := newTable(t, Config{Shards: 2, Keys: keys(0), Notice: new(Notice)})
	fork := func() (*Table, error) {
		for i := range 2 {
			table.Shard(i).Lock()
			defer table.Shard(i).Unlock()
		}
		return table.Fork(keys(1), mine)
	}
	copied, err := fork()
	require.NoError(t, err)
	t.Cleanup(copied.Close)
	sh := copied.Shard(1)
	sh.Lock()
	id, s := sh.New(false)
	s.Key = Key{SrcPort: 7, VNIProto: protoTCP}
	s.Track.Class = ClassTCPOpening
	require.True(t, sh.Insert(id, s, 0))
	sh.Unlock()
	require.Equal(t, [2]int{0, 1}, asked)
	require.Equal(t, 1, copied.Len())
	require.Zero(t, table.Len())
	table.Close()
	_, err = fork()
	require.ErrorIs(t, err, ErrClosed)
	require.Equal(t, 1, copied.Len())
}

// What a shard has is listed here, with what a copy has of it.
func TestForkKnowsTheFields(t *testing.T) {
	of := map[string]string{
		"mu": "own", "hasher": "same", "keys": "own", "nextDue": "same", "wheel": "copied", "told": "same", "notice": "own",
		"timeouts": "same", "mem": "own", "v4": "copied", "v6": "copied", "index": "copied", "sessions": "same", "checker": "same", "_": "",
	}
	shard := reflect.TypeFor[Shard]()
	for i := range shard.NumField() {
		require.Contains(t, of, shard.Field(i).Name, "Fork does not know it")
	}
	require.Equal(t, shard.NumField(), len(of))
	wheel := reflect.TypeFor[wheel]()
	for i := range wheel.NumField() { // copied as a value, but for what it points to
		if k := wheel.Field(i).Type.Kind(); k == reflect.Pointer || k == reflect.Slice || k == reflect.Map {
			require.Equal(t, "lists", wheel.Field(i).Name)
		}
	}
}
