package nsg_test

import (
	"fmt"
	"net/netip"

	"github.com/seed-a61be3fe/natplane/lb/nsg"
)

// shop is a virtual network with a group that lets HTTPS in, and keeps a database to
// those that may ask it.
func shop() nsg.Config {
	return nsg.Config{
		VirtualNetwork: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/16")},
		ApplicationSecurityGroups: []nsg.ApplicationSecurityGroup{
			{Name: "logic", Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.3")}},
			{Name: "database", Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.9")}},
		},
		NetworkSecurityGroups: []nsg.NetworkSecurityGroup{{Name: "shop", SecurityRules: []nsg.SecurityRule{
			{
				Name: "AllowHTTPS", Priority: 100, Access: nsg.Allow, Protocol: nsg.TCP,
				SourceAddressPrefixes: []string{"Internet"}, DestinationAddressPrefixes: []string{"10.0.0.4", "10.0.0.5"}, DestinationPortRanges: []string{"443"},
			},
			{
				Name: "AllowLogic", Priority: 200, Access: nsg.Allow, Protocol: nsg.TCP,
				SourceApplicationSecurityGroups: []string{"logic"}, DestinationApplicationSecurityGroups: []string{"database"}, DestinationPortRanges: []string{"1433"},
			},
			{
				Name: "DenyDatabase", Priority: 300, Access: nsg.Deny,
				SourceAddressPrefixes: []string{"*"}, DestinationApplicationSecurityGroups: []string{"database"}, DestinationPortRanges: []string{"*"},
			},
		}}},
		Subnets: []nsg.Subnet{{Name: "default", AddressPrefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}, NetworkSecurityGroup: "shop"}},
	}
}

func inbound(source, destination string) nsg.Flow {
	return nsg.Flow{Direction: nsg.Inbound, Protocol: 6, Source: netip.MustParseAddrPort(source), Destination: netip.MustParseAddrPort(destination)}
}

func ExampleCompiled_Evaluate() {
	groups, err := nsg.Compile(shop())
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, f := range []nsg.Flow{
		inbound("203.0.113.9:50000", "10.0.0.4:443"),
		inbound("203.0.113.9:50000", "10.0.0.4:22"),
		inbound("10.0.0.4:40000", "10.0.0.9:1433"),
		inbound("10.0.0.3:40000", "10.0.0.9:1433"),
	} {
		d := groups.Evaluate(f)
		fmt.Printf("%v: %v by %s (%d) of %v group %s\n", f, d.Access, d.Rule, d.Priority, d.Level, d.Group)
	}
	// Output:
	// Inbound Tcp 203.0.113.9:50000 > 10.0.0.4:443: Allow by AllowHTTPS (100) of subnet group shop
	// Inbound Tcp 203.0.113.9:50000 > 10.0.0.4:22: Deny by DenyAllInbound (65500) of subnet group shop
	// Inbound Tcp 10.0.0.4:40000 > 10.0.0.9:1433: Deny by DenyDatabase (300) of subnet group shop
	// Inbound Tcp 10.0.0.3:40000 > 10.0.0.9:1433: Allow by AllowLogic (200) of subnet group shop
}

func ExampleCompiled_Explain() {
	groups, err := nsg.Compile(shop())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(groups.Explain(inbound("203.0.113.9:50000", "10.0.0.4:22")))
	// Output:
	// Inbound Tcp 203.0.113.9:50000 > 10.0.0.4:22: Deny
	//   subnet group shop
	//     100 AllowHTTPS: no: destination port 22 is not in 443
	//     200 AllowLogic: no: source address 203.0.113.9 is not in logic
	//     300 DenyDatabase: no: destination address 10.0.0.4 is not in database
	//     65000 AllowVNetInBound: no: source address 203.0.113.9 is not in VirtualNetwork
	//     65001 AllowAzureLoadBalancerInBound: no: source address 203.0.113.9 is not in AzureLoadBalancer
	//     65500 DenyAllInbound: Deny
}

func ExampleCompiled_Admit() {
	groups, err := nsg.Compile(shop())
	if err != nil {
		fmt.Println(err)
		return
	}
	inside, client := netip.MustParseAddrPort("10.0.0.4:22"), netip.MustParseAddrPort("203.0.113.9:50000")
	reason := groups.Admit(nsg.Inbound, 6, inside, client, netip.Addr{})
	fmt.Println(reason, "-", reason.Sentence())
	// Output:
	// nsg_inbound - A network security group denies the inbound flow.
}

func ExampleAddService() {
	rules, err := nsg.AddService(nil, nsg.Service{
		Ports:                     []nsg.ServicePort{{Protocol: nsg.TCP, Port: 443, NodePort: 30443}},
		Frontends:                 []netip.Addr{netip.MustParseAddr("20.50.1.1")},
		LoadBalancerSourceRanges:  []string{"198.51.100.0/24", "203.0.113.0/24"},
		DenyAllExceptSourceRanges: true,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, r := range rules {
		fmt.Println(r.Priority, r.Name, r.Access, r.Protocol, r.SourceAddressPrefixes, ">", r.DestinationAddressPrefixes, r.DestinationPortRanges)
	}
	// Output:
	// 500 k8s-azure-lb_allow_IPv4_51d6401658fa4fcc20fb22bd76542cdb Allow Tcp [198.51.100.0/24 203.0.113.0/24] > [20.50.1.1] [443]
	// 4095 k8s-azure-lb_deny-all_IPv4 Deny * [*] > [20.50.1.1] [*]
}

func ExampleAddHostPorts() {
	ports, err := nsg.ParseHostPorts("80/tcp,40000-60000/tcp,53/udp")
	if err != nil {
		fmt.Println(err)
		return
	}
	rules, err := nsg.AddHostPorts(nil, ports, "nodepool1")
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, r := range rules {
		fmt.Println(r.Priority, r.Name, r.Access, r.SourceAddressPrefixes, ">", r.DestinationApplicationSecurityGroups, r.DestinationPortRanges)
	}
	// Output:
	// 500 aks-allowed-host-ports_Tcp_nodepool1 Allow [Internet] > [nodepool1] [80 40000-60000]
	// 501 aks-allowed-host-ports_Udp_nodepool1 Allow [Internet] > [nodepool1] [53]
}
