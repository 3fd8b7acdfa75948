"""Research of pairs: do two prices belong together, by which ratio, and did they go on doing so."""
