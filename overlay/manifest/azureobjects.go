// The objects of Azure, as the command line prints them: what is read of each, what changes no
// packet, and what is not modelled. Names are those of the REST API of AKS and of the load
// balancer, November 2026 (managedClusters 2025-05-01, loadBalancers 2024-07-01).

package manifest

import (
	"net/netip"
	"strings"

	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/cni"
)

// azureID is a reference to a resource.
type azureID struct {
	ID string `json:"id"`
}

// Others returns what a reference may say besides.
func (azureID) Others() ([]string, map[string]string) { return []string{"resourceGroup"}, nil }

// azureCluster is a managedCluster.
type azureCluster struct {
	Name              string       `json:"name"`
	NetworkProfile    azureNetwork `json:"networkProfile"`
	AgentPoolProfiles []azurePool  `json:"agentPoolProfiles"`

	AddonProfiles            map[string]azureAddon `json:"addonProfiles"`
	IngressProfile           azureIngress          `json:"ingressProfile"`
	KubernetesVersion        string                `json:"kubernetesVersion"` // may be without its last number
	CurrentKubernetesVersion string                `json:"currentKubernetesVersion"`
	PowerState               azurePowerState       `json:"powerState"`
}

// azureAddon is one of the addonProfiles.
type azureAddon struct {
	Enabled bool `json:"enabled"`
}

// Others returns the other fields.
func (azureAddon) Others() ([]string, map[string]string) { return []string{"config", "identity"}, nil }

// azureIngress is an ingressProfile.
type azureIngress struct {
	ApplicationLoadBalancer azureLoadBalancerAddon `json:"applicationLoadBalancer"`
}

// Others returns the other fields.
func (azureIngress) Others() ([]string, map[string]string) {
	return []string{"webAppRouting", "gatewayAPI", "gatewayApi"}, nil
}

// azureLoadBalancerAddon is Application Gateway for Containers.
type azureLoadBalancerAddon struct {
	Enabled bool `json:"enabled"`
}

// Others returns the other fields.
func (azureLoadBalancerAddon) Others() ([]string, map[string]string) {
	return []string{"identity"}, nil
}

// azurePowerState is whether a cluster or a pool runs.
type azurePowerState struct {
	Code string `json:"code"`
}

// Others returns the other fields.
func (azureCluster) Others() ([]string, map[string]string) {
	return strings.Fields(`id type location tags sku kind identity extendedLocation systemData eTag etag resourceGroup
		aadProfile aiToolchainOperatorProfile apiServerAccessProfile autoScalerProfile
		autoUpgradeProfile azureMonitorProfile azurePortalFqdn bootstrapProfile creationData
		disableLocalAccounts diskEncryptionSetId dnsPrefix enableNamespaceResources enablePodSecurityPolicy enableRbac fqdn
		fqdnSubdomain guardrailsProfile safeguardsProfile hostedSystemProfile httpProxyConfig identityProfile
		linuxProfile maxAgentPools metricsProfile nodeProvisioningProfile
		nodeResourceGroup nodeResourceGroupProfile oidcIssuerProfile podIdentityProfile privateFqdn
		privateLinkResources provisioningState publicNetworkAccess resourceUid schedulerProfile
		securityProfile servicePrincipalProfile serviceMeshProfile status storageProfile supportPlan
		upgradeSettings windowsProfile workloadAutoScalerProfile`), nil
}

// azureNetwork is a networkProfile.
type azureNetwork struct {
	NetworkPlugin       string               `json:"networkPlugin"`
	NetworkPluginMode   string               `json:"networkPluginMode"`
	PodCIDR             netip.Prefix         `json:"podCidr"`
	PodCIDRs            []netip.Prefix       `json:"podCidrs"`
	ServiceCIDR         netip.Prefix         `json:"serviceCidr"`
	ServiceCIDRs        []netip.Prefix       `json:"serviceCidrs"`
	DNSServiceIP        netip.Addr           `json:"dnsServiceIp"`
	IPFamilies          []string             `json:"ipFamilies"`
	OutboundType        overlay.OutboundType `json:"outboundType"`
	NetworkPolicy       cni.PolicyEngine     `json:"networkPolicy"`
	NetworkDataplane    string               `json:"networkDataplane"`
	PodLinkLocalAccess  string               `json:"podLinkLocalAccess"`
	LoadBalancerSku     string               `json:"loadBalancerSku"`
	LoadBalancerProfile *azureLoadBalancer   `json:"loadBalancerProfile"`
	NATGatewayProfile   *azureGateway        `json:"natGatewayProfile"`
}

