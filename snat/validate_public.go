package snat

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
)

// What a public address must be: the instance's alone, and standing for an own
// address that is not among those it shares it with.

// public complains about public addresses that are not the instance's alone, or
// stand for nothing.
func (v *validation) public(instances []Instance) {
	var users users
	for i := range instances {
		users.add(i, &instances[i])
	}
	for i := range instances {
		inst := &instances[i]
		var families [2]bool
		for j, a := range inst.PublicAddrs {
			complain := func(err error, format string, args ...any) {
				v.Add(fmt.Sprintf("Instances[%d].PublicAddrs[%d]", i, j), a, err, format, args...)
			}
			if !flow.IsHost(a) {
				complain(flow.ErrAddress, "")
				continue
			}
			if f := flow.Family(a); families[f] {
				complain(flow.ErrTooMany, "one address per family")
				continue
			} else {
				families[f] = true
			}
			if user := users.of(a); user != "" {
				complain(ErrPublic, "it is in use by %s", user)
			}
			users.use(netip.PrefixFrom(a, a.BitLen()), "Instances[%d].PublicAddrs[%d] %v", i, j, a)
			own := slices.IndexFunc(inst.Addrs, func(b netip.Addr) bool { return b.IsValid() && flow.Family(b) == flow.Family(a) })
			if own < 0 {
				complain(ErrPublic, "Addrs has no address of its family")
				continue
			}
			for k, p := range inst.Inside {
				if p.Contains(inst.Addrs[own]) {
					complain(ErrPublic, "what it stands for, Addrs[%d] %v, lies in Inside[%d] %v", own, inst.Addrs[own], k, p)
				}
			}
		}
	}
}

// users says which field of a configuration uses an address.
type users struct {
	fields map[netip.Prefix]string
	bits   [129]bool // lengths of the prefixes in fields
}

// add notes all that an instance uses, except for its public addresses.
func (u *users) add(i int, inst *Instance) {
	for j, a := range inst.Addrs {
		u.use(netip.PrefixFrom(a, a.BitLen()), "Instances[%d].Addrs[%d] %v", i, j, a)
	}
	for j, p := range inst.Inside {
		u.use(p.Masked(), "Instances[%d].Inside[%d] %v", i, j, p)
	}
	for j, r := range inst.Ports {
		u.use(netip.PrefixFrom(r.Frontend, r.Frontend.BitLen()), "Instances[%d].Ports[%d].Frontend %v", i, j, r.Frontend)
	}
}

// use notes the first user of a prefix.
func (u *users) use(p netip.Prefix, format string, args ...any) {
	if u.fields == nil {
		u.fields = map[netip.Prefix]string{}
	}
	if _, ok := u.fields[p]; !ok && p.IsValid() {
		u.fields[p], u.bits[p.Bits()] = fmt.Sprintf(format, args...), true
	}
}

// of returns the user of an address, or "".
func (u *users) of(a netip.Addr) string {
	for n := a.BitLen(); n >= 0; n-- {
		if u.bits[n] {
			if p, err := a.Prefix(n); err == nil && u.fields[p] != "" {
				return u.fields[p]
			}
		}
	}
	return ""
}
