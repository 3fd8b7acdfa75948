"""Markets that have broken strategies before, and what must hold in each of them, judged from the tape alone.

Nothing here asks whether a strategy earns money: a crash is survived if the breakers fired when they had to, nothing
was sent after a halt, no limit was passed, and the books add up.
"""
