package capture

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
)

// layered is a packet behind layers of a link.
type layered struct {
	link   uint16
	layers string // in hexadecimal; spaces and dots do not count
	v6     bool   // the packet is IPv6
	alone  string // why tshark does not read it, if it does not
}

// macs are the addresses of an Ethernet header.
const macs = "0200 0000 0001 0200 0000 0002 "

// layeredPackets are all ways in which a packet may be carried that the table has
// a row for, and several at once.
var layeredPackets = map[string]layered{
	"Ethernet":                         {link: 1, layers: macs + "0800"},
	"Ethernet with IPv6":               {link: 1, layers: macs + "86dd", v6: true},
	"VLAN":                             {link: 1, layers: macs + "8100 0007 0800"},
	"QinQ":                             {link: 1, layers: macs + "88a8 0007 8100 0009 0800"},
	"old QinQ":                         {link: 1, layers: macs + "9100 0007 8100 0009 0800"},
	"older QinQ":                       {link: 1, layers: macs + "9200 0007 0800", alone: "an unknown EtherType"},
	"LLC and SNAP":                     {link: 1, layers: macs + "0029 aaaa03 000000 0800"},
	"LLC and SNAP of 802.1H":           {link: 1, layers: macs + "0029 aaaa03 0000f8 0800"},
	"LLC alone":                        {link: 1, layers: macs + "0024 060603"},
	"LLC and NLPID":                    {link: 1, layers: macs + "0025 fefe03 cc", alone: "ISO protocols only"},
	"bridged frame in SNAP":            {link: 100, layers: "aaaa03 0080c2 0007 0000" + macs + "0800"},
	"inter-switch link":                {link: 1, layers: "01000c0000 00 020000000001 003b aaaa03 00000c 0000 0000 0000" + macs + "0800", alone: "of checked frames only"},
	"PPPoE":                            {link: 1, layers: macs + "8864 1100 0001 0023 0021"},
	"PPPoE with a short protocol":      {link: 1, layers: macs + "8864 1100 0001 0022 21"},
	"PPPoE with IPv6":                  {link: 1, layers: macs + "8864 1100 0001 0037 57", v6: true},
	"PPP in Ethernet":                  {link: 1, layers: macs + "880b 0021", alone: "an unknown EtherType"},
	"FabricPath":                       {link: 1, layers: "020b00010000 020a00010000 8903 0041" + macs + "0800", alone: "a heuristic that is off"},
	"backbone bridge":                  {link: 1, layers: macs + "88e7 00000001" + macs + "0800"},
	"backbone bridge in a VLAN":        {link: 1, layers: macs + "88a8 0064 88e7 00000001" + macs + "8100 0007 0800"},
	"VN-Tag":                           {link: 1, layers: macs + "8926 80010002 0800"},
	"VN-Tag and a VLAN":                {link: 1, layers: macs + "8926 80010002 8100 0007 86dd", v6: true},
	"E-TAG":                            {link: 1, layers: macs + "893f 0000 0000 0000 0800"},
	"NSH":                              {link: 1, layers: macs + "894f 0fc2 02 01 000001ff"},
	"NSH with a context":               {link: 1, layers: macs + "894f 0fc6 01 02 000001ff" + strings.Repeat("00", 16), v6: true},
	"NSH of Ethernet":                  {link: 1, layers: macs + "894f 0fc2 02 03 000001ff" + macs + "0800"},
	"NSH of NSH":                       {link: 1, layers: macs + "894f 0fc2 02 04 000001ff 0fc2 02 01 000001ff"},
	"NSH of MPLS":                      {link: 1, layers: macs + "894f 0fc2 02 05 000001ff 00010140", alone: "no MPLS in NSH"},
	"TRILL":                            {link: 1, layers: macs + "22f3 0001 0001 0002" + macs + "0800"},
	"TRILL with options":               {link: 1, layers: macs + "22f3 0081 0001 0002 00000000 00000000" + macs + "0800", alone: "options are not skipped"},
	"HSR":                              {link: 1, layers: macs + "892f 0033 0001 0800"},
	"TrustSec":                         {link: 1, layers: macs + "8909 01 01 0001 0002 0800"},
	"transparent bridging":             {link: 1, layers: macs + "6558" + macs + "0800"},
	"MPLS":                             {link: 1, layers: macs + "8847 00010040 00020140"},
	"MPLS to many":                     {link: 1, layers: macs + "8848 00010140", v6: true},
	"MPLS of Ethernet":                 {link: 1, layers: macs + "8847 00010140" + macs + "0800", alone: "of the addresses of vendors only"},
	"PPI with facts":                   {link: 192, layers: "00 00 0c00 01000000 01020304" + macs + "0800", alone: "facts of no known kind"},
	"MPLS of Ethernet like IP":         {link: 1, layers: macs + "8847 00010140 4500 0000 0001 0200 0000 0002 8100 0007 0800", alone: "taken for IP"},
	"MPLS of Ethernet like IPv6":       {link: 1, layers: macs + "8847 00010140 6000 0000 0001 0200 0000 0002 0800", alone: "taken for IP"},
	"MPLS of controlled Ethernet":      {link: 1, layers: macs + "8847 00010140 00000000 000102030405 060708090a0b 0800"},
	"PPP":                              {link: 9, layers: "ff03 0021"},
	"PPP bare":                         {link: 9, layers: "0021"},
	"PPP short":                        {link: 9, layers: "21"},
	"Cisco HDLC as PPP":                {link: 9, layers: "0f00 0800"},
	"PPP in HDLC":                      {link: 50, layers: "ff03 0021"},
	"PPP in HDLC, short":               {link: 50, layers: "ff03 57", v6: true},
	"Cisco HDLC as PPP in HDLC":        {link: 50, layers: "8f00 0800"},
	"PPP of MPLS":                      {link: 50, layers: "ff03 0281 00010140"},
	"PPP of MPLS to many":              {link: 50, layers: "ff03 0283 00010140"},
	"PPP of Ethernet":                  {link: 50, layers: "ff03 0031 00 01" + macs + "0800"},
	"PPP of Ethernet of a LAN":         {link: 50, layers: "ff03 0031 40 01 00000001" + macs + "0800", alone: "the LAN is not skipped"},
	"PPPoE alone":                      {link: 51, layers: "1100 0001 0023 0021"},
	"Cisco HDLC":                       {link: 104, layers: "0f00 0800"},
	"PPP with its direction":           {link: 204, layers: "01 ff03 0021"},
	"Cisco with its direction":         {link: 205, layers: "01 0f00 0800", alone: "an unknown link type"},
	"frame relay":                      {link: 107, layers: "1841 03 cc"},
	"frame relay with IPv6":            {link: 107, layers: "1841 03 8e", v6: true},
	"frame relay, padded":              {link: 107, layers: "1841 03 00 80 000000 0800"},
	"frame relay of PPP":               {link: 107, layers: "1841 03 cf 0021"},
	"frame relay of Ethernet":          {link: 107, layers: "1841 03 00 80 0080c2 0007" + macs + "0800"},
	"frame relay of checked frames":    {link: 107, layers: "1841 03 00 80 0080c2 0001" + macs + "0800"},
	"frame relay of four bytes":        {link: 107, layers: "1840 0041 03 cc"},
	"frame relay of Cisco":             {link: 107, layers: "1841 0800", alone: "a setting"},
	"SLIP":                             {link: 8, layers: strings.Repeat("00", 16), alone: "an unknown link type"},
	"ATM":                              {link: 100, layers: "aaaa03 000000 0800"},
	"ATM of BSD":                       {link: 11, layers: "aaaa03 000000 0800"},
	"ATM of PPP":                       {link: 11, layers: "fefe03 cf 0021"},
	"ATM of Solaris":                   {link: 123, layers: "02 00 0021 aaaa03 000000 0800"},
	"LAN emulation of Solaris":         {link: 123, layers: "01 00 0021 0001" + macs + "0800"},
	"Token Ring":                       {link: 6, layers: "1040" + macs + "aaaa03 000000 0800"},
	"Token Ring, routed":               {link: 6, layers: "1040 0200 0000 0001 8200 0000 0002 0670 0011 0020 aaaa03 000000 0800"},
	"Fibre Channel":                    {link: 122, layers: strings.Repeat("00", 16) + "aaaa03 000000 0800"},
	"IEEE 1394":                        {link: 138, layers: strings.Repeat("00", 16) + "0800"},
	"InfiniBand":                       {link: 242, layers: strings.Repeat("00", 40) + "0800 0000"},
	"raw":                              {link: 101},
	"raw of BSD":                       {link: 12},
	"raw of OpenBSD":                   {link: 14},
	"raw IPv4":                         {link: 228},
	"raw IPv6":                         {link: 229, v6: true},
	"null":                             {link: 0, layers: "02000000"},
	"null, big-endian":                 {link: 0, layers: "00000002"},
	"null, family in the other half":   {link: 0, layers: "00000200", alone: "of the machine's own byte order"},
	"null with an EtherType":           {link: 0, layers: "00080000"},
	"null with a swapped EtherType":    {link: 0, layers: "00000800", alone: "of the machine's own byte order"},
	"null with PPP":                    {link: 0, layers: "ff03 0021"},
	"null of Linux":                    {link: 0, layers: "0a000000", v6: true, alone: "of other systems only"},
	"null of Windows":                  {link: 0, layers: "17000000", v6: true, alone: "taken for IPX"},
	"null of NetBSD":                   {link: 0, layers: "18000000", v6: true},
	"null of Solaris":                  {link: 0, layers: "1a000000", v6: true, alone: "of other systems only"},
	"null of FreeBSD":                  {link: 0, layers: "1c000000", v6: true},
	"null of macOS":                    {link: 0, layers: "1e000000", v6: true},
	"loop":                             {link: 108, layers: "00000002"},
	"loop with IPv6":                   {link: 108, layers: "00000018", v6: true},
	"IPsec of OpenBSD":                 {link: 109, layers: "00000002 00001234 00000003"},
	"PF log":                           {link: 117, layers: "3d 02" + strings.Repeat("00", 62)},
	"PF log of 100 bytes":              {link: 117, layers: "64 02" + strings.Repeat("00", 98)},
	"PF log with IPv6":                 {link: 117, layers: "64 18" + strings.Repeat("00", 98), v6: true},
	"old PF log":                       {link: 17, layers: "00000002" + strings.Repeat("00", 24), alone: "an unknown link type"},
	"netfilter log":                    {link: 239, layers: "02 00 0005 0800 0100 0800 03 00 0800 0a00 6e617400 2500 0900"},
	"netfilter log, big-endian":        {link: 239, layers: "02 00 0005 0008 0001 0800 03 00 0008 000a 6e617400 0025 0009", alone: "a setting"},
	"netfilter log of a bridge":        {link: 239, layers: "07 00 0005 0800 0100 0800 03 00 2500 0900", alone: "of IP only"},
	"netfilter log with IPv6":          {link: 239, layers: "0a 00 0005 3900 0900", v6: true},
	"Linux cooked":                     {link: 113, layers: "0000 0001 0006 0200000000010000 0800"},
	"Linux cooked, LLC":                {link: 113, layers: "0000 0001 0006 0200000000010000 0004 aaaa03 000000 0800"},
	"Linux cooked, frames":             {link: 113, layers: "0000 0001 0006 0200000000010000 0003" + macs + "0800"},
	"Linux cooked, PPP":                {link: 113, layers: "0000 0200 0000 0000000000000000 0007 ff03 0021"},
	"Linux cooked 2":                   {link: 276, layers: "0800 0000 00000002 0001 00 06 0200000000010000"},
	"per-packet information":           {link: 192, layers: "00 00 0800 01000000" + macs + "0800"},
	"ERF of Ethernet":                  {link: 197, layers: "0000000000000000 02 04 0041 0000 002f 0000" + macs + "0800"},
	"ERF of Cisco HDLC":                {link: 197, layers: "0000000000000000 01 04 0035 0000 0025 0f00 0800"},
	"ERF of PPP":                       {link: 197, layers: "0000000000000000 01 04 0035 0000 0025 ff03 0021"},
	"ERF, extended":                    {link: 197, layers: "0000000000000000 82 04 0051 0000 002f 8300000000000000 0400000000000000 0000" + macs + "0800"},
	"ERF of ATM":                       {link: 197, layers: "0000000000000000 04 04 003d 0000 0029 00000210 aaaa03 000000 0800", alone: "a table of circuits"},
	"ERF of many channels":             {link: 197, layers: "0000000000000000 05 04 0039 0000 0029 00000001 ff03 0021"},
	"ERF of colored HDLC":              {link: 197, layers: "0000000000000000 0a 04 0035 0000 0025 ff03 0021"},
	"ERF of colored Ethernet":          {link: 197, layers: "0000000000000000 0b 04 0041 0000 002f 0000" + macs + "0800"},
	"ERF of a coprocessor's HDLC":      {link: 197, layers: "0000000000000000 0f 04 0035 0000 0025 ff03 0021"},
	"ERF of a coprocessor's frame":     {link: 197, layers: "0000000000000000 10 04 0041 0000 002f 0000" + macs + "0800"},
	"ERF of colored channels":          {link: 197, layers: "0000000000000000 11 04 0039 0000 0029 00000001 ff03 0021"},
	"ERF of hashed HDLC":               {link: 197, layers: "0000000000000000 13 04 0035 0000 0025 ff03 0021"},
	"ERF of hashed Ethernet":           {link: 197, layers: "0000000000000000 14 04 0041 0000 002f 0000" + macs + "0800"},
	"ERF of IPv4":                      {link: 197, layers: "0000000000000000 16 04 0031 0000 0021"},
	"ERF of IPv6":                      {link: 197, layers: "0000000000000000 17 04 0045 0000 0035", v6: true},
	"PKTAP":                            {link: 258, layers: "6c000000 01000000 01000000" + strings.Repeat("00", 96) + macs + "0800"},
	"PKTAP of raw packets":             {link: 258, layers: "6c000000 01000000 0c000000" + strings.Repeat("00", 96), alone: "of other link types"},
	"netANALYZER":                      {link: 240, layers: "00000000" + macs + "0800", alone: "of headers of later versions only"},
	"Ethernet with its preamble":       {link: 274, layers: "55555555555555d5" + macs + "0800", alone: "of checked frames only"},
	"FDDI":                             {link: 10, layers: "57" + macs + "aaaa03 000000 0800"},
	"802.11":                           {link: 105, layers: "0800" + strings.Repeat("00", 22) + "aaaa03 000000 0800"},
	"802.11 between access points":     {link: 105, layers: "0803" + strings.Repeat("00", 28) + "aaaa03 000000 0800"},
	"802.11 with a class":              {link: 105, layers: "8800" + strings.Repeat("00", 24) + "aaaa03 000000 0800"},
	"802.11 with controls":             {link: 105, layers: "8880" + strings.Repeat("00", 28) + "aaaa03 000000 0800"},
	"802.11, padded":                   {link: 105, layers: "8800" + strings.Repeat("00", 26) + "aaaa03 000000 0800", alone: "a setting"},
	"802.11 of several":                {link: 105, layers: "8800" + strings.Repeat("00", 22) + "8000" + macs + "0029 aaaa03 000000 0800"},
	"802.11 of a radio":                {link: 127, layers: "0000 0800 00000000 0800" + strings.Repeat("00", 22) + "aaaa03 000000 0800"},
	"802.11 of AVS":                    {link: 163, layers: "80211001 00000040" + strings.Repeat("00", 56) + "0800" + strings.Repeat("00", 22) + "aaaa03 000000 0800"},
	"802.11 of Prism":                  {link: 119, layers: "44000000 90000000" + strings.Repeat("00", 136) + "0800" + strings.Repeat("00", 22) + "aaaa03 000000 0800"},
	"802.11 in per-packet information": {link: 192, layers: "00 00 0800 69000000 0800" + strings.Repeat("00", 22) + "aaaa03 000000 0800"},
	"Juniper":                          {link: 178, layers: "4d4743 01" + macs + "0800"},
	"Juniper, extended":                {link: 178, layers: "4d4743 81 0006 010203040506" + macs + "0800"},
	"Juniper, bare":                    {link: 178, layers: "4d4743 03 00000002", alone: "of families that it guesses"},
	"Juniper PPP":                      {link: 179, layers: "4d4743 01 ff03 0021"},
	"Juniper frame relay":              {link: 180, layers: "4d4743 01 1841 03 cc"},
	"Juniper Cisco HDLC":               {link: 181, layers: "4d4743 01 0f00 0800"},
	"Solaris":                          {link: 226, layers: "01 02 0000 00000021 00000001 00000000 00000000 00000000"},
	"Solaris with IPv6":                {link: 226, layers: "01 1a 0000 00000035 00000001 00000000 00000000 00000000", v6: true},
	"passive optical network":          {link: 259, layers: "5555d55555000100" + macs + "0800"},
	"old PKTAP":                        {link: 149, layers: "6c000000 01000000 01000000" + strings.Repeat("00", 96) + macs + "0800"},
	"MACsec in the clear":              {link: 1, layers: macs + "88e5 00 21 00000001 0800", alone: "a checksum at the end"},
	"MACsec with a channel":            {link: 1, layers: macs + "88e5 20 21 00000001 0200000000010001 0800", alone: "a checksum at the end"},
	"batman-adv":                       {link: 1, layers: macs + "4305 40 0f 32 01 020000000003" + macs + "0800"},
	"batman-adv with its origin":       {link: 1, layers: macs + "4305 42 0f 32 01 020000000003 020000000004 01 00" + macs + "0800"},
	"batman-adv to all":                {link: 1, layers: macs + "4305 01 0f 32 00 00000001 020000000004" + macs + "0800"},
	"PPP multilink":                    {link: 9, layers: "ff03 003d c0000001 0021"},
	"jumbo LLC":                        {link: 1, layers: macs + "8870 aaaa03 000000 0800"},
}