// Others returns the other fields.
func (azureNetwork) Others() ([]string, map[string]string) {
	return strings.Fields("networkMode dockerBridgeCidr ipamProfile staticEgressGatewayProfile"), map[string]string{
		"advancedNetworking": "observability and policies by names of hosts change no address, and are left out",
		"kubeProxyConfig":    "nodes balance Services as kube-proxy does by default",
	}
}

// azureLoadBalancer is a loadBalancerProfile.
type azureLoadBalancer struct {
	AllocatedOutboundPorts int       `json:"allocatedOutboundPorts"`
	IdleTimeoutInMinutes   int       `json:"idleTimeoutInMinutes"`
	EffectiveOutboundIPs   []azureID `json:"effectiveOutboundIPs"`
	HealthProbeMode        string    `json:"clusterServiceLoadBalancerHealthProbeMode"`
	ManagedOutboundIPs     struct {
		Count     int `json:"count"`
		CountIPv6 int `json:"countIPv6"`
	} `json:"managedOutboundIPs"`
	OutboundIPs struct {
		PublicIPs []azureID `json:"publicIPs"`
	} `json:"outboundIPs"`
	OutboundIPPrefixes struct {
		PublicIPPrefixes []azureID `json:"publicIPPrefixes"`
	} `json:"outboundIPPrefixes"`
}

// Others returns the other fields.
func (azureLoadBalancer) Others() ([]string, map[string]string) {
	return []string{"backendPoolType"}, map[string]string{
		"enableMultipleStandardLoadBalancers": "a cluster has one load balancer",
	}
}

// azureGateway is a natGatewayProfile.
type azureGateway struct {
	IdleTimeoutInMinutes     int       `json:"idleTimeoutInMinutes"`
	EffectiveOutboundIPs     []azureID `json:"effectiveOutboundIPs"`
	ManagedOutboundIPProfile struct {
		Count     int `json:"count"`
		CountIPv6 int `json:"countIPv6"`
	} `json:"managedOutboundIPProfile"`
}

// Others returns the other fields.
func (azureGateway) Others() ([]string, map[string]string) {
	return nil, map[string]string{
		"outboundIPs":        "a gateway with addresses of the user's own is outboundType userAssignedNATGateway",
		"outboundIPPrefixes": "a gateway with addresses of the user's own is outboundType userAssignedNATGateway",
	}
}

// azurePool is an agentPool.
type azurePool struct {
	Name                 string            `json:"name"`
	Count                int               `json:"count"`
	MinCount             int               `json:"minCount"`
	MaxCount             int               `json:"maxCount"`
	EnableAutoScaling    bool              `json:"enableAutoScaling"`
	MaxPods              int               `json:"maxPods"`
	Mode                 string            `json:"mode"`
	OSType               string            `json:"osType"`
	OSSKU                string            `json:"osSku"`
	VnetSubnetID         string            `json:"vnetSubnetId"`
	EnableNodePublicIP   bool              `json:"enableNodePublicIp"`
	NodePublicIPPrefixID string            `json:"nodePublicIpPrefixId"`
	NodeLabels           map[string]string `json:"nodeLabels"`
	NodeTaints           []string          `json:"nodeTaints"`
	NetworkProfile       azurePoolNetwork  `json:"networkProfile"`
	UpgradeSettings      azureUpgrade      `json:"upgradeSettings"`
	LocalDNSProfile      azureLocalDNS     `json:"localDnsProfile"`
	GatewayProfile       azurePoolGateway  `json:"gatewayProfile"`
	WindowsProfile       azurePoolWindows  `json:"windowsProfile"`
	Type                 string            `json:"type"`               // in az aks show
	TypePropertiesType   string            `json:"typePropertiesType"` // the same in az aks nodepool list
	VMSize               string            `json:"vmSize"`
	PowerState           azurePowerState   `json:"powerState"`
}

