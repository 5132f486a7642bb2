package staticgateway

import (
	"iter"
	"maps"
	"slices"
	"sync/atomic"
)

// user is a user, and where its packets go. It never changes.
type user struct {
	name    string // of the gateway
	gateway *gateway
	exit    *exit // nil if there is none
}

// page is the users of 256 addresses, such as the pods of a node, by their last byte.
type page [256]atomic.Pointer[user]

// view is what packets see. Its exits and its pages never change, but what is on the pages does, under Set.mu.
type view struct {
	pages map[uint32]*page // by the first 24 bits of addresses
	exits map[uint32]*exit // by address
	order []*exit          // the same, by address ascending
}

// none is what packets see before anything is in force.
var none view

// seen returns the view in force.
func (s *Set) seen() *view {
	if v := s.view.Load(); v != nil {
		return v
	}
	return &none
}

// user returns the user of an address, or nil.
func (v *view) user(a uint32) *user {
	if p := v.pages[a>>8]; p != nil {
		return p[a&0xff].Load()
	}
	return nil
}

// put makes an address that of a user, or nobody's if that is nil. Unless it is, the page must exist.
func (v *view) put(a uint32, u *user) {
	if p := v.pages[a>>8]; p != nil {
		p[a&0xff].Store(u)
	}
}

// withPage returns the view, or one like it, that has the page of an address. Cost: O(pages) if it is new.
func (v *view) withPage(a uint32) *view {
	if v.pages[a>>8] != nil {
		return v
	}
	next := *v
	if next.pages = maps.Clone(v.pages); next.pages == nil {
		next.pages = make(map[uint32]*page)
	}
	next.pages[a>>8] = new(page)
	return &next
}

// with returns the view with other exits.
func (v *view) with(exits map[uint32]*exit) *view {
	next := &view{pages: v.pages, exits: exits}
	for _, a := range slices.Sorted(maps.Keys(exits)) {
		next.order = append(next.order, exits[a])
	}
	return next
}

// all iterates over the users, by address, in no order.
func (v *view) all() iter.Seq2[uint32, *user] {
	return func(yield func(uint32, *user) bool) {
		for high, p := range v.pages {
			for low := range p {
				if u := p[low].Load(); u != nil && !yield(high<<8|uint32(low), u) {
					return
				}
			}
		}
	}
}
