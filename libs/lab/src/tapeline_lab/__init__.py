"""The laboratory: research on top of the gears, and statistics that say how far its results may be believed.

It runs strategies through the gears of ``tapeline_backtest`` and reads tapes. It trades nothing, and no service
imports it.
"""
