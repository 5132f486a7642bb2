// Captures that are written: as files they appear complete or not at all.

package capture

import (
	"bufio"
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// File is a pcap file of raw IP packets with nanoseconds, under construction in a
// temporary file next to its destination; what is no regular file, such as a pipe or
// a device, is written through instead. The first error sticks: it is returned
// by every call that follows. Finish and Rename complete the file; Remove, which
// may always be called, leaves nothing behind of one that is not complete.
type File struct {
	name    string
	at      string // name without links
	file    *os.File
	through bool        // file is the destination itself
	stop    func() bool // no longer ends what waits when the context does
	buffer  *bufio.Writer
	pcap    *pcapgo.Writer

	packets int // written
	err     error
}

// Create begins a capture that is to become the file of that name, or that a link of
// that name points to. It fails if that is a directory, or if no file can be made next
// to it. For a pipe it waits for a reader. That, and every wait of Write and Finish
// for it, ends when ctx does.
func Create(ctx context.Context, name string) (*File, error) {
	c := &File{name: name, stop: func() bool { return true }}
	info, err := os.Stat(name)
	switch {
	case err == nil && info.IsDir():
		return nil, fmt.Errorf("%s is a directory", name)
	case err == nil && !info.Mode().IsRegular():
		if c.file, err = open(ctx, name, os.O_WRONLY); err != nil {
			return nil, err
		}
		c.through = true
		c.stop = context.AfterFunc(ctx, func() { _ = c.file.SetWriteDeadline(time.Unix(1, 0)) }) // if it has them
	default:
		if c.at, err = target(name); err != nil {
			return nil, err
		}
		if c.file, err = os.CreateTemp(filepath.Dir(c.at), filepath.Base(c.at)+".*.tmp"); err != nil {
			return nil, err
		}
	}
	c.buffer = bufio.NewWriterSize(c.file, 1<<20)
	c.pcap = pcapgo.NewWriterNanos(c.buffer)
	c.err = c.pcap.WriteFileHeader(MaxFrameLen, layers.LinkTypeRaw)
	return c, nil
}

// Write adds a packet. The format has room for times from 1970 to early 2106;
// any other is an error.
func (f *File) Write(at time.Time, packet []byte) error { return f.WriteCut(at, packet, 0) }

// WriteCut is Write for a packet that is known but for so many bytes at its end, which
// are not kept.
func (f *File) WriteCut(at time.Time, packet []byte, cut int) error {
	if s := at.Unix(); f.err == nil && (s < 0 || s > math.MaxUint32) {
		f.err = fmt.Errorf("a pcap file cannot hold the time %s", at.UTC().Format(time.DateTime))
	}
	if f.err == nil {
		kept := len(packet) - cut
		f.err = f.pcap.WritePacket(gopacket.CaptureInfo{Timestamp: at, CaptureLength: kept, Length: len(packet)}, packet[:kept])
		f.packets++
	}
	return f.err
}

// Packets returns how many packets have been written.
func (f *File) Packets() int { return f.packets }

// Err returns the first error so far.
func (f *File) Err() error { return f.err }

// Finish brings everything to the file and closes it.
func (f *File) Finish() error {
	if f.err == nil {
		f.err = f.buffer.Flush()
	}
	if f.err == nil && !f.through {
		f.err = f.file.Chmod(0o644) // temporary files are private
	}
	f.stop()
	if err := f.file.Close(); f.err == nil {
		f.err = err
	}
	return f.err
}

// Rename gives a finished file its name, in place of whatever file had it.
func (f *File) Rename() error {
	if f.through {
		return nil
	}
	return os.Rename(f.file.Name(), f.at)
}

// Name returns the name that the file is to have.
func (f *File) Name() string { return f.name }

// Remove removes the temporary file, if it is still there. A nil File has none.
func (f *File) Remove() {
	if f == nil {
		return
	}
	f.stop()
	_ = f.file.Close() // may be closed already
	if !f.through {
		_ = os.Remove(f.file.Name())
	}
}

// Withdraw removes a file that has its name already. What was written through cannot
// be.
func (f *File) Withdraw() error {
	if f.through {
		return nil
	}
	return os.Remove(f.at)
}
