// Package forecast says when outside ports run out, for each instance and destination, and why, from
// what a running translator counts anyway ([snat.NAT.Holders]).
//
// It refuses to know packets, and to guess: that there is no trend, that it levels off or that too little
// has been seen are answers, too. What it says is a pure function of the samples that it was fed.
//
// Terminology:
//   - Row: what an instance holds towards one destination; of shared ports, what all instances
//     hold. The bar is how many ports there are for it.
//   - Sample: the rows of one moment. Window: the latest time that is looked at.
//   - Trend: that a row holds more at the end of the window than at its beginning, by more
//     than chance makes likely.
//   - Outlook: what is said of a row.
//
// # How it is told
//
// Of a row's window three numbers are known exactly: the flows that began (A), by how much the ports in
// use changed (D), and so those that were given back (A - D). If flows come and go independently
// of each other, the variance of D is neither above A + (A - D) nor above the sum of the ports in use at the
// beginning and at the end. A trend is a D above three times the root of the lesser. It goes on as it was: the ports that are free now last for as long as free / (D / window). The range is what two
// roots more or less would make of it.
//
// The cause is the use of ports that has grown most. Of active TCP flows those that were looked at tell
// whether they rest: if half of those that are old enough are idle, connections leak, else they are
// in use. What is held for a known time levels off, at the rate of new flows times that time, as
// whatif.Sustained has it; and what levels off below the bar does not exhaust it. When that is of a leak depends on how long
// it has been there, which the window does not show where other connections end beside it: if it may level off below the
// bar, because so many connections are idle that it may have been there for long, exhaustion is foretold all the same, for
// it may be new, but its range has no end. Where the rate of new
// flows itself has risen, and explains half of the growth or more, nothing is foretold: what load there will be
// nobody knows. Nor is what lies further ahead than [Config].Horizon windows.
//
// # Limits
//
// Flows that come in bursts vary more than is assumed: a burst is taken for a trend while it is in the window.
// Sockets that exclude each other whatever their destination (snat.ShareNever), limits of subscribers and
// ports in quarantine are not seen in rows; for the first, the sum over all destinations is what counts. A UDP
// socket's port is one for all its destinations, and of those with the same address only one socket has it: rows of
// UDP, which tell remote ports apart, may be refused before they reach the bar. A frontend of several addresses is one bar.
//
// Cost: a sample is that of [snat.NAT.Holders], and O(rows); memory is 64 bytes for each row and sample in the
// window. A Forecast is not safe for concurrent use; what it reads may be in use meanwhile.
package forecast
