"""The built-in strategies that decide on one instrument's bars: what other tests add by hand is theirs."""

from __future__ import annotations

from tapeline_strategy.catalogue import find, installed, origin

ALONE = tuple(kind for kind in installed() if find(kind).both is None and origin(kind).startswith("tapeline-strategy "))
