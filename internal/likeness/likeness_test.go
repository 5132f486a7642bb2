package likeness

import (
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

type leaf struct{ n int }

type tree struct {
	number  int
	list    []int
	leaf    *leaf
	table   map[string]*leaf
	current atomic.Pointer[leaf]
	ask     func()
	any     any
	self    *tree
}

var global leaf

func grow() *tree {
	t := &tree{number: 1, list: []int{1, 2}, leaf: &leaf{3}, table: map[string]*leaf{"a": {4}}, any: &leaf{5}}
	t.current.Store(&leaf{6})
	t.self = t
	return t
}

// A copy that is alike has no differences; whatever is forgotten or shared is named.
func TestCompare(t *testing.T) {
	require.Empty(t, Compare(grow(), grow(), nil))
	for want, spoil := range map[string]func(a, b *tree){
		"tree.number":          func(a, b *tree) { b.number = 0 },
		"tree.list":            func(a, b *tree) { b.list = a.list },
		"tree.leaf":            func(a, b *tree) { b.leaf = a.leaf },
		"leaf.n":               func(a, b *tree) { b.current.Load().n = 0 },
		"tree.table":           func(a, b *tree) { b.table["a"] = a.table["a"] },
		"atomic.Pointer[leaf]": func(a, b *tree) { b.current.Store(nil) },
		"tree.ask":             func(a, b *tree) { a.ask, b.ask = func() {}, func() {} },
		"tree.any":             func(a, b *tree) { b.any = a.any },
		"tree.self":            func(a, b *tree) { b.self = a },
	} {
		a, b := grow(), grow()
		spoil(a, b)
		found := Compare(a, b, nil)
		require.Len(t, found, 1, want)
		require.Contains(t, found[0], want)
		require.Empty(t, Compare(a, b, map[string]string{"tree.number": "", "tree.list": "", "tree.leaf": "", "leaf.n": "", "tree.table": "", "tree.current": "", "tree.ask": "", "tree.any": "", "tree.self": ""}))
	}
	a, b := grow(), grow()
	a.leaf, b.leaf = &global, &global
	require.Empty(t, Compare(a, b, nil), "what is in the program is everybody's")
}
