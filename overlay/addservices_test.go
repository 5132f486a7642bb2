package overlay_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/overlay"
)

// Services that are added together are what they are one after the other.
func TestServicesAreAddedTogether(t *testing.T) {
	given := []overlay.Service{
		{Name: "web", Type: overlay.LoadBalancer, Ports: []overlay.ServicePort{{Port: 80}}},
		{Name: "store", Ports: []overlay.ServicePort{{Port: 6379}}},
		{Name: "local", Type: overlay.LoadBalancer, ExternalTrafficPolicy: overlay.PolicyLocal, Ports: []overlay.ServicePort{{Port: 80}, {Name: "s", Port: 443}}},
		{Name: "node", Type: overlay.NodePort, Ports: []overlay.ServicePort{{Port: 80}}},
	}
	given[2].Ports[0].Name = "w"
	newCluster := func() *overlay.Cluster {
		c, err := overlay.New(overlay.ClusterConfig{NodePools: []overlay.NodePool{{Count: 3}}})
		require.NoError(t, err)
		t.Cleanup(c.Close)
		return c
	}
	together, apart := newCluster(), newCluster()
	all, err := together.AddServices(flow.At(0), given...)
	require.NoError(t, err)
	for _, s := range given {
		_, err := apart.AddService(flow.At(0), s)
		require.NoError(t, err)
	}
	assert.Equal(t, apart.Services(), together.Services())
	assert.Equal(t, together.Services(), all)
	assert.Equal(t, apart.EgressConfig().LoadBalancer.LoadBalancingRules, together.EgressConfig().LoadBalancer.LoadBalancingRules)
	assert.NotEmpty(t, together.EgressConfig().LoadBalancer.LoadBalancingRules)

	none, err := together.AddServices(flow.At(0))
	require.NoError(t, err)
	assert.Empty(t, none)

	// If one is refused, none comes, and every one's problems are told.
	before, rules := together.Services(), together.EgressConfig().LoadBalancer.LoadBalancingRules
	all, err = together.AddServices(flow.At(0),
		overlay.Service{Name: "good", Type: overlay.LoadBalancer, Ports: []overlay.ServicePort{{Port: 80}}},
		overlay.Service{Name: "web", Ports: []overlay.ServicePort{{Port: 80}}},
		overlay.Service{Name: "good", Ports: []overlay.ServicePort{{Port: 81}}},
		overlay.Service{Name: "empty"},
	)
	require.ErrorIs(t, err, flow.ErrDuplicateName)
	assert.ErrorIs(t, err, flow.ErrMissing)
	assert.ErrorContains(t, err, "Service \"web\": ")
	assert.ErrorContains(t, err, "\nService \"good\": ")
	assert.ErrorContains(t, err, "\nService \"empty\": ")
	assert.Nil(t, all)
	assert.Equal(t, before, together.Services())
	assert.Equal(t, rules, together.EgressConfig().LoadBalancer.LoadBalancingRules)
	_, err = together.AddService(flow.At(0), overlay.Service{Name: "good", Ports: []overlay.ServicePort{{Port: 80}}})
	assert.NoError(t, err)
}
