package manifest_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/manifest"
)

const (
	group  = "/subscriptions/s/resourceGroups/net/providers/Microsoft.Network/"
	common = `"etag": "W/\"1\"", "location": "westeurope", "provisioningState": "Succeeded", "resourceGroup": "net", "tags": {}`
)

// What az network prints, as it prints it.
var (
	publicIPs = `[
  {"id": "` + group + `publicIPAddresses/egress-1", "name": "egress-1", "ipAddress": "198.51.100.7", "publicIPAllocationMethod": "Static", "publicIPAddressVersion": "IPv4", "sku": {"name": "Standard", "tier": "Regional"}, "idleTimeoutInMinutes": 4, "ipTags": [], "type": "Microsoft.Network/publicIPAddresses", ` + common + `},
  {"id": "` + group + `publicIPAddresses/shop", "name": "shop", "ipAddress": "198.51.100.8", "publicIPAllocationMethod": "Static", "type": "Microsoft.Network/publicIPAddresses", ` + common + `},
  {"id": "` + group + `publicIPAddresses/unused", "name": "unused", "ipAddress": null, "publicIPAllocationMethod": "Dynamic", "type": "Microsoft.Network/publicIPAddresses", ` + common + `}
]`
	publicPrefix = `{"id": "` + group + `publicIPPrefixes/block", "name": "block", "ipPrefix": "198.51.100.16/30", "prefixLength": 30, "publicIPAddressVersion": "IPv4", "type": "Microsoft.Network/publicIPPrefixes", ` + common + `}`
	natGateway   = `{
  "id": "` + group + `natGateways/out", "name": "out",
  "idleTimeoutInMinutes": 10,
  "publicIpAddresses": [{"id": "` + group + `publicIPAddresses/egress-1", "resourceGroup": "net"}],
  "publicIpPrefixes": [{"id": "` + group + `publicIPPrefixes/block"}],
  "sku": {"name": "Standard"}, "subnets": [{"id": "x"}], "type": "Microsoft.Network/natGateways", ` + common + `}`
	vnet = `{
  "id": "` + group + `virtualNetworks/hub", "name": "hub", "type": "Microsoft.Network/virtualNetworks", ` + common + `,
  "addressSpace": {"addressPrefixes": ["10.40.0.0/16", "fd00:40::/48"]},
  "subnets": [
    {"name": "GatewaySubnet", "addressPrefix": "10.40.255.0/24", "delegations": []},
    {"name": "nodes", "addressPrefixes": ["10.40.1.0/24", "fd00:40:0:1::/64"],
     "networkSecurityGroup": {"id": "nsg"}, "routeTable": null,
     "serviceEndpoints": [{"service": "Microsoft.Storage", "locations": ["*"]}]}
  ],
  "virtualNetworkPeerings": [
    {"name": "spoke", "peeringState": "Connected", "remoteAddressSpace": {"addressPrefixes": ["10.50.0.0/16"]}, "remoteVirtualNetwork": {"id": "x"}, "allowForwardedTraffic": true},
    {"name": "gone", "peeringState": "Disconnected", "remoteAddressSpace": {"addressPrefixes": ["10.51.0.0/16"]}, "remoteVirtualNetwork": {"id": "x"}}
  ]
}`
	balancer = `{
  "id": "` + group + `loadBalancers/kubernetes", "name": "kubernetes", "type": "Microsoft.Network/loadBalancers", ` + common + `, "sku": {"name": "Standard", "tier": "Regional"},
  "backendAddressPools": [{"name": "aksOutboundBackendPool"}], "probes": [{"port": 30086}], "inboundNatRules": [], "inboundNatPools": [],
  "frontendIPConfigurations": [{"name": "f", "publicIPAddress": {"id": "x"}}],
  "loadBalancingRules": [{"name": "r"}],
  "outboundRules": [
    {"name": "aksOutboundRule", "allocatedOutboundPorts": 4000, "idleTimeoutInMinutes": 10, "enableTcpReset": false, "protocol": "All",
     "frontendIPConfigurations": [{"id": "a"}, {"id": "b"}], "backendAddressPool": {"id": "x"}}
  ]
}`
)

// inNetwork is the cluster of az with a subnet of its own.
func inNetwork(t *testing.T, outboundType string) manifest.File {
	t.Helper()
	f := edited(t, "aks-show.json", `"outboundType": "loadBalancer"`, `"outboundType": "`+outboundType+`"`)
	f.Data = []byte(strings.ReplaceAll(string(f.Data), `"vnetSubnetId": null`, `"vnetSubnetId": "`+group+`virtualNetworks/hub/subnets/nodes"`))
	return f
}