// azurePoolGateway is the gatewayProfile of an agentPool of mode Gateway.
type azurePoolGateway struct {
	PublicIPPrefixSize int `json:"publicIpPrefixSize"`
}

// Others returns the other fields.
func (azurePool) Others() ([]string, map[string]string) {
	return strings.Fields(`id eTag etag resourceGroup systemData artifactStreamingProfile availabilityZones capacityReservationGroupId creationData
			currentOrchestratorVersion enableCustomCaTrust enableEncryptionAtHost enableFips enableUltraSsd
			gpuInstanceProfile gpuProfile hostGroupId kubeletConfig kubeletDiskType messageOfTheDay
			nodeImageVersion nodeInitializationTaints nodeCustomizationProfile orchestratorVersion osDiskSizeGb
			osDiskType podIpAllocationMode provisioningState
			proximityPlacementGroupId scaleDownMode scaleSetEvictionPolicy scaleSetPriority securityProfile
			spotMaxPrice status tags upgradeStrategy upgradeSettingsBlueGreen
			virtualMachineNodesStatus virtualMachinesProfile workloadRuntime`), map[string]string{
			"linuxOsConfig": "what sysctls change of connections and ports of nodes is for ceilings of a cluster file",
			"podSubnetId":   "pods have addresses of the overlay or of their node's subnet, not of another one",
		}
}

// azurePoolWindows is the windowsProfile of an agentPool.
type azurePoolWindows struct {
	DisableOutboundNAT bool `json:"disableOutboundNat"`
}

// azurePoolNetwork is the networkProfile of an agentPool.
type azurePoolNetwork struct {
	AllowedHostPorts []azurePortRange `json:"allowedHostPorts"`
	NodePublicIPTags []azureIPTag     `json:"nodePublicIPTags"`
}

// Others returns the other fields.
func (azurePoolNetwork) Others() ([]string, map[string]string) {
	return nil, map[string]string{"applicationSecurityGroups": "the groups of the nodes' interfaces are those that AKS makes; others are for securityGroups of a cluster file"}
}

// azurePortRange is a range of host ports.
type azurePortRange struct {
	PortStart int    `json:"portStart"`
	PortEnd   int    `json:"portEnd"`
	Protocol  string `json:"protocol"`
}

// azureIPTag is a tag of an address.
type azureIPTag struct {
	IPTagType string `json:"ipTagType"`
	Tag       string `json:"tag"`
}

// azureUpgrade is how a pool is upgraded.
type azureUpgrade struct {
	MaxSurge string `json:"maxSurge"`
}

// Others returns the other fields.
func (azureUpgrade) Others() ([]string, map[string]string) {
	return strings.Fields("maxUnavailable drainTimeoutInMinutes nodeSoakDurationInMinutes undrainableNodeBehavior maxBlockedNodes"), nil
}

// azureLocalDNS is the localDnsProfile of an agentPool.
type azureLocalDNS struct {
	Mode  string `json:"mode"`
	State string `json:"state"`
}

// Others returns the other fields.
func (azureLocalDNS) Others() ([]string, map[string]string) {
	return []string{"vnetDnsOverrides", "kubeDnsOverrides"}, nil
}

// azureRule is an outbound rule of a load balancer.
type azureRule struct {
	Name                     string    `json:"name"`
	AllocatedOutboundPorts   int       `json:"allocatedOutboundPorts"`
	EnableTCPReset           *bool     `json:"enableTcpReset"`
	FrontendIPConfigurations []azureID `json:"frontendIPConfigurations"`
	IdleTimeoutInMinutes     int       `json:"idleTimeoutInMinutes"`
	Protocol                 string    `json:"protocol"`
}

// Others returns the other fields.
func (azureRule) Others() ([]string, map[string]string) {
	return strings.Fields("id type etag resourceGroup provisioningState backendAddressPool"), nil
}
