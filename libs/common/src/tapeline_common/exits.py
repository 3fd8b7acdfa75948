"""Exit codes of every command and service. A module of its own, so that reading them imports nothing else."""

from __future__ import annotations

EXIT_OK, EXIT_ERROR, EXIT_USAGE, EXIT_NOT_RUNNING, EXIT_CONFIGURATION, EXIT_TIMEOUT = 0, 1, 2, 3, 4, 5