// omissions are what is not modelled, a line each.
func omissions(c *manifest.Cluster) (all []string) {
	for _, o := range c.NotModelled {
		all = append(all, o.String())
	}
	return all
}

func TestNetworkOfAzure(t *testing.T) {
	c, r := start(t, inNetwork(t, "userAssignedNATGateway"), file("gateway", natGateway), file("ips", publicIPs), file("prefix", publicPrefix), file("vnet", vnet))
	assert.Equal(t, overlay.VNet{
		Name: "hub", ResourceGroup: "net",
		AddressSpaces:  []netip.Prefix{netip.MustParsePrefix("10.40.0.0/16")},
		Subnets:        []overlay.Subnet{{Name: "GatewaySubnet", AddressPrefixes: []netip.Prefix{netip.MustParsePrefix("10.40.255.0/24")}}, {Name: "nodes", AddressPrefixes: []netip.Prefix{netip.MustParsePrefix("10.40.1.0/24")}}},
		PeeredPrefixes: []netip.Prefix{netip.MustParsePrefix("10.50.0.0/16")},
	}, c.Config.VNet)
	assert.Equal(t, &lb.NATGateway{Name: "out", PublicIPAddresses: []netip.Addr{netip.MustParseAddr("198.51.100.7")}, PublicIPPrefixes: []netip.Prefix{netip.MustParsePrefix("198.51.100.16/30")}, IdleTimeout: 10 * time.Minute}, c.Config.NATGatewayProfile.NATGateway)
	assert.Equal(t, "10.40.1.4", r.Nodes()[0].Addrs[0].String())
	assert.Equal(t, []string{
		"aks-show.json:253: networkProfile.loadBalancerProfile: outboundType is userAssignedNATGateway: traffic leaves by that",
		"vnet:7: subnets[1].networkSecurityGroup {1 fields}: its rules are in no file: a cluster file can give them under securityGroups",
		"vnet:8: subnets[1].serviceEndpoints [1 elements]: the ranges of the services are in no file: a cluster file can give them under vnet.serviceEndpoints",
		"vnet:12: virtualNetworkPeerings[1].peeringState Disconnected: the network is not reached",
	}, omissions(c))

	t.Run("subnets alone", func(t *testing.T) {
		c, _ := start(t, inNetwork(t, "loadBalancer"), file("subnets", `[{"name": "nodes", "addressPrefix": "10.40.1.0/24", "type": "Microsoft.Network/virtualNetworks/subnets"}]`),
			file("peerings", `[{"peeringState": "Connected", "remoteVirtualNetworkAddressSpace": {"addressPrefixes": ["10.50.0.0/16"]}, "type": "Microsoft.Network/virtualNetworks/virtualNetworkPeerings"}]`))
		assert.Equal(t, []netip.Prefix{netip.MustParsePrefix("10.40.1.0/24")}, c.Config.VNet.AddressSpaces)
		assert.Equal(t, []netip.Prefix{netip.MustParsePrefix("10.50.0.0/16")}, c.Config.VNet.PeeredPrefixes)
		assert.Len(t, c.NotModelled, 1, "%v", c.NotModelled) // the outbound IP
	})
	t.Run("the subnet that AKS makes", func(t *testing.T) {
		_, r := start(t, load(t, "aks-show.json")[0], file("vnet", strings.Replace(vnet, `"nodes"`, `"aks-subnet"`, 1)))
		assert.Equal(t, "10.40.1.4", r.Nodes()[0].Addrs[0].String())
	})
	t.Run("gateway alone", func(t *testing.T) {
		c, _ := start(t, file("gateway", strings.Replace(natGateway, `"Standard"`, `"StandardV2"`, 1)))
		assert.Equal(t, overlay.OutboundUserAssignedNATGateway, c.Config.OutboundType)
		assert.Equal(t, lb.GatewayStandardV2, c.Config.NATGatewayProfile.NATGateway.SKU)
		assert.Len(t, c.NotModelled, 2) // the address and the prefix
	})
	t.Run("gateway of no use", func(t *testing.T) {
		c, _ := start(t, load(t, "aks-show.json")[0], file("gateway", natGateway))
		assert.Contains(t, omissions(c), "gateway:2: name out: outboundType is loadBalancer: traffic leaves by that")
	})
	t.Run("load balancer", func(t *testing.T) {
		c, _ := start(t, file("lb", balancer))
		assert.Equal(t, overlay.LoadBalancerProfile{ManagedOutboundIPCount: 2, AllocatedOutboundPorts: 4000, IdleTimeout: 10 * time.Minute, DisableTCPReset: true}, c.Config.LoadBalancerProfile)
		assert.Equal(t, []string{"lb:5: loadBalancingRules: rules and probes are those that AKS makes of the Services in the files: what is changed by hand it takes back"}, omissions(c))
		c, _ = start(t, file("rules", `[{"name": "a", "loadDistribution": "Default", "type": "Microsoft.Network/loadBalancers/loadBalancingRules"}, {"name": "b", "type": "Microsoft.Network/loadBalancers/loadBalancingRules"}]`), file("probes", `[{"numberOfProbes": 2, "type": "Microsoft.Network/loadBalancers/probes"}]`))
		assert.Len(t, c.NotModelled, 1)
	})
	t.Run("addresses that Services name", func(t *testing.T) {
		service := "apiVersion: v1\nkind: Service\nmetadata:\n  name: %\n  annotations:\n    service.beta.kubernetes.io/azure-pip-%\nspec: {type: LoadBalancer, ports: [{port: 80}]}\n---\n"
		text := strings.NewReplacer("azure-pip-%", "azure-pip-name: Shop", "name: %", "name: a").Replace(service) +
			strings.NewReplacer("azure-pip-%", "azure-pip-prefix-id: "+group+"publicIPPrefixes/block", "name: %", "name: b").Replace(service)
		_, r := start(t, file("f", text), file("ips", publicIPs), file("prefix", publicPrefix))
		assert.Equal(t, "198.51.100.8", r.Services()[0].LoadBalancerIPs[0].String())
		assert.Equal(t, "198.51.100.16", r.Services()[1].LoadBalancerIPs[0].String())
		_, err := manifest.Read(file("f", text))
		assert.ErrorContains(t, err, "f:6: metadata.annotations.service.beta.kubernetes.io/azure-pip-name \"Shop\": unknown name")
	})
}

