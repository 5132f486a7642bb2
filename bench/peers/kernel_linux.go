package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/seed-a61be3fe/natplane/internal/netlab"
)

// kernel is a Linux router in a network namespace, between one that sends and one that
// receives: inside ─ in0/in1 ─ router ─ out1/out0 ─ outside.
type kernel struct {
	lab      *labTB
	send0    int // packet socket at in0
	receive0 int // packet socket at out0, open while packets are looked at
	outside  *netlab.Namespace
	device   int      // number of out0
	counters *os.File // /proc/net/dev of the outside
	sent     uint64   // since the last finish
	received uint64   // packets of out0 at the last finish
	messages [batch]message
	vectors  [batch]unix.Iovec
}

// message is struct mmsghdr.
type message struct {
	header unix.Msghdr
	_      uint32
	_      uint32
}

// labTB cleans up at close, and turns the lab's failures into panics that open recovers.
type labTB struct{ cleanups []func() }

func (tb *labTB) Helper()                   {}
func (tb *labTB) Cleanup(fn func())         { tb.cleanups = append(tb.cleanups, fn) }
func (tb *labTB) Fatalf(f string, a ...any) { panic(labError{fmt.Errorf(f, a...)}) }
func (tb *labTB) Skipf(f string, a ...any)  { panic(labError{fmt.Errorf(f, a...)}) }

func (tb *labTB) close() {
	for i := len(tb.cleanups) - 1; i >= 0; i-- {
		tb.cleanups[i]()
	}
	tb.cleanups = nil
}

type labError struct{ error }

// kernelPeers are Linux with and without masquerading, where this process may build them.
func kernelPeers() []peer {
	if os.Getuid() != 0 {
		return nil
	}
	for _, tool := range []string{"ip", "ethtool", "nsenter", "nft"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil
		}
	}
	return []peer{
		{name: "Linux nftables masquerade", most: 64_512, kernel: true, open: openKernel(true),
			unfair: "Does more: routing, two veth pairs, a system call a batch of 64 (sendmmsg on a packet socket), buffers for every packet; compare the next row. Receiving is not part of it."},
		{name: "Linux, forwarding alone", most: 64_512, kernel: true, open: openKernel(false), plain: true,
			unfair: "No translation and no connection tracking: what the row above costs around it."},
	}
}

func openKernel(nat bool) func(int) (translator, error) {
	return func(int) (t translator, err error) {
		k := &kernel{lab: &labTB{}, send0: -1, receive0: -1}
		defer func() {
			if r := recover(); r != nil {
				failed, ok := r.(labError)
				if !ok {
					panic(r)
				}
				k.close()
				t, err = nil, failed.error
			}
		}()
		if err := k.build(nat); err != nil {
			k.close()
			return nil, err
		}
		return k, nil
	}
}

func (k *kernel) build(nat bool) error {
	lab := netlab.New(k.lab, "nft")
	in, router := lab.Namespace("inside"), lab.Namespace("router")
	k.outside = lab.Namespace("outside")
	for _, ns := range []*netlab.Namespace{in, router, k.outside} {
		ns.Sysctl("net.ipv6.conf.default.disable_ipv6", "1") // its announcements would be counted
	}
	lab.Veth(netlab.End{In: in, Dev: "in0", Addrs: []string{"10.0.0.2/24"}}, netlab.End{In: router, Dev: "in1", Addrs: []string{"10.0.0.1/24"}})
	lab.Veth(netlab.End{In: router, Dev: "out1", Addrs: []string{"192.0.2.1/24"}}, netlab.End{In: k.outside, Dev: "out0", Addrs: []string{"192.0.2.2/24"}})
	router.Sysctl("net.ipv4.ip_forward", "1")
	router.Run("ip route add 10.1.0.0/16 via 10.0.0.2")
	router.Run("ip route add 198.18.0.0/15 via 192.0.2.2")
	router.Run("ip neigh replace 192.0.2.2 lladdr " + hardware(k.outside, "out0") + " dev out1 nud permanent")
	if nat {
		router.Run("nft add table ip nat")
		router.Run("nft add chain ip nat post { type nat hook postrouting priority srcnat ; }")
		router.Run("nft add rule ip nat post oifname out1 masquerade")
		router.Sysctl("net.netfilter.nf_conntrack_udp_timeout", "3600")
	}
	to, err := net.ParseMAC(hardware(router, "in1"))
	if err != nil {
		return err
	}
	device := index(in, "in0")
	if k.send0, err = packetSocket(in, device, 0); err != nil {
		return err
	}
	k.aim(to, device)
	k.device = index(k.outside, "out0")
	return k.outside.Do(func() error {
		k.counters, err = os.Open("/proc/thread-self/net/dev")
		if err == nil {
			k.received, err = k.count()
		}
		return err
	})
}

