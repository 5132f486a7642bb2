// Package seats makes a translator in which instances have the indexes that they have in
// another one, which has run before and may have gaps. It relies on what [snat.NAT.Reconfigure]
// says of indexes: they stay as long as their instances do, and a new one gets the lowest that
// is free.
//
// It refuses to know what the translators are for.
package seats

import (
	"slices"
	"strconv"
	"strings"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat"
)

// New returns the translator that t describes, as if it had come to that at now from the
// instances that like has. So, if like is then given the instances of t in the same order,
// both have the same indexes. like is only read; nil is none. Errors are those of
// [snat.New]. Cost: that of two reconfigurations, unless the indexes are those of t anyway.
func New(now flow.Time, t snat.Config, like *snat.NAT) (*snat.NAT, error) {
	seated := taken(like)
	if plain := slices.EqualFunc(seated, t.Instances, func(a, b snat.Instance) bool { return a.Name == b.Name }); plain || len(seated) == 0 {
		return snat.New(t)
	}
	gap := gapName(seated)
	for i := range seated {
		if seated[i].Name == "" {
			seated[i].Name = gap + strconv.Itoa(i)
		}
	}
	former := t
	former.Instances = seated
	n, err := snat.New(former)
	if err != nil {
		return nil, err
	}
	former.Instances = slices.DeleteFunc(seated, func(i snat.Instance) bool { return strings.HasPrefix(i.Name, gap) })
	for _, next := range [...]snat.Config{former, t} {
		if _, err := n.Reconfigure(now, next); err != nil {
			n.Close()
			return nil, err
		}
	}
	return n, nil
}

// taken returns the instances of a translator by index, by name only. Gaps have no name.
func taken(like *snat.NAT) (seated []snat.Instance) {
	if like == nil {
		return nil
	}
	for i, inst := range like.Instances() {
		for len(seated) <= i {
			seated = append(seated, snat.Instance{})
		}
		seated[i].Name = inst.Name
	}
	return seated
}

// gapName returns what no name of an instance begins with: it is longer than all.
func gapName(seated []snat.Instance) string {
	longest := 0
	for i := range seated {
		longest = max(longest, len(seated[i].Name))
	}
	return strings.Repeat("-", longest+1)
}
