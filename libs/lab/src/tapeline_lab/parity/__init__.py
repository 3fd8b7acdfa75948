"""Parity: why a recorded session and today's code differ, decision by decision, and what would have been otherwise.

``naming`` gives facts of different tapes the same names; ``record`` knows a recorded tape's answers and their order;
``rerun`` carries its outside facts through today's cores; ``changes`` is what differs between then and now; ``diff``
switches one cause after another. ``fork`` and ``stepping`` use the same parts. Nothing here writes to the tape it
looks at.
"""
