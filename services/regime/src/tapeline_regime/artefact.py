"""Model files: content-addressed, verified before they are parsed, written whole or not at all.

A model lies at ``<folder>/sha256/<first two digits>/<hash>.model``; the file is the model's canonical bytes, so the
name of the file is the hash of its content and of the model at once. There is no "latest" and nothing is overwritten
with other content: which model is in use is said on the tape, not here. No pickle is read or written.
"""

from __future__ import annotations

import hashlib
import re
from enum import Enum
from pathlib import Path
from typing import Final

from tapeline_common.whole_file import write_whole
from tapeline_regime.model import ModelFault, RegimeModel, check, from_bytes, model_hash, to_bytes

LARGEST_FILE_BYTES: Final = 65_536
"""A two-feature model takes under 600 bytes; anything near this is not ours and is not read further."""

_HASH: Final = re.compile(r"[0-9a-f]{64}")


class ArtefactFault(Enum):
    """Why a model file was not loaded."""

    BAD_HASH = "bad_hash"
    MISSING = "missing"
    UNREADABLE = "unreadable"
    TOO_LARGE = "too_large"
    HASH_MISMATCH = "hash_mismatch"
    INVALID_MODEL = "invalid_model"


def artefact_path(folder: Path, model_sha256: str) -> Path:
    """Where the model with this hash lies under ``folder``, whether or not it is there."""
    return folder / "sha256" / model_sha256[:2] / f"{model_sha256}.model"


def save(folder: Path, model: RegimeModel) -> Path | ModelFault:
    """Store ``model`` under its hash and return the path; a faulty model is refused and nothing is written.

    Readers see the whole file or none, also across a crash or a second writer. A file that is already there with other
    bytes (a damaged disk) is replaced by the right ones.

    Raises:
        OSError: the folder cannot be written.
    """
    fault = check(model)
    if fault is not None:
        return fault
    data = to_bytes(model)
    path = artefact_path(folder, model_hash(model))
    if _read(path) == data:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, data, 0o644)
    return path


def load(folder: Path, model_sha256: str) -> RegimeModel | ArtefactFault:
    """The model with exactly this hash, or why it was not loaded. The hash is compared before anything is parsed."""
    if _HASH.fullmatch(model_sha256) is None:
        return ArtefactFault.BAD_HASH
    data = _read(artefact_path(folder, model_sha256))
    if isinstance(data, ArtefactFault):
        return data
    if hashlib.sha256(data).hexdigest() != model_sha256:
        return ArtefactFault.HASH_MISMATCH
    model = from_bytes(data)
    return ArtefactFault.INVALID_MODEL if isinstance(model, ModelFault) else model


def _read(path: Path) -> bytes | ArtefactFault:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE_BYTES + 1)
    except FileNotFoundError:
        return ArtefactFault.MISSING
    except OSError:
        return ArtefactFault.UNREADABLE
    return ArtefactFault.TOO_LARGE if len(data) > LARGEST_FILE_BYTES else data
