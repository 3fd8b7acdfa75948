"""What indicators are put together from: sums, extremes and averages of the last values, each a step of a few lines.

A block is a plain function of numbers over a list of floats, so it is interpreted and compiled to the same bits. It
keeps its numbers in ``memory`` from index ``at`` on; how many it needs is the constant or function beside it, and fresh
memory is zeros. A value of NaN is "nothing yet" (another block still warming up): it is passed over and the answer is
NaN, so blocks stand behind one another without counting bars.

A rolling sum that adds the newest and takes off the oldest drifts, and never recovers from one huge value. Here a
window is the end of a closed block and the beginning of an open one: when a block is full, the sums of all its ends
are made once, from the back. A window is then one end plus the open block: two numbers, nothing ever taken off, a
constant number of operations a value on average. So for maxima and means too (the scheme of van Herk, 1992, and of Gil
and Werman, 1993, for extremes; the merging of means and squares is that of Chan, Golub and LeVeque, 1983).
"""

from __future__ import annotations

from math import nan

PREVIOUS, RANGE, EMA, RMA, PAIR = 2, 2, 2, 2, 5
"""Memory of ``previous`` and ``change``, ``true_range``, ``ema``, ``rma`` and ``average_pair``."""


def previous(memory: list[float], at: int, value: float) -> float:
    """The value before this one."""
    if value != value:
        return nan
    before = memory[at + 1] if memory[at] > 0.0 else nan
    memory[at] = 1.0
    memory[at + 1] = value
    return before


def change(memory: list[float], at: int, value: float) -> float:
    """The value less the one before."""
    return value - previous(memory, at, value)


def true_range(memory: list[float], at: int, high: float, low: float, close: float) -> float:
    """max(high, previous close) - min(low, previous close); NaN at the first bar, which has no previous close."""
    before = previous(memory, at, close)
    if before != before:
        return nan
    return max(high, before) - min(low, before)


def delay_size(length: int) -> int:
    return 1 + length


def delayed(memory: list[float], at: int, length: int, value: float) -> float:
    """The value ``length`` values ago."""
    if value != value:
        return nan
    count = int(memory[at])
    place = at + 1 + count % length
    before = memory[place] if count >= length else nan
    memory[place] = value
    memory[at] = count + 1.0
    return before


def window_size(length: int) -> int:
    return 1 + 2 * length


def pushed(memory: list[float], at: int, length: int, value: float) -> int:
    """Index in memory of the oldest of the last ``length`` values, the others behind it in order; -1 while too few.

    Every value is kept twice, so that a window is never in two pieces.
    """
    if value != value:
        return -1
    count = int(memory[at])
    place = count % length
    memory[at + 1 + place] = value
    memory[at + 1 + place + length] = value
    memory[at] = count + 1.0
    return at + 2 + place if count + 1 >= length else -1


# ---- sums and extremes -------------------------------------------------------------------------------------------


def sum_size(length: int) -> int:
    return 3 + length


def rolling_sum(memory: list[float], at: int, length: int, value: float) -> float:
    """Sum of the last ``length`` values. Memory: values in the open block, whether one is closed, open sum, block."""
    if value != value:
        return nan
    block = at + 3
    count = int(memory[at])
    total = memory[at + 2] + value
    memory[block + count] = value
    count += 1
    if count == length:
        for index in range(block + length - 2, block - 1, -1):
            memory[index] += memory[index + 1]
        memory[at] = 0.0
        memory[at + 1] = 1.0
        memory[at + 2] = 0.0
        return total
    memory[at] = float(count)
    memory[at + 2] = total
    return total + memory[block + count] if memory[at + 1] > 0.0 else nan


