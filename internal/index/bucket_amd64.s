#include "textflag.h"

// func takeOut(b *Bucket, tag, id uint32) bool
//
// SSE2: compare the eight tags and the eight IDs at once, and the IDs with 0.
TEXT ·takeOut(SB), NOSPLIT, $0-17
	MOVQ     b+0(FP), AX
	MOVL     tag+8(FP), X0
	MOVL     id+12(FP), X3
	MOVOU    (AX), X1
	MOVOU    16(AX), X2
	MOVOU    32(AX), X4
	MOVOU    48(AX), X5
	PSHUFD   $0, X0, X0
	PSHUFD   $0, X3, X3
	PXOR     X6, X6
	PXOR     X7, X7
	PCMPEQL  X4, X6       // which IDs are 0
	PCMPEQL  X5, X7
	PCMPEQL  X0, X1
	PCMPEQL  X0, X2
	PCMPEQL  X3, X4
	PCMPEQL  X3, X5
	PAND     X4, X1       // which slots hold both
	PAND     X5, X2
	PACKSSLW X2, X1
	PACKSSLW X7, X6
	PACKSSWB X6, X1       // slots in the low eight bytes, free ones in the high
	PMOVMSKB X1, BX
	MOVL     BX, CX
	SHRL     $8, CX
	ANDL     $0xff, BX
	JZ       no           // not there
	TESTL    $0x80, CX
	JZ       no           // full
	BSFL     BX, BX
	BSFL     CX, CX       // how many are in use
	MOVL     -4(AX)(CX*4), SI
	MOVL     28(AX)(CX*4), DI
	MOVL     SI, (AX)(BX*4)
	MOVL     DI, 32(AX)(BX*4)
	MOVL     $0, -4(AX)(CX*4)
	MOVL     $0, 28(AX)(CX*4)
	MOVB     $1, ret+16(FP)
	RET

no:
	MOVB $0, ret+16(FP)
	RET
