"""Measurements of the platform beside the peers and the plain work it is built on; ``python -m bench``."""
