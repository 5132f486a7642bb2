#include "textflag.h"

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
