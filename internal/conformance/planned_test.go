package conformance

import "strings"

// planned are the rows whose tests are still to come.
var planned = strings.Fields(`
U1 U2 U3 U3a U4 U5 U5a U5b U5c U6 U6a U7 U8 U8a U9 U9a U10 U11
T1 T2 T3 T4 T4a T5 T5a T5n T6 T7 T8
I7
P1 P2a P2b P2c P2d P2e P3 P4 P5 P6 P7 P7a P8 P9 P11 P12
C1 C2 C3 C4 C5 C6 C7 C8 C10 C11 C12 C13 C14 C15
D3 D4
L1 L2 L3 L4 L5
R1 R2 R3 R5 R7 R8 R9 R10 R11 R14
X1 X2 X3 X4 X5 X6 X7 X8 X9 X10 X11
Q15
M70 M72
`)