// packet returns the packet, which may be damaged or whatever else: one without
// anything after it and with sound checksums.
func (l layered) packet() []byte {
	if l.v6 {
		return pkttest.UDP("[2001:db8::11]:40000", "[2001:db8:5::53]:53", "query")
	}
	return datagram()
}

// frame returns the packet in its frame.
func (l layered) frame(t testing.TB) []byte {
	t.Helper()
	header, err := hex.DecodeString(strings.ReplaceAll(l.layers, " ", ""))
	require.NoError(t, err)
	return append(header, l.packet()...)
}

// pcapngOf returns a pcapng file with an interface for each frame.
func pcapngOf(links []uint16, frames ...[]byte) []byte {
	le := binary.LittleEndian
	block := func(kind uint32, body []byte) []byte {
		body = append(body, make([]byte, -len(body)&3)...)
		n := uint32(len(body) + 12)
		return le.AppendUint32(append(le.AppendUint32(le.AppendUint32(nil, kind), n), body...), n)
	}
	file := block(magicPcapng, append(le.AppendUint32(nil, magicByteOrder), 1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255))
	for _, link := range links {
		file = append(file, block(blockInterface, append(le.AppendUint16(nil, link), 0, 0, 0, 0, 0, 0))...)
	}
	for i, f := range frames {
		n := uint32(len(f))
		body := le.AppendUint32(le.AppendUint32(le.AppendUint32(nil, uint32(i)), 0), 1_000_000)
		body = append(le.AppendUint32(le.AppendUint32(body, n), n), f...)
		file = append(file, block(blockEnhanced, body)...)
	}
	return file
}

