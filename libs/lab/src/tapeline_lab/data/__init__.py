"""Recorded market data as it lies on disk: what there is, whether it is fit, and how it becomes another form.

Nothing here downloads, trades, or repairs: a fault is named with its position, and the file stays as it is.
"""
