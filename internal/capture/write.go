// Captures that are written: they appear complete or not at all.

package capture

import (
	"bufio"
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
// temporary file next to its destination. The first error sticks: it is returned
// by every call that follows. Finish and Rename complete the file; Remove, which
// may always be called, leaves nothing behind of one that is not complete.
type File struct {
	name   string
	file   *os.File
	buffer *bufio.Writer
	pcap   *pcapgo.Writer

	packets int // written
	err     error
}

// Create begins a capture that is to become the file of that name. It fails if
// that is a directory, or if no file can be made next to it.
func Create(name string) (*File, error) {
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		return nil, fmt.Errorf("%s is a directory", name)
	}
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*.tmp")
	if err != nil {
		return nil, err
	}
	c := &File{name: name, file: f, buffer: bufio.NewWriterSize(f, 1<<20)}
	c.pcap = pcapgo.NewWriterNanos(c.buffer)
	c.err = c.pcap.WriteFileHeader(MaxFrameLen, layers.LinkTypeRaw)
	return c, nil
}

// Write adds a packet. The format has room for times from 1970 to early 2106;
// any other is an error.
func (f *File) Write(at time.Time, packet []byte) error {
	if s := at.Unix(); f.err == nil && (s < 0 || s > math.MaxUint32) {
		f.err = fmt.Errorf("a pcap file cannot hold the time %s", at.UTC().Format(time.DateTime))
	}
	if f.err == nil {
		f.err = f.pcap.WritePacket(gopacket.CaptureInfo{Timestamp: at, CaptureLength: len(packet), Length: len(packet)}, packet)
		f.packets++
	}
	return f.err
}

// Packets returns how many packets have been written.
func (f *File) Packets() int { return f.packets }

// Err returns the first error so far.
func (f *File) Err() error { return f.err }

// Finish brings everything to the temporary file and closes it.
func (f *File) Finish() error {
	if f.err == nil {
		f.err = f.buffer.Flush()
	}
	if f.err == nil {
		f.err = f.file.Chmod(0o644) // temporary files are private
	}
	if err := f.file.Close(); f.err == nil {
		f.err = err
	}
	return f.err
}

// Rename gives a finished file its name, in place of whatever had it.
func (f *File) Rename() error { return os.Rename(f.file.Name(), f.name) }

// Name returns the name that the file is to have.
func (f *File) Name() string { return f.name }

// Remove removes the temporary file, if it is still there. A nil File has none.
func (f *File) Remove() {
	if f != nil {
		_ = f.file.Close() // may be closed already
		_ = os.Remove(f.file.Name())
	}
}
