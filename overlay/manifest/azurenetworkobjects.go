// The objects of Azure's network, as azureobjects.go has those of a cluster: virtualNetworks,
// natGateways, publicIPAddresses, publicIPPrefixes and loadBalancers, 2024-07-01.

package manifest

import (
	"net/netip"
	"strings"
)

// always are the fields of every resource that change no packet.
const always = "id type name etag tags location extendedLocation zones resourceGroup resourceGuid provisioningState systemData managedBy "

// inert returns the fields of a resource that change no packet.
func inert(more string) []string { return strings.Fields(always + more) }

// azureSKU is the SKU of a resource.
type azureSKU struct {
	Name string `json:"name"`
}

// Others returns the other fields.
func (azureSKU) Others() ([]string, map[string]string) { return []string{"tier"}, nil }

// azurePublicIP is a publicIPAddress.
type azurePublicIP struct {
	ID        string     `json:"id"`
	Name      string     `json:"name"`
	IPAddress netip.Addr `json:"ipAddress"`
}

// Others returns the other fields.
func (azurePublicIP) Others() ([]string, map[string]string) {
	return inert(`sku ipTags ipConfiguration publicIPAllocationMethod publicIPAddressVersion publicIPPrefix natGateway dnsSettings
		ddosSettings deleteOption idleTimeoutInMinutes linkedPublicIPAddress servicePublicIPAddress migrationPhase`), nil
}

// azurePublicPrefix is a publicIPPrefix.
type azurePublicPrefix struct {
	ID       string       `json:"id"`
	Name     string       `json:"name"`
	IPPrefix netip.Prefix `json:"ipPrefix"`
}

// Others returns the other fields.
func (azurePublicPrefix) Others() ([]string, map[string]string) {
	return inert("sku ipTags prefixLength publicIPAddresses publicIPAddressVersion natGateway loadBalancerFrontendIpConfiguration customIPPrefix"), nil
}

// azureNATGateway is a natGateway.
type azureNATGateway struct {
	Name                 string    `json:"name"`
	SKU                  azureSKU  `json:"sku"`
	IdleTimeoutInMinutes int       `json:"idleTimeoutInMinutes"`
	PublicIPAddresses    []azureID `json:"publicIpAddresses"`
	PublicIPPrefixes     []azureID `json:"publicIpPrefixes"`
	PublicIPAddressesV6  []azureID `json:"publicIpAddressesV6"`
	PublicIPPrefixesV6   []azureID `json:"publicIpPrefixesV6"`
}

// Others returns the other fields.
func (azureNATGateway) Others() ([]string, map[string]string) {
	return inert("subnets sourceVirtualNetwork serviceGateway nat64"), nil
}

// azureSpace is an address space.
type azureSpace struct {
	AddressPrefixes []netip.Prefix `json:"addressPrefixes"`
}

// Others returns the other fields.
func (azureSpace) Others() ([]string, map[string]string) {
	return []string{"ipamPoolPrefixAllocations"}, nil
}

// azureVNet is a virtualNetwork.
type azureVNet struct {
	ID           string         `json:"id"`
	Name         string         `json:"name"`
	AddressSpace azureSpace     `json:"addressSpace"`
	Subnets      []azureSubnet  `json:"subnets"`
	Peerings     []azurePeering `json:"virtualNetworkPeerings"`
}

// Others returns the other fields.
func (azureVNet) Others() ([]string, map[string]string) {
	return inert(`bgpCommunities ddosProtectionPlan defaultPublicNatGateway dhcpOptions enableDdosProtection enableVmProtection encryption
		flowLogs flowTimeoutInMinutes ipAllocations privateEndpointVNetPolicies`), nil
}

// azureSubnet is a subnet.
type azureSubnet struct {
	Name            string         `json:"name"`
	AddressPrefix   netip.Prefix   `json:"addressPrefix"`
	AddressPrefixes []netip.Prefix `json:"addressPrefixes"`
}

// Others returns the other fields.
func (azureSubnet) Others() ([]string, map[string]string) {
	return inert(`applicationGatewayIPConfigurations defaultOutboundAccess delegations ipAllocations ipConfigurationProfiles ipConfigurations
			ipamPoolPrefixAllocations natGateway privateEndpointNetworkPolicies privateEndpoints privateLinkServiceNetworkPolicies purpose
			resourceNavigationLinks serviceAssociationLinks serviceEndpointPolicies serviceGateway sharingScope`), map[string]string{
			"networkSecurityGroup": "its rules are in no file: a cluster file can give them under securityGroups",
			"routeTable":           "its routes are in no file: what leaves does so by outboundType",
			"serviceEndpoints":     "the ranges of the services are in no file: a cluster file can give them under vnet.serviceEndpoints",
		}
}

// azurePeering is a virtualNetworkPeering.
type azurePeering struct {
	PeeringState                     string     `json:"peeringState"`
	RemoteAddressSpace               azureSpace `json:"remoteAddressSpace"`
	RemoteVirtualNetworkAddressSpace azureSpace `json:"remoteVirtualNetworkAddressSpace"`
}

// Others returns the other fields.
func (azurePeering) Others() ([]string, map[string]string) {
	return inert(`allowForwardedTraffic allowGatewayTransit allowVirtualNetworkAccess doNotVerifyRemoteGateways enableOnlyIPv6Peering
		localAddressSpace localSubnetNames localVirtualNetworkAddressSpace peerCompleteVnets peeringSyncLevel remoteBgpCommunities
		remoteSubnetNames remoteVirtualNetwork remoteVirtualNetworkEncryption useRemoteGateways`), nil
}

// azureBalancer is a loadBalancer.
type azureBalancer struct {
	OutboundRules      []azureRule `json:"outboundRules"`
	LoadBalancingRules []any       `json:"loadBalancingRules"`
}

// Others returns the other fields.
func (azureBalancer) Others() ([]string, map[string]string) {
	return inert("sku backendAddressPools frontendIPConfigurations inboundNatPools inboundNatRules probes scope"), nil
}
