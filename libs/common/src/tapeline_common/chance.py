"""Chance as a function: the same seed, position and salt give the same numbers, always and everywhere.

A core may not hold a random state, because state that is not on the tape cannot be replayed. Here nothing is held: the
words come from the counter-based generator Philox4x64-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as
easy as 1, 2, 3", 2011), whose key is derived from (seed, salt) and whose counter is the position. The position fills
the second of the counter's four words, so two positions can never overlap, however many numbers are taken at each.

The words equal `numpy.random.Philox(key, counter).random_raw()`, which is the test's oracle. They are computed here
because building numpy's object takes 44 us (it asks the operating system for entropy, then ignores it) and this 8 us.
They are turned into numbers with nothing but +, -, *, / and square root, which IEEE 754 rounds alike on every machine;
the platform's logarithm and the library's normal quantile are not used: their last bit may depend on the machine.

What it deliberately does not do: shuffle, choose from lists, or make ids.
"""

import hashlib
import math

POSITION_LIMIT = 2**64  # a position has one 64-bit word of the counter
_MASK = 2**64 - 1

# Coefficients of algorithm AS 241, PPND16 (Wichura, "The percentage points of the normal distribution", Applied
# Statistics 37, 1988; relative accuracy about 1e-16), highest power first: numerator, denominator.
_CENTRE = (
    (
        2509.0809287301227,
        33430.57558358813,
        67265.7709270087,
        45921.95393154987,
        13731.69376550946,
        1971.5909503065514,
        133.14166789178438,
        3.3871328727963665,
    ),
    (
        5226.495278852854,
        28729.085735721943,
        39307.89580009271,
        21213.794301586597,
        5394.196021424751,
        687.1870074920579,
        42.31333070160091,
        1.0,
    ),
)
_SHOULDER = (
    (
        7.745450142783414e-4,
        0.022723844989269184,
        0.2417807251774506,
        1.2704582524523684,
        3.6478483247632045,
        5.769497221460691,
        4.630337846156546,
        1.4234371107496835,
    ),
    (
        1.0507500716444169e-9,
        5.475938084995345e-4,
        0.015198666563616457,
        0.14810397642748008,
        0.6897673349851,
        1.6763848301838038,
        2.053191626637759,
        1.0,
    ),
)
_TAIL = (
    (
        2.0103343992922881e-7,
        2.7115555687434876e-5,
        0.0012426609473880784,
        0.026532189526576124,
        0.29656057182850487,
        1.7848265399172913,
        5.463784911164114,
        6.657904643501103,
    ),
    (
        2.0442631033899397e-15,
        1.421511758316446e-7,
        1.8463183175100548e-5,
        7.868691311456133e-4,
        0.014875361290850615,
        0.1369298809227358,
        0.599832206555888,
        1.0,
    ),
)
_LOG_SERIES = tuple(1.0 / odd for odd in range(25, 0, -2))
_LOG_2 = 0.6931471805599453
_SQRT_HALF = 0.7071067811865476


def draw(seed: int, position: int, salt: str) -> float:
    """One number, uniform in [0, 1), a multiple of 2^-53. ValueError when the position is not in [0, 2^64)."""
    return (_words(seed, position, salt, 1)[0] >> 11) * 2.0**-53


def normals(seed: int, position: int, salt: str, count: int) -> tuple[float, ...]:
    """`count` independent standard normal numbers; the first n do not depend on how many are asked for.

    Each is the normal quantile of one 52-bit uniform taken at the middle of its cell, so the law is symmetric and
    bounded at 8.2. It shares its words with `draw` at the same (seed, position, salt): use another salt for another
    purpose. ValueError when the position is not in [0, 2^64) or the count is negative.
    """
    if count < 0:
        raise ValueError(f"count is {count}; it must be 0 or more")
    return tuple(_normal_quantile(((word >> 12) + 0.5) * 2.0**-52) for word in _words(seed, position, salt, count))


def _words(seed: int, position: int, salt: str, count: int) -> list[int]:
    """The first `count` 64-bit words of the stream that belongs to (seed, salt, position)."""
    if not 0 <= position < POSITION_LIMIT:
        raise ValueError(f"position is {position}; it must be at least 0 and below 2**64")
    digest = hashlib.sha256(f"{seed}\0{salt}".encode()).digest()
    key_0, key_1 = int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:16], "little")
    words: list[int] = []
    block = 1  # the first block has number 1, as in numpy's Philox, so that the two can be compared word for word
    while len(words) < count:
        words += _philox(block, position, key_0, key_1)
        block += 1
    return words[:count]


def _philox(word_0: int, word_1: int, key_0: int, key_1: int) -> tuple[int, int, int, int]:
    """Philox4x64-10 of the counter (word_0, word_1, 0, 0): ten rounds of two 64 x 64 -> 128 bit products."""
    word_2 = word_3 = 0
    for _ in range(10):
        product_0, product_2 = word_0 * 0xD2E7470EE14C6C93, word_2 * 0xCA5A826395121157
        word_0, word_1 = (product_2 >> 64) ^ word_1 ^ key_0, product_2 & _MASK
        word_2, word_3 = (product_0 >> 64) ^ word_3 ^ key_1, product_0 & _MASK
        key_0, key_1 = (key_0 + 0x9E3779B97F4A7C15) & _MASK, (key_1 + 0xBB67AE8584CAA73B) & _MASK
    return word_0, word_1, word_2, word_3


def _normal_quantile(probability: float) -> float:
    """The standard normal number below which lies `probability`, in (0, 1): AS 241, PPND16."""
    offset = probability - 0.5
    if abs(offset) <= 0.425:
        return offset * _ratio(_CENTRE, 0.180625 - offset * offset)
    depth = math.sqrt(-_log(probability if offset < 0.0 else 1.0 - probability))
    size = _ratio(_SHOULDER, depth - 1.6) if depth <= 5.0 else _ratio(_TAIL, depth - 5.0)
    return -size if offset < 0.0 else size


def _ratio(coefficients: tuple[tuple[float, ...], tuple[float, ...]], x: float) -> float:
    numerator, denominator = coefficients
    return _polynomial(numerator, x) / _polynomial(denominator, x)


def _log(x: float) -> float:
    """Natural logarithm of a positive x: the series of 2 artanh((m-1)/(m+1)) for the mantissa m in [0.7, 1.42)."""
    mantissa, exponent = math.frexp(x)
    if mantissa < _SQRT_HALF:
        mantissa, exponent = 2.0 * mantissa, exponent - 1
    slope = (mantissa - 1.0) / (mantissa + 1.0)
    return exponent * _LOG_2 + 2.0 * slope * _polynomial(_LOG_SERIES, slope * slope)


def _polynomial(coefficients: tuple[float, ...], x: float) -> float:
    """Horner's rule, the highest power first."""
    value = 0.0
    for coefficient in coefficients:
        value = value * x + coefficient
    return value
