package conformance

import "strings"

// planned are the rows whose tests are still to come.
var planned = strings.Fields(`
U1 U2 U3 U3a U4 U6 U6a U8 U8a U9 U9a U11
T1 T2 T3 T7 T8
I7
P3 P4 P5 P6 P7 P7a P8 P9 P12
C2 C3 C4 C5 C8 C11 C13 C15
R1 R2 R3 R5 R7 R8 R9 R11 R14
X10
Q15
M70 M72
`)
