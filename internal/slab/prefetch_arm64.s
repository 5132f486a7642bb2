#include "textflag.h"

// func Prefetch(p unsafe.Pointer)
TEXT ·Prefetch(SB), NOSPLIT, $0-8
	MOVD p+0(FP), R0
	PRFM (R0), PLDL1KEEP
	RET

// func PrefetchEach(ps []unsafe.Pointer)
TEXT ·PrefetchEach(SB), NOSPLIT, $0-24
	MOVD ps_base+0(FP), R0
	MOVD ps_len+8(FP), R1
	CBZ  R1, done

next:
	MOVD.P 8(R0), R2
	PRFM   (R2), PLDL1KEEP
	SUBS   $1, R1, R1
	BNE    next

done:
	RET
