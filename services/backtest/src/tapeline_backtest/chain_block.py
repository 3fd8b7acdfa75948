"""The hash chain over many facts at once, compiled.

``chain_block`` continues the chain of ``tapeline_common.wire.chain`` over a block of payloads without a Python object
per fact and without the interpreter's lock, so that it can run beside the cores. Every link is
``SHA-256(previous hash || payload)``; the rounds are done by the processor's own SHA instructions (Intel SHA
Extensions, as in FIPS 180-4 section 6.2.2). On processors without them ``chain_with_hashlib`` does the same, slower.

It knows nothing of facts. ``link_chain`` picks one of the two.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import numpy as np
from llvmlite import binding
from numpy.typing import NDArray

from tapeline_backtest.machine_code import BYTES, INTS, NOTHING, Intrinsic, Routine, routine

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]

HASH_BYTES: Final = 32
BLOCK_BYTES: Final = 64
LENGTH_BYTES: Final = 8


def _fractions(root: float, primes: list[int]) -> list[int]:
    """First 32 bits of the fractional part of a root of each prime, exactly (FIPS 180-4, sections 4.2.2 and 5.3.3)."""
    exponent = round(1 / root)
    found = []
    for prime in primes:
        target = prime << (32 * exponent)
        low, high = 0, prime << 32
        while low < high:
            middle = (low + high + 1) // 2
            if middle**exponent <= target:
                low = middle
            else:
                high = middle - 1
        found.append(low & 0xFFFFFFFF)
    return found


def _primes(count: int) -> list[int]:
    found: list[int] = []
    candidate = 2
    while len(found) < count:
        if all(candidate % prime for prime in found):
            found.append(candidate)
        candidate += 1
    return found


_ROUND_CONSTANTS = _fractions(1 / 3, _primes(64))
_A, _B, _C, _D, _E, _F, _G, _H = _fractions(1 / 2, _primes(8))

_LANES: Final = (_F, _E, _B, _A, _H, _G, _D, _C)
"""The working variables as the instructions want them: two vectors, (f, e, b, a) and (h, g, d, c), low lane first."""

_WORD_LANES: Final = (3, 2, 7, 6, 1, 0, 5, 4)
"""In which lane each of a to h is."""


def _generate_compress(_typing: Any, state: Any, data: Any, offset: Any, blocks: Any) -> Any:
    """Mix ``blocks`` blocks of ``data`` from ``offset`` on into ``state`` (uint32[8], ordered as ``_LANES``)."""
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = ir.IntType(32)
        vector = ir.VectorType(word, 4)

        def function(name: str, arity: int, result: Any = vector) -> Any:
            return cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, [vector] * arity), name)

        def load(pointer: Any, index: int) -> Any:
            loaded = builder.load(builder.gep(pointer, [ir.Constant(word, index)]))
            loaded.align = 1
            return loaded

        def lanes(one: Any, other: Any, chosen: tuple[int, ...]) -> Any:
            mask = ir.Constant(vector, [ir.Constant(word, lane) for lane in chosen])
            return builder.shuffle_vector(one, other, mask)

        rounds = function("llvm.x86.sha256rnds2", 3)
        schedule_early = function("llvm.x86.sha256msg1", 2)
        schedule_late = function("llvm.x86.sha256msg2", 2)
        big_endian = function("llvm.bswap.v4i32", 1)
        state_array = context.make_array(signature.args[0])(context, builder, arguments[0])
        data_array = context.make_array(signature.args[1])(context, builder, arguments[1])
        state_pointer = builder.bitcast(state_array.data, vector.as_pointer())
        first_byte = builder.gep(builder.bitcast(data_array.data, ir.IntType(8).as_pointer()), [arguments[2]])
        # The SHA instructions have no form that leaves the upper halves of the registers alone: with anything in
        # those, every switch between them and AVX code costs some seventy cycles.
        builder.call(function("llvm.x86.avx.vzeroupper", 0, ir.VoidType()), [])
        low, high = cgutils.alloca_once(builder, vector), cgutils.alloca_once(builder, vector)
        builder.store(load(state_pointer, 0), low)
        builder.store(load(state_pointer, 1), high)
        with cgutils.for_range(builder, arguments[3]) as loop:
            skipped = builder.mul(loop.index, ir.Constant(loop.index.type, BLOCK_BYTES))
            block = builder.bitcast(builder.gep(first_byte, [skipped]), vector.as_pointer())
            words = [builder.call(big_endian, [load(block, index)]) for index in range(4)]
            feba, hgdc = builder.load(low), builder.load(high)
            before = feba, hgdc
            for four in range(16):
                if four >= 4:
                    mixed = builder.call(schedule_early, [words[four - 4], words[four - 3]])
                    mixed = builder.add(mixed, lanes(words[four - 2], words[four - 1], (1, 2, 3, 4)))
                    words.append(builder.call(schedule_late, [mixed, words[four - 1]]))
                constants = [ir.Constant(word, _ROUND_CONSTANTS[4 * four + lane]) for lane in range(4)]
                message = builder.add(words[four], ir.Constant(vector, constants))
                hgdc = builder.call(rounds, [hgdc, feba, message])
                feba = builder.call(rounds, [feba, hgdc, lanes(message, message, (2, 3, 0, 0))])
            builder.store(builder.add(feba, before[0]), low)
            builder.store(builder.add(hgdc, before[1]), high)
        for index, variable in enumerate((low, high)):
            pointer = builder.gep(state_pointer, [ir.Constant(word, index)])
            builder.store(builder.load(variable), pointer).align = 1
        return context.get_dummy_value()

    return types.void(state, data, offset, blocks), generate


_compress = Intrinsic(_generate_compress)


_START = np.array(_LANES, dtype=np.uint32)
_LANE_OF = np.array(_WORD_LANES, dtype=np.int64)
_CONSTANTS = np.array(_ROUND_CONSTANTS, dtype=np.uint32)


def _compress_plain(state: Any, data: Bytes, offset: int, blocks: int) -> None:
    """``_compress`` in ordinary arithmetic, for processors without the instructions (FIPS 180-4, section 6.2.2)."""
    words = np.empty(64, dtype=np.uint32)
    for block in range(blocks):
        start = offset + block * BLOCK_BYTES
        for index in range(16):
            place = start + 4 * index
            words[index] = (
                (np.uint32(data[place]) << np.uint32(24))
                | (np.uint32(data[place + 1]) << np.uint32(16))
                | (np.uint32(data[place + 2]) << np.uint32(8))
                | np.uint32(data[place + 3])
            )
        for index in range(16, 64):
            early, late = words[index - 15], words[index - 2]
            small = _rotated(early, 7) ^ _rotated(early, 18) ^ (early >> np.uint32(3))
            large = _rotated(late, 17) ^ _rotated(late, 19) ^ (late >> np.uint32(10))
            words[index] = words[index - 16] + small + words[index - 7] + large
        f, e, b, a = state[0], state[1], state[2], state[3]
        h, g, d, c = state[4], state[5], state[6], state[7]
        for index in range(64):
            mixed = _rotated(e, 6) ^ _rotated(e, 11) ^ _rotated(e, 25)
            first = np.uint32(h + mixed + ((e & f) ^ (~e & g)) + _CONSTANTS[index] + words[index])
            mixed = _rotated(a, 2) ^ _rotated(a, 13) ^ _rotated(a, 22)
            second = np.uint32(mixed + ((a & b) ^ (a & c) ^ (b & c)))
            h, g, f, e = g, f, e, np.uint32(d + first)
            d, c, b, a = c, b, a, np.uint32(first + second)
        for lane, word in enumerate((f, e, b, a, h, g, d, c)):
            state[lane] += word


def _rotated(word: Any, count: int) -> Any:
    return np.uint32((word >> np.uint32(count)) | (word << np.uint32(32 - count)))


def has_sha_instructions() -> bool:
    """Whether this processor has the SHA Extensions."""
    features = binding.get_host_cpu_features()
    return bool(features.get("sha") and features.get("avx"))


_mix: Any = _compress if has_sha_instructions() else _compress_plain


def sha256(data: Bytes, size: int, digest: Bytes) -> None:
    """The hash of the first ``size`` bytes, into ``digest``, of shape (32,)."""
    state = np.empty(8, dtype=np.uint32)
    for lane in range(8):
        state[lane] = _START[lane]
    whole = size // BLOCK_BYTES
    _mix(state, data, 0, whole)
    last_blocks = np.zeros(2 * BLOCK_BYTES, dtype=np.uint8)
    filled = size - whole * BLOCK_BYTES
    for index in range(filled):
        last_blocks[index] = data[whole * BLOCK_BYTES + index]
    _finish(state, last_blocks, filled, size, digest)


def _finish(state: Any, last_blocks: Bytes, filled: int, size: int, digest: Bytes) -> None:
    """Pad and mix what is left of a message of ``size`` bytes, and write the hash."""
    last_blocks[filled] = 0x80
    padded = BLOCK_BYTES if filled < BLOCK_BYTES - LENGTH_BYTES else 2 * BLOCK_BYTES
    for index in range(filled + 1, padded - LENGTH_BYTES):
        last_blocks[index] = 0
    bits = size * 8
    for index in range(LENGTH_BYTES):
        last_blocks[padded - 1 - index] = (bits >> (8 * index)) & 255
    _mix(state, last_blocks, 0, padded // BLOCK_BYTES)
    for index in range(8):
        number = state[_LANE_OF[index]]
        digest[4 * index] = number >> 24
        digest[4 * index + 1] = (number >> 16) & 255
        digest[4 * index + 2] = (number >> 8) & 255
        digest[4 * index + 3] = number & 255


def chain_block(head: Bytes, payloads: Bytes, ends: Ints) -> None:
    """Continue a chain over payloads that lie one behind the other.

    Args:
        head: shape (32,), the hash before; becomes the hash after the last payload.
        payloads: bytes of all payloads.
        ends: shape (facts,), where each payload ends; the first begins at 0.
    """
    state = np.empty(8, dtype=np.uint32)
    last_blocks = np.zeros(2 * BLOCK_BYTES, dtype=np.uint8)
    start = 0
    for fact in range(len(ends)):
        end = ends[fact]
        for lane in range(8):
            state[lane] = _START[lane]
        for index in range(HASH_BYTES):
            last_blocks[index] = head[index]
        filled = HASH_BYTES
        position = start
        if end - start >= BLOCK_BYTES - HASH_BYTES:
            for index in range(BLOCK_BYTES - HASH_BYTES):
                last_blocks[HASH_BYTES + index] = payloads[start + index]
            _mix(state, last_blocks, 0, 1)
            position = start + BLOCK_BYTES - HASH_BYTES
            whole = (end - position) // BLOCK_BYTES
            _mix(state, payloads, position, whole)
            position += whole * BLOCK_BYTES
            filled = 0
        while position < end:
            last_blocks[filled] = payloads[position]
            filled += 1
            position += 1
        _finish(state, last_blocks, filled, end - start + HASH_BYTES, head)
        start = end


@cache
def compiled_chain() -> Routine:
    """``chain_block`` as machine code."""
    return routine(chain_block, NOTHING, BYTES, BYTES, INTS, allocates=True)


def chain_with_hashlib(head: Bytes, payloads: Bytes, ends: Ints) -> None:
    """``chain_block`` by the standard library, a fact at a time: the twin, and what runs without the instructions."""
    digest = head.tobytes()
    data = payloads.tobytes()
    start = 0
    for end in ends.tolist():
        digest = hashlib.sha256(digest + data[start:end]).digest()
        start = end
    head[:] = np.frombuffer(digest, dtype=np.uint8)


def link_chain() -> Callable[[Bytes, Bytes, Ints], None]:
    """The faster of the two that this processor can run."""
    chosen: Callable[[Bytes, Bytes, Ints], None] = compiled_chain() if has_sha_instructions() else chain_with_hashlib
    return chosen
