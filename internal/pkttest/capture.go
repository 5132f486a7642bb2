// Capture files for tests, written by gopacket.

package pkttest

import (
	"bytes"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// CaptureBegin is the time of the first frame of Pcap and Pcapng.
var CaptureBegin = time.Unix(1_700_000_000, 0)

// Pcap returns a pcap file of one link type, with one second between frames.
func Pcap(link layers.LinkType, frames ...[]byte) []byte { return PcapCut(link, snapLen, frames...) }

// PcapCut is Pcap with a snap length: what frames have beyond it is not kept.
func PcapCut(link layers.LinkType, snap int, frames ...[]byte) []byte {
	var file bytes.Buffer
	w := pcapgo.NewWriter(&file)
	must(w.WriteFileHeader(uint32(snap), link))
	for i, f := range frames {
		info := frameInfo(i, len(f))
		info.CaptureLength = min(snap, len(f))
		must(w.WritePacket(info, f[:info.CaptureLength]))
	}
	return file.Bytes()
}

// Pcapng returns a pcapng file with an interface of its own for each frame, so that
// link types may differ, and one second between frames. There must be as many
// links as frames.
func Pcapng(links []layers.LinkType, frames ...[]byte) []byte {
	var file bytes.Buffer
	w, err := pcapgo.NewNgWriterInterface(&file, pcapgo.NgInterface{LinkType: links[0]}, pcapgo.DefaultNgWriterOptions)
	must(err)
	for i, f := range frames {
		info := frameInfo(i, len(f))
		if i > 0 {
			info.InterfaceIndex, err = w.AddInterface(pcapgo.NgInterface{LinkType: links[i]})
			must(err)
		}
		must(w.WritePacket(info, f))
	}
	must(w.Flush())
	return file.Bytes()
}

// snapLen is the limit of libpcap.
const snapLen = 256 << 10

func frameInfo(i, n int) gopacket.CaptureInfo {
	at := CaptureBegin.Add(time.Duration(i) * time.Second)
	return gopacket.CaptureInfo{Timestamp: at, CaptureLength: n, Length: n}
}

// must panics on an error of a writer: frames that make no file.
func must(err error) {
	if err != nil {
		panic("pkttest: " + err.Error())
	}
}
