// Devices: many packets out of one wake-up, and counted writes.

package router

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	batchSize = 64      // packets in a batch, as many as an engine works on together
	maxPacket = 1 << 16 // bytes, more than any IP packet has

	// slotSize is the distance of two packets in memory: not a power of two, or
	// all headers would meet in the same few lines of the first-level cache.
	slotSize = maxPacket + 2*64
)

// device is one device of a router.
type device struct {
	file *os.File
	conn syscall.RawConn

	// Of the goroutine that reads.
	memory []byte
	pkts   [][]byte

	received, batches, sent, failed atomic.Uint64
}

// open takes a file as a device.
func (d *device) open(f *os.File) (err error) {
	d.file = f
	if d.conn, err = f.SyscallConn(); err != nil {
		return err
	}
	d.memory = make([]byte, batchSize*slotSize) // pages that no packet reaches stay untouched
	d.pkts = make([][]byte, 0, batchSize)
	return nil
}

// read waits until packets are there and takes at most a batch of them. The
// result is valid until the next call.
func (d *device) read() (pkts [][]byte, err error) {
	d.pkts = d.pkts[:0]
	waitErr := d.conn.Read(func(fd uintptr) bool {
		for len(d.pkts) < batchSize {
			slot := d.memory[len(d.pkts)*slotSize:][:maxPacket]
			var n int
			switch n, err = unix.Read(int(fd), slot); {
			case err == unix.EINTR:
				continue
			case err == unix.EAGAIN:
				err = nil
				return len(d.pkts) > 0
			case err == nil && n == 0:
				err = io.EOF
				return true
			case err != nil:
				return true
			}
			d.pkts = append(d.pkts, slot[:n])
		}
		return true
	})
	switch {
	case len(d.pkts) > 0: // an error will come again
		d.received.Add(uint64(len(d.pkts)))
		d.batches.Add(1)
		return d.pkts, nil
	case waitErr != nil:
		return nil, waitErr
	}
	return nil, fmt.Errorf("read %s: %w", d.file.Name(), err)
}

// write sends one packet. A device that refuses a packet, because it is down or
// the packet is nothing for it, loses it, as a cable would.
func (d *device) write(pkt []byte) {
	if _, err := d.file.Write(pkt); err == nil {
		d.sent.Add(1)
	} else if !errors.Is(err, os.ErrDeadlineExceeded) { // which is how Run ends
		d.failed.Add(1)
	}
}
