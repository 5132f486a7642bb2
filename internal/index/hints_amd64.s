#include "textflag.h"

// func hints(buckets *unsafe.Pointer, tags, ids *uint32, n int)
//
// SSE2, which every amd64 has: compare the eight tags of a bucket at once.
TEXT ·hints(SB), NOSPLIT, $0-32
	MOVQ  buckets+0(FP), SI
	MOVQ  tags+8(FP), DX
	MOVQ  ids+16(FP), DI
	MOVQ  n+24(FP), CX
	TESTQ CX, CX
	JZ    done

next:
	MOVQ     (SI), AX
	MOVL     (DX), X0
	PSHUFD   $0, X0, X0
	MOVOU    (AX), X1
	MOVOU    16(AX), X2
	PCMPEQL  X0, X1
	PCMPEQL  X0, X2
	PACKSSLW X2, X1
	PACKSSWB X1, X1
	PMOVMSKB X1, BX
	ANDL     $0xff, BX
	JZ       store
	BSFL     BX, BX
	MOVL     32(AX)(BX*4), BX

store:
	MOVL BX, (DI)
	ADDQ $8, SI
	ADDQ $4, DX
	ADDQ $4, DI
	DECQ CX
	JNZ  next

done:
	RET
