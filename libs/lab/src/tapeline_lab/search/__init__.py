"""Studies of many runs: sweeps, walk-forward, sensitivity and comparison, and the record of every trial."""

from tapeline_lab.search.study import Study, StudyUnreadable, load

__all__ = ["Study", "StudyUnreadable", "load"]
