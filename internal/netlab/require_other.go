//go:build !linux

package netlab

import (
	"fmt"
	"runtime"
)

// canUnshare reports why network namespaces cannot be made: they are Linux's.
func canUnshare() error { return fmt.Errorf("network namespaces need linux, this is %s", runtime.GOOS) }
