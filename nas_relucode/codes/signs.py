"""The signs of activations as bits, 64 numbers at a time: compared, packed and checked while they are read once."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from nas_relucode.codes.words import ALL, compiled


@intrinsic
def compare_64(context, numbers, start, level):  # type: ignore[no-untyped-def]
    """Of numbers[start : start + 64], two words of bits: which are above ``level``, and which are finite."""

    def code(machine, builder, signature, arguments):  # type: ignore[no-untyped-def]
        array = machine.make_array(numbers)(machine, builder, arguments[0])
        lane = arguments[2].type
        vector, word = ir.VectorType(lane, 64), ir.IntType(64)
        place = builder.bitcast(builder.gep(array.data, [arguments[1]]), vector.as_pointer())
        loaded = builder.load(place, align=numbers.dtype.bitwidth // 8)
        one = builder.insert_element(ir.Constant(vector, ir.Undefined), arguments[2], ir.Constant(ir.IntType(32), 0))
        everywhere = ir.Constant(ir.VectorType(ir.IntType(32), 64), [0] * 64)
        levels = builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), everywhere)
        above = builder.fcmp_ordered(">", loaded, levels)
        nothing = builder.fsub(loaded, loaded)  # NaN where it is not finite
        finite = builder.fcmp_ordered("==", nothing, nothing)
        words = [builder.bitcast(above, word), builder.bitcast(finite, word)]
        return machine.make_tuple(builder, signature.return_type, words)

    return types.UniTuple(types.uint64, 2)(numbers, types.intp, numbers.dtype), code


@compiled
def pack_above(values: Any, level: Any, words: Any) -> bool:  # pragma: no cover
    """Sets ``words``, uint64 (samples, words), to the bits of values > level; whether all values are finite.

    ``values`` is float32 or float64, (samples, numbers), contiguous, and ``level`` of the same type.
    """
    samples, width = values.shape
    flat = values.reshape(samples * width)
    whole = width // 64
    finite = ALL
    for i in range(samples):
        for j in range(whole):
            word, good = compare_64(flat, i * width + j * 64, level)
            words[i, j] = word
            finite &= good
        if whole * 64 < width:
            word = np.uint64(0)
            for k in range(whole * 64, width):
                x = flat[i * width + k]
                word |= np.uint64(1 if x > level else 0) << np.uint64(k - whole * 64)
                finite &= ALL if abs(x) < np.inf else np.uint64(0)
            words[i, whole] = word
    return bool(finite == ALL)
