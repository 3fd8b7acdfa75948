"""What every service shares: the tape, the cores and the gears that carry facts."""

__version__ = "0.1.0"
