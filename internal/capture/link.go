// From a frame to the IP packet in it: the walk over the layers between.

package capture

import "fmt"

// protocol is what a layer says that it carries: a number, in the number space that
// the layer uses. What each is, the table in table.go says.
type protocol struct {
	space  space
	number uint32
}

// space is a number space. Two layers that number the same protocols in the same
// way share one.
type space uint8

const (
	internet     space = iota // an IP packet, whatever the number
	linkTypes                 // LINKTYPE_ values of the tcpdump group's registry
	etherTypes                // IEEE 802 numbers, from 0x600 on
	pppProtocols              // IANA: PPP DLL protocol numbers
	families                  // AF_ values, of all systems that write them
	nlpids                    // ISO/IEC TR 9577
	llcFrames                 // service access point and control field of IEEE 802.2
	bridged                   // what RFC 2427 and RFC 2684 number under OUI 00-80-C2
	ouis                      // SNAP protocols of other organizations
	nshProtocols              // IANA: NSH next protocol
	erfTypes                  // of Endace's extensible record format
	unreadable                // what holds no packet that can be read: see table.go
	wlanFrames                // first byte of IEEE 802.11 frame control
	batmanTypes               // packet types of batman-adv, version 15, or another version
	firstNibbles              // nothing says what it is, and it does not begin as IP does
	headers                   // layers that others name by none of these: see table.go
	numSpaces
)

// spaceNames says how what cannot be read is told, by the number.
var spaceNames = [...]string{
	internet: "IP", linkTypes: "link type %d", etherTypes: "EtherType %#04x", pppProtocols: "PPP protocol %#04x",
	families: "address family %d", nlpids: "NLPID %#02x", llcFrames: "LLC SAP and control %#04x", bridged: "bridged frame of type %d",
	ouis: "SNAP of OUI %06x", nshProtocols: "NSH protocol %d", erfTypes: "ERF type %d", unreadable: "",
	wlanFrames: "802.11 frame of kind %#02x", batmanTypes: "batman-adv packet of type %#02x",
	firstNibbles: "payload that begins with %x", headers: "layer %d",
}

var _ = [1]struct{}{}[len(spaceNames)-int(numSpaces)] // one name per space

// String returns the kind of a frame that holds this instead of an IP packet.
func (p protocol) String() string {
	switch p {
	case protocol{etherTypes, 0x0806}:
		return "ARP"
	case encrypted:
		return "encrypted frame"
	case inPieces:
		return "fragment of PPP multilink"
	case empty:
		return "NFLOG without a packet"
	}
	return fmt.Sprintf(spaceNames[p.space], p.number)
}

// layer reads what comes first in b, a header or a tag, and returns what that says
// that it carries, and where. It is not called with an empty b, believes no length
// that reaches beyond b, and reports whether all of the header is there.
type layer func(b []byte) (carries protocol, rest []byte, whole bool)

// maxLayers bounds the walk. Real frames have less than ten.
const maxLayers = 32

// ipPacket returns the IP packet inside a frame, or what the frame is instead.
// A packet is never empty. It may be damaged in any way.
func ipPacket(link uint16, frame []byte) (packet []byte, kind string) {
	at, rest := protocol{linkTypes, uint32(link)}, frame
	for range maxLayers {
		read, known := table[at]
		switch {
		case at.space == internet && len(rest) > 0:
			return rest, ""
		case at.space != internet && !known:
			return nil, at.String()
		case len(rest) == 0:
			return nil, "too short"
		}
		var whole bool
		if at, rest, whole = read(rest); !whole {
			return nil, "too short"
		}
	}
	return nil, fmt.Sprintf("more than %d layers", maxLayers)
}
