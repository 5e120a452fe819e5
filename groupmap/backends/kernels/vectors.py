"""Numbers of a vector dealt out by where they belong, all at once.

Those that belong to one end are pressed together and written there, and what lies behind them is
overwritten by the next. That is one instruction where there is AVX-512; elsewhere it is as slow as
one number after the other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

LANES = 16  # numbers of 32 bits in a vector
CHUNK = 1024  # numbers that are made ready before they are dealt out
NOWHERE = np.uint32(2**32 - 1)
KNOWN_SINCE = 19  # the version of LLVM that presses vectors together, for every processor
IS_KNOWN = binding.llvm_version_info[0] >= KNOWN_SINCE


def _has_avx512() -> bool:
    try:
        return bool(binding.get_host_cpu_features().get("avx512f"))
    except RuntimeError:  # where LLVM does not ask the processor
        return False


IS_FAST = IS_KNOWN and _has_avx512()


def _append_to_each(
    typing_context: Any, numbers: Any, end_of: Any, begin: Any, out: Any, ends: Any
) -> Any:
    """Append each of `LANES` numbers from `begin` on where it belongs in `out`; the new ends.

    `end_of` says of each which of the `ends`, a tuple, it belongs to; `NOWHERE`, none. All arrays
    are contiguous, of 32 bits. Compiled code has no other way to say this.
    """
    del typing_context, begin
    index = ends.dtype
    signature = types.UniTuple(index, len(ends))(numbers, end_of, types.intp, out, ends)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word, flag = ir.IntType(32), ir.IntType(1)
        vector, flags = ir.VectorType(word, LANES), ir.VectorType(flag, LANES)
        begin, own_ends = arguments[2], arguments[4]
        from_numbers, from_end_of, to_out = (
            make_array(signature.args[k])(context, builder, arguments[k]).data for k in (0, 1, 3)
        )

        def vector_at(memory: Any, index: Any) -> Any:
            return builder.bitcast(builder.gep(memory, [index]), vector.as_pointer())

        own_numbers = builder.load(vector_at(from_numbers, begin), align=4)
        belongs = builder.load(vector_at(from_end_of, begin), align=4)
        press = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(vector, [vector, flags, vector]),
            f"llvm.experimental.vector.compress.v{LANES}i32",
        )
        new_ends = []
        for k in range(len(ends)):
            end = builder.extract_value(own_ends, k)
            mask = builder.icmp_unsigned("==", belongs, ir.Constant(vector, [k] * LANES))
            pressed = builder.call(press, [own_numbers, mask, ir.Constant(vector, ir.Undefined)])
            builder.store(pressed, vector_at(to_out, end), align=4)
            found = builder.ctpop(builder.bitcast(mask, ir.IntType(LANES)))
            new_ends.append(builder.add(end, builder.zext(found, end.type)))
        return cgutils.pack_array(builder, new_ends)

    return signature, generate


append_to_each: Any = intrinsic(_append_to_each)  # no caller has its first argument
