// The two captures of a run: inside.pcap is what the pods send and get,
// outside.pcap is what the Internet sees. They appear complete or not at all.

package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"github.com/seed-a61be3fe/natplane/flow"
)

// captureEpoch is when virtual time 0 is in the written captures. It is fixed,
// so that equal runs give equal files.
var captureEpoch = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

// output is the pair of captures. A nil output writes nothing.
type output struct {
	dir             string
	made            []string // directories that did not exist before, innermost first
	inside, outside *captureFile
}

// createOutput makes dir if need be and begins both captures under temporary
// names. After it, call either commit or discard.
func createOutput(dir string) (*output, error) {
	o := &output{dir: dir}
	for d := filepath.Clean(dir); ; d = filepath.Dir(d) {
		if _, err := os.Stat(d); !errors.Is(err, os.ErrNotExist) {
			break
		}
		o.made = append(o.made, d)
	}
	err := os.MkdirAll(dir, 0o777)
	if err == nil {
		o.inside, err = createCapture(filepath.Join(dir, "inside.pcap"))
	}
	if err == nil {
		o.outside, err = createCapture(filepath.Join(dir, "outside.pcap"))
	}
	if err != nil {
		o.discard()
		return nil, o.failure(err)
	}
	return o, nil
}

// failure says which flag err is about; nil stays nil.
func (o *output) failure(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("-out %s: %w", o.dir, err)
}

// commit completes both captures and gives them their names. On an error
// nothing is left behind.
func (o *output) commit() error {
	if o == nil {
		return nil
	}
	err := cmp.Or(o.inside.finish(), o.outside.finish())
	if err == nil {
		err = o.inside.rename()
	}
	if err == nil {
		if err = o.outside.rename(); err != nil {
			err = errors.Join(err, os.Remove(o.inside.name))
		}
	}
	if err != nil {
		o.discard()
	}
	return o.failure(err)
}

// discard removes whatever createOutput made.
func (o *output) discard() {
	if o == nil {
		return
	}
	o.inside.remove()
	o.outside.remove()
	for _, d := range o.made {
		_ = os.Remove(d) // fails if somebody else put something there: let it be
	}
}

// err returns the first error of a write so far.
func (o *output) err() error {
	if o == nil {
		return nil
	}
	return o.failure(cmp.Or(o.inside.err, o.outside.err))
}

// write adds a packet to the capture of one side.
func (o *output) write(side flow.Side, now flow.Time, packet []byte) {
	switch {
	case o == nil:
	case side == flow.Inside:
		o.inside.write(now, packet)
	default:
		o.outside.write(now, packet)
	}
}

// captureFile is a pcap file under construction. The first error sticks.
type captureFile struct {
	name   string
	file   *os.File
	buffer *bufio.Writer
	pcap   *pcapgo.Writer

	packets int // written
	err     error
}

func createCapture(name string) (*captureFile, error) {
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		return nil, fmt.Errorf("%s is a directory", name)
	}
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*.tmp")
	if err != nil {
		return nil, err
	}
	c := &captureFile{name: name, file: f, buffer: bufio.NewWriterSize(f, 1<<20)}
	c.pcap = pcapgo.NewWriterNanos(c.buffer)
	c.err = c.pcap.WriteFileHeader(maxFrameLen, layers.LinkTypeRaw)
	return c, nil
}

func (c *captureFile) write(now flow.Time, packet []byte) {
	if c.err == nil {
		c.err = c.pcap.WritePacket(gopacket.CaptureInfo{
			Timestamp:     captureEpoch.Add(now.Duration()),
			CaptureLength: len(packet),
			Length:        len(packet),
		}, packet)
		c.packets++
	}
}

// finish brings everything to the file.
func (c *captureFile) finish() error {
	if c.err == nil {
		c.err = c.buffer.Flush()
	}
	if c.err == nil {
		c.err = c.file.Chmod(0o644) // temporary files are private
	}
	if err := c.file.Close(); c.err == nil {
		c.err = err
	}
	return c.err
}

func (c *captureFile) rename() error { return os.Rename(c.file.Name(), c.name) }

func (c *captureFile) remove() {
	if c != nil {
		_ = c.file.Close() // may be closed already
		_ = os.Remove(c.file.Name())
	}
}
