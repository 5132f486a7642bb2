// TUN devices, up for as long as the gateway has them. See netdevice(7).

package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/seed-a61be3fe/natplane/internal/netlab"
)

// device is an open TUN device.
type device struct {
	*os.File
	name   string
	raised bool // it was down before
}

// openDevice opens a TUN device, makes it if it does not exist, and sets it up.
func openDevice(name string) (*device, error) {
	f, err := netlab.OpenTUN(name)
	if err != nil {
		return nil, err
	}
	d := &device{File: f, name: name}
	if d.raised, err = setUp(name, true); err != nil {
		f.Close()
		return nil, err
	}
	return d, nil
}

// Close leaves the device as it was: down if it was down, gone if it was made
// here. Later calls return an error and do nothing.
func (d *device) Close() error {
	if d.raised {
		d.raised = false
		_, _ = setUp(d.name, false) // fails only if somebody has removed it
	}
	return d.File.Close()
}

// setUp sets a device of the current namespace up or down and reports whether
// that was a change.
func setUp(name string, up bool) (changed bool, err error) {
	req, err := unix.NewIfreq(name)
	if err != nil {
		return false, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false, fmt.Errorf("device %q: %w", name, err)
	}
	defer unix.Close(fd)
	if err = unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, req); err == nil {
		flags := req.Uint16()
		if (flags&unix.IFF_UP != 0) == up {
			return false, nil
		}
		req.SetUint16(flags ^ unix.IFF_UP)
		err = unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
	}
	if err != nil {
		return false, fmt.Errorf("device %q: %w", name, err)
	}
	return true, nil
}