func TestReadUnderstandsLayers(t *testing.T) {
	for name, l := range layeredPackets {
		t.Run(name, func(t *testing.T) {
			pcap := pkttest.Pcap(0, l.frame(t))
			binary.LittleEndian.PutUint16(pcap[20:], l.link)
			for _, file := range [][]byte{pcap, pcapngOf([]uint16{l.link}, l.frame(t))} {
				got, err := Read(file)
				require.NoError(t, err)
				require.Len(t, got.Packets, 1, "%v", got.Skipped)
				ip := l.packet()
				require.GreaterOrEqual(t, len(got.Packets[0].Data), len(ip))
				assert.Equal(t, ip, got.Packets[0].Data[:len(ip)])
			}
		})
	}
}

// Every row of the table is met by a packet above.
func TestEveryLayerIsTested(t *testing.T) {
	met := make(map[protocol]bool)
	for _, l := range layeredPackets {
		at, rest, whole := protocol{linkTypes, uint32(l.link)}, l.frame(t), true
		for at.space != internet && table[at] != nil {
			met[at] = true
			at, rest, whole = table[at](rest)
			require.True(t, whole)
		}
	}
	for p := range table {
		assert.True(t, met[p], "%v", p)
	}
}

// Whatever ends early is too short, and damage inside of the packet is none of the
// link's business.
func TestLayersThatEndEarly(t *testing.T) {
	for name, l := range layeredPackets {
		frame, ip := l.frame(t), l.packet()
		if strings.HasPrefix(name, "MPLS of Ethernet like") {
			continue // a matter of what the packet looks like
		}
		for n := range frame {
			packet, kind := ipPacket(l.link, frame[:n])
			if header := len(frame) - len(ip); n <= header {
				assert.Empty(t, packet, "%s, %d of %d bytes", name, n, header)
				assert.NotEmpty(t, kind)
			} else if !strings.HasPrefix(name, "netfilter") { // which tells the packet's length
				assert.Equal(t, frame[header:n], packet, "%s: %s", name, kind)
			}
		}
	}
}