// aim makes the messages by which a batch is sent to a hardware address.
func (k *kernel) aim(to net.HardwareAddr, device int) {
	addr := &unix.RawSockaddrLinklayer{Family: unix.AF_PACKET, Protocol: swapped(unix.ETH_P_IP), Ifindex: int32(device), Halen: 6}
	copy(addr.Addr[:], to)
	for i := range k.messages {
		h := &k.messages[i].header
		h.Name, h.Namelen = (*byte)(unsafe.Pointer(addr)), uint32(unsafe.Sizeof(*addr))
		h.Iov = &k.vectors[i]
		h.SetIovlen(1)
	}
}

func swapped(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}

// hardware returns the address of a device.
func hardware(in *netlab.Namespace, dev string) string {
	fields := strings.Fields(in.Run("ip -o link show dev " + dev))
	for i, f := range fields {
		if f == "link/ether" && i+1 < len(fields) {
			return fields[i+1]
		}
	}
	panic(labError{fmt.Errorf("%s has no hardware address: %q", dev, fields)})
}

// index returns the number of a device.
func index(in *netlab.Namespace, dev string) int {
	number, _, _ := strings.Cut(in.Run("ip -o link show dev "+dev), ":")
	n, err := strconv.Atoi(strings.TrimSpace(number))
	if err != nil {
		panic(labError{err})
	}
	return n
}

// packetSocket opens a socket at a device that takes packets without link headers, and
// receives those of a protocol, 0 for none.
func packetSocket(in *netlab.Namespace, device int, protocol uint16) (fd int, err error) {
	err = in.Do(func() error {
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(swapped(protocol))); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: swapped(protocol), Ifindex: device})
	})
	return fd, err
}

func (k *kernel) send(pkts [][]byte) error {
	for i, p := range pkts {
		k.vectors[i].Base = &p[0]
		k.vectors[i].SetLen(len(p))
	}
	for done := 0; done < len(pkts); {
		n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(k.send0), uintptr(unsafe.Pointer(&k.messages[done])), uintptr(len(pkts)-done), 0, 0, 0)
		if errno != 0 {
			return os.NewSyscallError("sendmmsg", errno)
		}
		done += int(n)
	}
	if k.sent += uint64(len(pkts)); k.sent >= 512 { // less than the queue of a veth device holds
		return k.finish()
	}
	return nil
}

// count returns how many packets have come to out0.
func (k *kernel) count() (uint64, error) {
	var buf [4096]byte
	n, err := k.counters.ReadAt(buf[:], 0)
	if n == 0 && err != nil {
		return 0, err
	}
	for line := range bytes.Lines(buf[:n]) {
		name, rest, _ := bytes.Cut(bytes.TrimSpace(line), []byte(":"))
		if fields := bytes.Fields(rest); string(name) == "out0" && len(fields) > 1 {
			return strconv.ParseUint(string(fields[1]), 10, 64)
		}
	}
	return 0, fmt.Errorf("out0 is not in %q", buf[:n])
}

// finish waits until all packets are at out0, and reports those that got lost.
func (k *kernel) finish() error {
	want := k.received + k.sent
	for deadline := time.Now().Add(2 * time.Second); ; {
		got, err := k.count()
		if err != nil {
			return err
		}
		if got >= want {
			k.received, k.sent = got, 0
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d of %d packets got lost", want-got, k.sent)
		}
	}
}

func (k *kernel) one(p []byte) ([]byte, error) {
	var err error
	if k.receive0, err = packetSocket(k.outside, k.device, unix.ETH_P_IP); err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(k.receive0) }()
	if err := errors.Join(k.send([][]byte{p}), k.finish()); err != nil {
		return nil, err
	}
	if err := unix.SetsockoptTimeval(k.receive0, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 2}); err != nil {
		return nil, err
	}
	buf := make([]byte, 2*size)
	n, _, err := unix.Recvfrom(k.receive0, buf, 0)
	return buf[:n], err
}

func (k *kernel) bytes() int { return 0 }

func (k *kernel) close() {
	if k.send0 >= 0 {
		_ = unix.Close(k.send0)
	}
	if k.counters != nil {
		_ = k.counters.Close()
	}
	k.lab.close()
}
