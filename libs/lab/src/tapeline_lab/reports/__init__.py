"""Reports: every figure of a run, console tables, a page, and files for programs, all folded from a tape.

``metrics`` computes, ``groups`` and ``breakdown`` tell apart, ``checks`` doubts, ``console`` and ``page`` show,
``artefacts`` writes, ``command`` is ``tapeline report``. What the backtest's own report says (``tapeline_backtest.
report``) is taken from it and computed nowhere else.
"""