func TestNetworkErrors(t *testing.T) {
	for name, tt := range map[string]struct{ text, want string }{
		"field":    {strings.Replace(natGateway, `"idleTimeoutInMinutes"`, `"idleTimeout"`, 1), `f:3: idleTimeout 10: unknown name: is no field here`},
		"address":  {strings.Replace(publicIPs, "198.51.100.7", "198.51.100", 1), `f:2: [0].ipAddress "198.51.100": not the address of a single host: must be an address such as 10.0.0.1`},
		"sku":      {strings.Replace(natGateway, `"Standard"`, `"Premium"`, 1), `f:6: sku.name "Premium": out of range: Standard or StandardV2`},
		"idle":     {strings.Replace(natGateway, `"idleTimeoutInMinutes": 10`, `"idleTimeoutInMinutes": 3`, 1), `f:3: idleTimeoutInMinutes 3m0s: out of range`},
		"IPv6":     {strings.Replace(natGateway, `"sku"`, `"publicIpAddressesV6": [{"id": "/x/six"}], "sku"`, 1), `f:6: publicIpAddressesV6[0].id "six": missing: the address is in no file`},
		"gateways": {"[" + natGateway + "," + strings.Replace(natGateway, `"out"`, `"again"`, 1) + "]", `f:7: [1].name "again": duplicate name: there is a NAT gateway in f:1: [0] already`},
		"vnets":    {"[" + vnet + "," + vnet + "]", `f:15: [1].name "hub": duplicate name: there is a virtual network in f:1 already`},
		"prefix":   {strings.Replace(vnet, "10.40.1.0/24", "10.40.1.1/24", 1), `f:6: subnets[1].addressPrefixes[0] 10.40.1.1/24: prefix is not valid`},
		"rule":     {strings.Replace(balancer, `"protocol": "All"`, `"protocol": "Tcp"`, 1), `f:7: outboundRules[0].protocol "Tcp": not modelled: the outbound rule of a cluster is for All`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := manifest.Read(file("f", tt.text))
			require.Error(t, err)
			first, _, _ := strings.Cut(err.Error(), "\n")
			if !strings.HasPrefix(first, tt.want) {
				assert.Equal(t, tt.want, first)
			}
		})
	}
}
