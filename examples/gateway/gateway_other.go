//go:build !linux

package main

import (
	"context"
	"errors"
	"io"
)

var errLinux = errors.New("TUN devices and network namespaces need Linux")

func serve(context.Context, options, io.Writer) error { return errLinux }

func selftest(context.Context, string, io.Writer) error { return errLinux }