def rolling_mean(memory: list[float], at: int, length: int, value: float) -> float:
    """Mean of the last ``length`` values, of equal ones exactly they; memory as ``rolling_sum``, but of means."""
    if value != value:
        return nan
    block = at + 3
    count = int(memory[at]) + 1
    mean = memory[at + 2] + (value - memory[at + 2]) / count
    memory[block + count - 1] = value
    if count == length:
        end = 0.0
        for held in range(1, length + 1):
            place = block + length - held
            end += (memory[place] - end) / held
            memory[place] = end
        memory[at] = 0.0
        memory[at + 1] = 1.0
        memory[at + 2] = 0.0
        return mean
    memory[at] = float(count)
    memory[at + 2] = mean
    return mean + (memory[block + count] - mean) * (length - count) / length if memory[at + 1] > 0.0 else nan


def rolling_max(memory: list[float], at: int, length: int, value: float) -> float:
    """Largest of the last ``length`` values; memory as ``rolling_sum``."""
    if value != value:
        return nan
    block = at + 3
    count = int(memory[at])
    largest = value
    if count > 0 and memory[at + 2] > value:
        largest = memory[at + 2]
    memory[block + count] = value
    count += 1
    if count == length:
        for index in range(block + length - 2, block - 1, -1):
            if memory[index + 1] > memory[index]:
                memory[index] = memory[index + 1]
        memory[at] = 0.0
        memory[at + 1] = 1.0
        return largest
    memory[at] = float(count)
    memory[at + 2] = largest
    if memory[at + 1] == 0.0:
        return nan
    return memory[block + count] if memory[block + count] > largest else largest


def rolling_min(memory: list[float], at: int, length: int, value: float) -> float:
    """Smallest of the last ``length`` values; memory as ``rolling_sum``."""
    return -rolling_max(memory, at, length, -value)


def since_size(length: int) -> int:
    return 3 + 2 * length


def since_highest(memory: list[float], at: int, length: int, value: float) -> float:
    """How many values ago the largest of the last ``length`` was, the newest of equals.

    Memory: values seen, first and length of a queue, then its values and their numbers: each value that no later one
    reaches, in order.
    """
    if value != value:
        return nan
    count, first, queued = int(memory[at]), int(memory[at + 1]), int(memory[at + 2])
    values = at + 3
    numbers = values + length
    while queued > 0 and memory[values + (first + queued - 1) % length] <= value:
        queued -= 1
    if queued > 0 and memory[numbers + first] <= count - length:
        first = (first + 1) % length
        queued -= 1
    place = (first + queued) % length
    memory[values + place] = value
    memory[numbers + place] = float(count)
    memory[at] = count + 1.0
    memory[at + 1] = float(first)
    memory[at + 2] = queued + 1.0
    return count - memory[numbers + first] if count + 1 >= length else nan


# ---- means, squares, weights -------------------------------------------------------------------------------------


def moments_size(length: int) -> int:
    return 4 + 2 * length


def rolling_moments(memory: list[float], at: int, length: int, value: float) -> tuple[float, float]:
    """Mean and variance (divided by ``length``) of the last ``length`` values; of equal values exactly 0.

    Memory: values in the open block, whether one is closed, open mean, open sum of squares about it; then means and
    squares of the ends of the closed block.
    """
    if value != value:
        return nan, nan
    means = at + 4
    squares = means + length
    count = int(memory[at]) + 1
    step = value - memory[at + 2]
    mean = memory[at + 2] + step / count
    square = memory[at + 3] + step * (value - mean)
    memory[means + count - 1] = value
    if count == length:
        _close_moments(memory, at, length)
        return mean, square / length
    memory[at] = float(count)
    memory[at + 2] = mean
    memory[at + 3] = square
    if memory[at + 1] == 0.0:
        return nan, nan
    older = length - count
    apart = memory[means + count] - mean
    total = square + memory[squares + count] + apart * apart * count * older / length
    return mean + apart * older / length, total / length


def _close_moments(memory: list[float], at: int, length: int) -> None:
    means = at + 4
    mean = 0.0
    square = 0.0
    for count in range(1, length + 1):
        place = means + length - count
        value = memory[place]
        step = value - mean
        mean += step / count
        square += step * (value - mean)
        memory[place] = mean
        memory[place + length] = square
    memory[at] = 0.0
    memory[at + 1] = 1.0
    memory[at + 2] = 0.0
    memory[at + 3] = 0.0


