package manifest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/overlay/manifest"
)

// What AKS refuses together is refused by its name, whichever file says it, and what is allowed and not
// modelled is listed.
func TestWhatAKSRefuses(t *testing.T) {
	const (
		show    = "show"    // fields of az aks show
		network = "network" // of its networkProfile
		pool    = "pool"    // of its second pool
		list    = "list"    // of a pool of az aks nodepool list
		cluster = "cluster" // lines of a cluster file
	)
	const (
		two      = `"networkPlugin": "azure", "networkPluginMode": "overlay", "ipFamilies": ["IPv4", "IPv6"]`
		subnet   = `"networkPlugin": "azure"`
		overlaid = `"networkPluginMode": "overlay", "networkPlugin": "azure"`
	)
	for _, tt := range []struct{ name, where, what, network, err, omitted string }{
		{"availability set", pool, `"type": "AvailabilitySet"`, overlaid, `az:4: agentPoolProfiles[1].type "AvailabilitySet": conflict: nodes are in scale sets: availability sets go not with networkPluginMode overlay`, ""},
		{"availability set of a pool alone", list, `"typePropertiesType": "AvailabilitySet"`, "", `pools:1: [0].typePropertiesType "AvailabilitySet": conflict: nodes are in scale sets: availability sets go not with networkPluginMode overlay`, ""},
		{"availability set, node subnet", pool, `"type": "AvailabilitySet"`, subnet, "", "az:4: agentPoolProfiles[1].type AvailabilitySet: its nodes are taken for those of a scale set"},
		{"scale set", pool, `"type": "VirtualMachineScaleSets"`, overlaid, "", ""},
		{"DCsv2", pool, `"vmSize": "Standard_DC4s_v2"`, overlaid, `az:4: agentPoolProfiles[1].vmSize "Standard_DC4s_v2": conflict: machines of the DCsv2 series go not with networkPluginMode overlay`, ""},
		{"DC8_v2", list, `"vmSize": "standard_dc8_v2"`, "", `pools:1: [0].vmSize "standard_dc8_v2": conflict: machines`, ""},
		{"DCsv2, node subnet", pool, `"vmSize": "Standard_DC4s_v2"`, subnet, "", ""},
		{"DCsv3", pool, `"vmSize": "Standard_DC4s_v3"`, overlaid, "", ""},
		{"virtual nodes", show, `"addonProfiles": {"aciConnectorLinux": {"enabled": true, "config": {"SubnetName": "s"}, "identity": null}}`, overlaid, `az:2: addonProfiles[aciConnectorLinux] "aciConnectorLinux": conflict: virtual nodes go not with networkPluginMode overlay`, ""},
		{"virtual nodes, two families", show, `"addonProfiles": {"aciConnectorLinux": {"enabled": true}}`, `"networkPlugin": "kubenet", "ipFamilies": ["IPv4", "IPv6"]`, "conflict: virtual nodes go not with two families", ""},
		{"virtual nodes, node subnet", show, `"addonProfiles": {"aciConnectorLinux": {"enabled": true}}`, subnet, "", "az:2: addonProfiles[aciConnectorLinux] aciConnectorLinux: no virtual node is there, and pods for one are pending"},
		{"virtual nodes switched off", show, `"addonProfiles": {"aciConnectorLinux": {"enabled": false, "config": null}}`, overlaid, "", ""},
		{"Application Gateway", show, `"addonProfiles": {"ingressApplicationGateway": {"enabled": true, "config": {"applicationGatewayName": "g"}}}`, overlaid, "", "az:2: addonProfiles[ingressApplicationGateway] ingressApplicationGateway: an Application Gateway is a host"},
		{"Application Gateway for Containers", show, `"ingressProfile": {"applicationLoadBalancer": {"enabled": true}, "webAppRouting": null}`, overlaid, "", "az:2: ingressProfile.applicationLoadBalancer: an Application Gateway is a host"},
		{"other addons", show, `"addonProfiles": {"omsagent": {"enabled": true, "config": {}}, "azurepolicy": {"enabled": true}, "x": null}, "ingressProfile": null`, overlaid, "", ""},
		{"version too old for two families", show, `"kubernetesVersion": "1.26.2"`, two, `az:2: kubernetesVersion "1.26.2": conflict: two families with networkPluginMode overlay need 1.26.3`, ""},
		{"present version", show, `"kubernetesVersion": "1.27", "currentKubernetesVersion": "1.26.0"`, two, `az:2: currentKubernetesVersion "1.26.0": conflict`, ""},
		{"version of one public address", show, `"kubernetesVersion": "1.26"`, two, "", "az:2: kubernetesVersion 1.26: before 1.27 a Service of two families"},
		{"version", show, `"kubernetesVersion": "1.33"`, two, "", ""},
		{"Cilium's dataplane", network, `"networkDataplane": "cilium"`, overlaid, "", "az:3: networkProfile.networkDataplane cilium: nodes balance Services as kube-proxy does"},
		{"Cilium's dataplane and Windows", pool, `"osType": "Windows"`, overlaid + `, "networkDataplane": "cilium"`, `az:3: networkProfile.networkDataplane "cilium": conflict: is for Linux nodes only`, ""},
		{"stopped pool", pool, `"powerState": {"code": "Stopped"}`, overlaid, "", "az:4: agentPoolProfiles[1].powerState.code Stopped: its nodes are taken for running ones"},
		{"stopped cluster", show, `"powerState": {"code": "Stopped"}`, overlaid, "", "az:2: powerState.code Stopped: its nodes are taken for running ones"},
		{"sysctls", pool, `"linuxOsConfig": {"sysctls": {"netNetfilterNfConntrackMax": 131072}}`, overlaid, "", "az:4: agentPoolProfiles[1].linuxOsConfig {1 fields}: what sysctls change"},
		{"pod subnet", pool, `"podSubnetId": "/x"`, subnet, "", "az:4: agentPoolProfiles[1].podSubnetId \"/x\": pods have addresses of the overlay or of their node's subnet"},
		{"link-local", network, `"podLinkLocalAccess": "Some"`, overlaid, `az:3: networkProfile.podLinkLocalAccess "Some": out of range: IMDS or None`, ""},
		{"several load balancers", network, `"loadBalancerProfile": {"enableMultipleStandardLoadBalancers": true}`, overlaid, "", "a cluster has one load balancer"},
		{"plugin of one's own", network, `"networkPlugin": "none"`, "", `az:3: networkProfile.networkPlugin "none": not modelled`, ""},
		{"two families and NPM", network, `"networkPolicy": "azure"`, two, "networkProfile.networkPolicy azure: conflict: not in a cluster of two families", ""},
		{"two families and Calico", network, `"networkPolicy": "calico"`, two, "networkProfile.networkPolicy calico: conflict: not in a cluster of two families", ""},
		{"two families and a gateway", network, `"outboundType": "managedNATGateway"`, two, "networkProfile.outboundType managedNATGateway: conflict: a NAT gateway of SKU Standard does not serve", ""},
		{"order of families", network, `"ipFamilies": ["IPv6", "IPv4"]`, overlaid, `networkProfile.ipFamilies "ipv6,ipv4": wrong address family: must be`, ""},
		{"kubenet and Windows", pool, `"osType": "Windows"`, `"networkPlugin": "kubenet"`, "agentPoolProfiles[1].osType Windows: conflict: NetworkPlugin kubenet is for Linux nodes only", ""},
		{"kubenet and Cilium", network, `"networkPolicy": "cilium"`, `"networkPlugin": "kubenet"`, "networkProfile.networkPolicy cilium: conflict: with NetworkPlugin kubenet there is calico only", ""},
		{"OutboundNAT of a load balancer", pool, `"osType": "Windows", "windowsProfile": {"disableOutboundNat": true}`, overlaid, "agentPoolProfiles[1].windowsProfile.disableOutboundNat true: conflict: needs a NAT gateway or userDefinedRouting", ""},
		{"few pods", pool, `"maxPods": 9`, overlaid, "agentPoolProfiles[1].maxPods 9: out of range: 10..250", ""},
		{"large service range", network, `"serviceCidr": "10.0.0.0/12"`, overlaid, "networkProfile.serviceCidr 10.0.0.0/12: ", ""},
		{"reserved range", network, `"serviceCidr": "172.30.0.0/16"`, overlaid, "networkProfile.serviceCidr 172.30.0.0/16: reserved", ""},
		{"ranges that overlap", network, `"podCidr": "10.0.0.0/16"`, overlaid, "10.0.0.0/16: overlap", ""},
		{"first address for DNS", network, `"dnsServiceIp": "10.0.0.1"`, overlaid, "networkProfile.dnsServiceIp 10.0.0.1: ", ""},
		{"long name", pool, `"vnetSubnetId": "/resourceGroups/g/virtualNetworks/v/subnets/` + strings.Repeat("s", 64) + `"`, overlaid, `az:4: agentPoolProfiles[1].vnetSubnetId "ssss`, ""},
		{"Basic and two pools", network, `"loadBalancerSku": "basic"`, overlaid, "conflict: LoadBalancerSKU Basic has one node pool", ""},
		{"cluster file, Basic and a gateway", cluster, "loadBalancerSKU: Basic\noutboundType: managedNATGateway", "", "c:4: outboundType managedNATGateway: conflict: LoadBalancerSKU Basic has loadBalancer only", ""},
		{"host ports", pool, `"networkProfile": {"allowedHostPorts": [{"portStart": 90, "portEnd": 80, "protocol": "TCP"}]}, "enableNodePublicIp": true`, overlaid, `agentPoolProfiles[1].networkProfile.allowedHostPorts[0] "90-80/tcp": `, ""},
		{"cluster file, prefix of outbound IPs", cluster, "loadBalancerProfile: {outboundIPPrefixes: [203.0.112.0/24]}", "", "loadBalancerProfile.outboundIPPrefixes[0] 203.0.112.0/24: out of range: ", ""},
		{"cluster file, kubenet", cluster, "networkPlugin: kubenet\npodCIDRs: [10.240.0.0/13]\nvnet: {addressSpaces: [10.224.0.0/16], subnets: [{name: s, addressPrefixes: [10.224.0.0/16]}]}\nnodePools: [{name: a, count: 401}]", "", "401, and the routes of a subnet serve 400", ""},
		{"cluster file, pod range in a node subnet", cluster, "networkPlugin: nodeSubnet\npodCIDRs: [10.244.0.0/16]", "", "podCIDRs [10.244.0.0/16]: conflict: with NetworkPlugin nodeSubnet", ""},
		{"cluster file, nodes of a pod range", cluster, "podCIDRs: [10.244.0.0/24]\nnodePools: [{name: a, count: 2}]", "", "podCIDRs[0] 10.244.0.0/24: too many nodes", ""},
		{"cluster file, one prefix of two", cluster, "ipFamilies: ipv4,ipv6\nnodePools: [{name: a, count: 1, nodePublicIP: {enabled: true, prefixes: [20.9.0.0/28]}}]", "", "nodePools[0].nodePublicIP.prefixes", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var files []manifest.File
			put := func(where string) string {
				if tt.where == where {
					return ", " + tt.what
				}
				return ""
			}
			switch tt.where {
			case cluster:
				files = append(files, file("c", "apiVersion: natplane/v1\nkind: Cluster\n"+tt.what+"\n"))
			case list:
				files = append(files, file("pools", `[{"name": "a", "count": 1, "orchestratorVersion": "1.33"`+put(list)+`}]`))
			default:
				if tt.network != "" && tt.where == network {
					tt.network += ", "
				}
				if tt.where == network {
					tt.network += tt.what
				}
				files = append(files, file("az", fmt.Sprintf("{\n\"name\": \"c\"%s,\n\"networkProfile\": {%s},\n\"agentPoolProfiles\": [{\"name\": \"a\", \"count\": 1}, {\"name\": \"b\", \"count\": 1%s}]}", put(show), tt.network, put(pool))))
			}
			c, err := manifest.Read(files...)
			if tt.err != "" {
				require.ErrorContains(t, err, tt.err)
				assert.NotContains(t, err.Error(), "\n", "one problem")
				return
			}
			require.NoError(t, err)
			var omitted []string
			for _, o := range c.NotModelled {
				omitted = append(omitted, o.String())
			}
			if tt.omitted == "" {
				assert.Empty(t, omitted)
			} else if assert.Len(t, omitted, 1) {
				assert.Contains(t, omitted[0], tt.omitted)
			}
		})
	}
	c, err := manifest.Read(file("az", `{"agentPoolProfiles": [{"name": "a", "count": 1}], "networkProfile": {"podLinkLocalAccess": "None"}}`))
	require.NoError(t, err)
	assert.True(t, c.Config.RestrictIMDS)
}
