// TUN devices: the place where a program stands in for a router. See
// Documentation/networking/tuntap.rst of the Linux kernel.

package netlab

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// TUN makes a TUN device in the namespace, up and with the given addresses, and
// opens it: each Read takes one IP packet that the kernel routed to the device,
// each Write, one IP packet, hands it to the kernel as received from the device.
// Deadlines work, and Close, which also removes the device, ends a pending Read.
// Packets have no header before the IP header, are never longer than the
// device's MTU of 1500 bytes and carry complete checksums.
func (n *Namespace) TUN(dev string, addrs ...string) *os.File {
	n.tb.Helper()
	f, err := open(n, func() (*os.File, error) { return OpenTUN(dev) })
	if err != nil {
		n.tb.Fatalf("netlab: %s: %v", n.name, err)
	}
	n.tb.Cleanup(func() { f.Close() }) // an error says that the test closed it
	n.up(dev, addrs)
	n.waitUp(dev)
	return f
}

// OpenTUN opens the TUN device named dev in the current namespace and makes it if
// it does not exist. The file is as described at Namespace.TUN. Errors: no access
// to /dev/net/tun, a name longer than 15 bytes, a device that is in use.
func OpenTUN(dev string) (*os.File, error) {
	const path = "/dev/net/tun"
	req, err := unix.NewIfreq(dev)
	if err != nil {
		return nil, fmt.Errorf("TUN device name %q: %w", dev, err)
	}
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("TUN device %q: %w", dev, err)
	}
	// Only now: the poller does not accept a file without a device.
	return os.NewFile(uintptr(fd), path), nil
}
