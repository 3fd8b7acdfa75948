"""Detectors of bias: results that know the future, that depend on where the data begins, or that are luck.

``lookahead`` compares what is said of a bar with and without the bars after it, ``recursive`` with and without those
long before it, ``leaks`` holds checks for what neither comparison can see, and ``significance`` asks what chance alone
would have earned. They judge functions from bars to columns, strategies of the SDK, and whole tapes of the loop gear.
They repair nothing.
"""