func TestKindsOfFramesWithoutIP(t *testing.T) {
	for kind, c := range map[string]struct {
		link  uint16
		frame string
	}{
		"ARP":                             {1, macs + "0806 0001"},
		"EtherType 0x88cc":                {1, macs + "88cc 0001"},
		"LLC SAP and control 0x4203":      {1, macs + "0026 424203 0000"},
		"SNAP of OUI 00000c":              {1, macs + "0026 aaaa03 00000c 2000 01"},
		"bridged frame of type 14":        {100, "aaaa03 0080c2 000e 0000 00"},
		"PPP protocol 0xc021":             {9, "ff03 c021 0101"},
		"NLPID 0x81":                      {107, "1841 03 81 82"},
		"address family 7":                {0, "07000000 00"},
		"payload that begins with f":      {0, "17000000 ffff"},
		"payload that begins with 1":      {1, macs + "8847 00010140 1000 0000"},
		"NSH protocol 6":                  {1, macs + "894f 0fc2 02 06 000001ff 00"},
		"ERF type 27":                     {197, "0000000000000000 1b 04 0031 0000 0021 00"},
		"NFLOG without a packet":          {239, "02 00 0005 0800 0100 0800 03 00"},
		"link type 147":                   {147, "00"},
		"link type 4294967295":            {258, "0c000000 01000000 ffffffff"},
		"more than 32 layers":             {1, macs + strings.Repeat("8100 0001", 40) + "0800 45"},
		"802.11 frame of kind 0x80":       {105, "8000" + strings.Repeat("00", 30)},
		"802.11 frame of kind 0x48":       {105, "4800" + strings.Repeat("00", 30)},
		"encrypted frame":                 {105, "0840" + strings.Repeat("00", 30)},
		"fragment of PPP multilink":       {9, "ff03 003d 80000001 0021"},
		"batman-adv packet of type 0x10e": {1, macs + "4305 40 0e 32 01"},
		"batman-adv packet of type 0x00":  {1, macs + "4305 00 0f 32 01"},
		"bridged frame of type 2":         {50, "ff03 0031 00 02 00"},
	} {
		frame, err := hex.DecodeString(strings.ReplaceAll(c.frame, " ", ""))
		require.NoError(t, err, kind)
		packet, got := ipPacket(c.link, frame)
		assert.Empty(t, packet)
		assert.Equal(t, kind, got)
	}
}

