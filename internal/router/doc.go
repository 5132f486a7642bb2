// Package router moves packets between devices of the system and a
// translator: it reads batches, asks the translator, writes what may pass, tells
// it the real time, and sends what it has to say on its own. With it a translator
// that knows no clock and no device becomes a live gateway.
//
// It knows devices, batches and the clock. It refuses to know addresses, ports
// and flows: what to do with a packet is the translator's verdict alone. Packets
// are not routed either: the TTL is left to the translator, most of which are
// invisible as a hop, and what is written to a device goes where the kernel behind
// it routes it.
//
// Terminology, used exactly so in names and comments:
//   - Engine: the translator, any flow.Translator.
//   - Device: an open TUN device, or any file on which one read takes one IP
//     packet and one write gives one.
//   - Side: one device, or of the inside one for each instance of the engine. Only so
//     can hosts inside share an address, as targets behind a floating frontend do.
//   - Batch: the packets that wait in a device when it is read, at most 64.
//
// # Threads and time
//
// [Router.Run] has one goroutine for each device and one for expiry. They read
// and write devices at the same time, but talk to the engine one after the other:
// the time of a call is taken under the same lock as the call is made, so that
// the engine never sees time run back. Time is what has passed since New. Expiry
// is late by 10 ms at most where the machine keeps up, and so are the packets that
// the engine makes or has kept, such as fragments that came before their first.
//
// It is for examples and tests on Linux; all but this page exists there only.
package router
