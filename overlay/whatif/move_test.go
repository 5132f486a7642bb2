package whatif_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/whatif"
)

// A pod that starts again on another node ends its conversations and sends from there; one without addresses
// sends nothing, and forks do not follow.
func TestMove(t *testing.T) {
	cluster := newCluster(t, overlay.ClusterConfig{NodePools: []overlay.NodePool{{Count: 2}}}, 2)
	hosts := whatif.Pods(cluster)
	from := make(map[netip.Addr]int) // first packets that a pod has sent
	s := newSimulation(t, whatif.Config{World: cluster, Hosts: hosts, Workload: whatif.Workload{Traffic: []whatif.Traffic{{
		Name: "a", To: []whatif.Destination{internet}, Rate: whatif.Rate{Total: 2, Even: true},
		Class: whatif.Class{Requests: 2, Pause: 10 * time.Minute},
	}}}, Packets: func(_ flow.Time, side flow.Side, pkt []byte) {
		if src := netip.AddrFrom4([4]byte(pkt[12:16])); side == flow.Inside && src.IsPrivate() && pkt[33] == 2 {
			from[src]++
		}
	}})
	s.Advance(10250 * time.Millisecond)
	before := s.Moment()
	assert.Equal(t, uint64(20), before.Total.Conversations)
	assert.Equal(t, 20, before.Uses.Idle+before.Uses.Busy)
	old := hosts[0].Addrs[0]
	sent := from[old]

	require.NoError(t, cluster.RemovePod(hosts[0].Name))
	ended, err := s.Move(0, nil)
	require.NoError(t, err)
	assert.Equal(t, 10, ended)
	s.Advance(20250 * time.Millisecond)
	now := s.Moment()
	assert.Equal(t, uint64(30), now.Total.Conversations, "of the other pod alone")
	assert.Equal(t, uint64(40), now.Total.Arrivals)
	assert.Zero(t, now.Total.Refused+now.Total.Broken+now.Total.Cut)

	world, err := cluster.Fork(overlay.Ties{})
	require.NoError(t, err)
	defer world.Close()
	fork := s.Fork(world, nil)
	nodes := cluster.Nodes()
	pod, err := cluster.AddPod(nodes[1].Name, hosts[0].Name)
	require.NoError(t, err)
	_, err = s.Move(0, pod.Addrs)
	require.NoError(t, err)
	s.Advance(30250 * time.Millisecond)
	fork.Advance(30250 * time.Millisecond)
	assert.Equal(t, uint64(50), s.Moment().Total.Conversations)
	assert.Equal(t, uint64(40), fork.Moment().Total.Conversations)
	assert.Equal(t, []int{sent, 10}, []int{from[old], from[pod.Addrs[0]]})
	assert.Equal(t, 40, s.Moment().Uses.Idle+s.Moment().Uses.Busy)
	assert.InDelta(t, 40, s.Result().Peak.Idle+s.Result().Peak.Busy, 5, "both tell the same")

	for _, c := range []struct {
		host  int
		addrs []netip.Addr
		want  error
	}{
		{-1, nil, flow.ErrOutOfRange}, {2, nil, flow.ErrOutOfRange}, {0, []netip.Addr{{}}, flow.ErrAddress},
		{0, hosts[1].Addrs, flow.ErrConflict}, {0, []netip.Addr{old, pod.Addrs[0]}, flow.ErrConflict},
	} {
		_, err := s.Move(c.host, c.addrs)
		assert.ErrorIs(t, err, c.want)
	}
	s.Advance(40250 * time.Millisecond)
	assert.Equal(t, uint64(70), s.Moment().Total.Conversations, "nothing has changed")
}

// The requests that wait for a pool's connection go on with the pod.
func TestMovePools(t *testing.T) {
	cluster := newCluster(t, overlay.ClusterConfig{NodePools: []overlay.NodePool{{Count: 1}}}, 1)
	s := newSimulation(t, whatif.Config{World: cluster, Hosts: whatif.Pods(cluster), Workload: whatif.Workload{Traffic: []whatif.Traffic{{
		Name: "a", To: []whatif.Destination{internet}, Rate: whatif.Rate{Total: 20, Even: true},
		Class: whatif.Class{Kind: whatif.Pool, PoolSize: 2, Think: time.Second},
	}}}})
	s.Advance(5 * time.Second)
	ended, err := s.Move(0, nil)
	require.NoError(t, err)
	assert.Equal(t, 2, ended)
	s.Advance(10250 * time.Millisecond)
	_, err = s.Move(0, whatif.Pods(cluster)[0].Addrs)
	require.NoError(t, err)
	before := s.Moment().Total.Exchanges
	s.Advance(30250 * time.Millisecond)
	assert.Greater(t, s.Moment().Total.Exchanges, before+20)
	assert.LessOrEqual(t, s.Moment().Uses.Busy+s.Moment().Uses.Idle, 2)
}

// A client that closes instead of leaving gives its ports back.
func TestCloseAbandoned(t *testing.T) {
	w := whatif.Workload{Traffic: []whatif.Traffic{{Name: "a", Class: whatif.Class{End: whatif.Abandoned}}, {Name: "b", Class: whatif.Class{End: whatif.ClientResets}}}}
	for i, want := range [][2]whatif.End{{whatif.Abandoned, whatif.ClientResets}, {whatif.ClientCloses, whatif.ClientResets}} {
		changed := w
		axis := whatif.CloseAbandoned(false, true)
		axis[i].Change(&overlay.ClusterConfig{}, &changed)
		assert.Equal(t, want, [2]whatif.End{changed.Traffic[0].End, changed.Traffic[1].End}, axis[i].Name)
	}
	assert.Equal(t, whatif.Abandoned, w.Traffic[0].End)
}
