#include "textflag.h"

// func Prefetch(p unsafe.Pointer)
TEXT ·Prefetch(SB), NOSPLIT, $0-8
	MOVQ       p+0(FP), AX
	PREFETCHT0 (AX)
	RET

// func PrefetchEach(ps []unsafe.Pointer)
TEXT ·PrefetchEach(SB), NOSPLIT, $0-24
	MOVQ  ps_base+0(FP), SI
	MOVQ  ps_len+8(FP), CX
	TESTQ CX, CX
	JZ    done

next:
	MOVQ       (SI), AX
	PREFETCHT0 (AX)
	ADDQ       $8, SI
	DECQ       CX
	JNZ        next

done:
	RET