def weighted_size(length: int) -> int:
    return 4 + 2 * length


def weighted_mean(memory: list[float], at: int, length: int, value: float) -> float:
    """Mean of the last ``length`` values with the weights 1 (oldest) to ``length`` (newest).

    Memory: values in the open block, whether one is closed, open weighted sum, open sum; then sums and weighted sums of
    the ends of the closed block.
    """
    if value != value:
        return nan
    sums = at + 4
    weighted = sums + length
    count = int(memory[at]) + 1
    open_weighted = memory[at + 2] + count * value
    open_sum = memory[at + 3] + value
    memory[sums + count - 1] = value
    weights = length * (length + 1) / 2.0
    if count == length:
        end_sum = 0.0
        end_weighted = 0.0
        for place in range(sums + length - 1, sums - 1, -1):
            end_sum += memory[place]
            end_weighted += end_sum
            memory[place] = end_sum
            memory[place + length] = end_weighted
        memory[at] = 0.0
        memory[at + 1] = 1.0
        memory[at + 2] = 0.0
        memory[at + 3] = 0.0
        return open_weighted / weights
    memory[at] = float(count)
    memory[at + 2] = open_weighted
    memory[at + 3] = open_sum
    if memory[at + 1] == 0.0:
        return nan
    return (memory[weighted + count] + open_weighted + (length - count) * open_sum) / weights


# ---- exponential averages ----------------------------------------------------------------------------------------


def ema(memory: list[float], at: int, length: int, value: float) -> float:
    """Exponential average with the constant 2 / (length + 1), begun with the mean of the first ``length`` values.

    Memory: values seen up to ``length``, their mean and then the average.
    """
    if value != value:
        return nan
    if memory[at] < length:
        memory[at] += 1.0
        memory[at + 1] += (value - memory[at + 1]) / memory[at]
        return memory[at + 1] if memory[at] >= length else nan
    memory[at + 1] += 2.0 / (length + 1) * (value - memory[at + 1])
    return memory[at + 1]


def rma(memory: list[float], at: int, length: int, value: float) -> float:
    """Wilder's average, an exponential one with the constant 1 / length; memory and beginning as ``ema``."""
    if value != value:
        return nan
    if memory[at] < length:
        memory[at] += 1.0
        memory[at + 1] += (value - memory[at + 1]) / memory[at]
        return memory[at + 1] if memory[at] >= length else nan
    memory[at + 1] += (value - memory[at + 1]) / length
    return memory[at + 1]


def average_pair(memory: list[float], at: int, fast: int, slow: int, value: float) -> tuple[float, float]:
    """A fast and a slow ``ema`` that begin at the same value: the fast one passes over the first ``slow - fast``."""
    if value != value:
        return nan, nan
    quick = nan
    if memory[at] >= slow - fast:
        quick = ema(memory, at + 1, fast, value)
    else:
        memory[at] += 1.0
    return quick, ema(memory, at + 3, slow, value)


# ---- lines -------------------------------------------------------------------------------------------------------


def fitted_line(memory: list[float], at: int, length: int, value: float) -> tuple[float, float, float]:
    """Least-squares line through the last ``length`` values: its newest point, slope a value, R². Memory as ``pushed``.

    R² of equal values is 0: the line explains nothing.
    """
    first = pushed(memory, at, length, value)
    if first < 0:
        return nan, nan, nan
    middle = (length - 1) / 2.0
    total = 0.0
    tilt = 0.0
    for place in range(length):
        apart = memory[first + place] - value
        total += apart
        tilt += (place - middle) * apart
    mean = total / length
    slope = tilt * 12.0 / (length * (length * length - 1.0))
    square = 0.0
    for place in range(length):
        apart = memory[first + place] - value - mean
        square += apart * apart
    fit = min(slope * tilt / square, 1.0) if square > 0.0 else 0.0
    return value + mean + slope * middle, slope, fit