// No bytes behind any layer make it panic, or find a packet that is none of them.
func TestLayersBelieveNothing(t *testing.T) {
	const seed, rounds = 11, 200
	random := rand.New(rand.NewPCG(seed, 0))
	for name, l := range layeredPackets {
		frame := l.frame(t)
		for range rounds {
			b := bytes.Clone(frame)
			for range 1 + random.IntN(3) {
				b[random.IntN(len(b)-len(l.packet())+1)] = byte(random.Uint32())
			}
			packet, kind := ipPacket(l.link, b)
			require.NotEqual(t, len(packet) == 0, kind == "", "%s: %x", name, b)
			require.LessOrEqual(t, len(packet), len(b))
		}
	}
}

// tshark finds the same packets, but for those that it does not know.
func TestLayersAreThoseOfTshark(t *testing.T) {
	tshark, err := exec.LookPath("tshark")
	if err != nil {
		t.Skip("needs tshark")
	}
	var names []string
	var links []uint16
	var frames [][]byte
	for name, l := range layeredPackets {
		if l.alone == "" {
			names, links, frames = append(names, name), append(links, l.link), append(frames, l.frame(t))
		}
	}
	file := filepath.Join(t.TempDir(), "x.pcapng")
	require.NoError(t, os.WriteFile(file, pcapngOf(links, frames...), 0o600))
	out, err := exec.Command(tshark, "-r", file, "-T", "fields", "-e", "udp.srcport").Output()
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	require.Len(t, lines, len(names))
	for i, line := range lines {
		assert.Equal(t, "40000", line, names[i])
	}
}
