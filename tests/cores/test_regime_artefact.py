"""Model files: what is loaded is exactly what was saved under that hash, or nothing is."""

import hashlib
import os
import pickle
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tapeline_regime.artefact import LARGEST_FILE_BYTES, ArtefactFault, artefact_path, load, save
from tapeline_regime.features import FEATURE_NAMES
from tapeline_regime.model import ModelFault, RegimeModel, check, model_hash, to_bytes

HOURLY = RegimeModel(
    feature_names=FEATURE_NAMES,
    scaler_mean=(0.0001, -5.25),
    scaler_scale=(0.01, 0.4),
    start=(0.5, 0.2, 0.3),
    transition=((0.97, 0.01, 0.02), (0.01, 0.98, 0.01), (0.02, 0.02, 0.96)),
    means=((0.03, -1.0), (-0.02, 1.2), (0.0, -0.2)),
    variances=((0.2, 0.08), (2.5, 0.5), (0.5, 0.08)),
)
HOURLY_HASH = model_hash(HOURLY)


def mutants(data: bytes, count: int) -> list[bytes]:
    """Damaged copies: flipped bits, cut ends, doubled pieces, swapped blocks, appended bytes, other content."""
    generator = np.random.default_rng(17)
    damaged: list[bytes] = []
    while len(damaged) < count:
        kind = len(damaged) % 6
        place, other = sorted(int(number) for number in generator.integers(0, len(data), 2))
        noise = generator.bytes(1 + place % 64)
        flipped = bytes([data[place] ^ (1 << int(generator.integers(0, 8)))])
        mutant = [
            data[:place] + flipped + data[place + 1 :],
            data[:place],
            data[:other] + data[place:],
            data[other:] + data[place:other] + data[:place],
            data + noise,
            noise + data[len(noise) :],
        ][kind]
        if mutant != data:
            damaged.append(mutant)
    return damaged


def put(folder: Path, sha256: str, data: bytes) -> None:
    """Write ``data`` where the model with this hash is looked for."""
    path = artefact_path(folder, sha256)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    """There and back, at the path that the hash says."""
    path = save(tmp_path, HOURLY)
    assert path == tmp_path / "sha256" / HOURLY_HASH[:2] / f"{HOURLY_HASH}.model"
    assert load(tmp_path, HOURLY_HASH) == HOURLY


def test_the_name_of_the_file_is_the_hash_of_its_content(tmp_path: Path) -> None:
    """So `sha256sum` alone can audit a folder of models."""
    path = save(tmp_path, HOURLY)
    assert isinstance(path, Path)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == path.stem


def test_saving_twice_writes_once(tmp_path: Path) -> None:
    """The second save finds the file and leaves it alone."""
    path = save(tmp_path, HOURLY)
    assert isinstance(path, Path)
    before = path.stat().st_ino
    assert save(tmp_path, HOURLY) == path
    assert path.stat().st_ino == before


def test_saving_heals_a_damaged_file(tmp_path: Path) -> None:
    """Other bytes under the model's name are replaced by the right ones."""
    put(tmp_path, HOURLY_HASH, b"half a mod")
    save(tmp_path, HOURLY)
    assert load(tmp_path, HOURLY_HASH) == HOURLY


def test_a_faulty_model_is_not_saved(tmp_path: Path) -> None:
    """It is refused with its fault and nothing is written."""
    faulty = msgspec.structs.replace(HOURLY, start=(0.5, 0.2, 0.2))
    assert save(tmp_path, faulty) is ModelFault.ROWS_DO_NOT_SUM_TO_ONE
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the last moment of writing fails, there is neither a model nor a half-written file."""

    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        save(tmp_path, HOURLY)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert load(tmp_path, HOURLY_HASH) is ArtefactFault.MISSING


def test_none_of_200_damaged_files_loads(tmp_path: Path) -> None:
    """Damage under an honest name never gets as far as the parser."""
    for mutant in mutants(to_bytes(HOURLY), 200):
        put(tmp_path, HOURLY_HASH, mutant)
        assert load(tmp_path, HOURLY_HASH) is ArtefactFault.HASH_MISMATCH


def test_none_of_200_forged_files_crashes(tmp_path: Path) -> None:
    """A forger can name damage by its own hash: then it is refused, or it is a sound model with exactly that hash."""
    refused = 0
    for mutant in mutants(to_bytes(HOURLY), 200):
        sha256 = hashlib.sha256(mutant).hexdigest()
        put(tmp_path, sha256, mutant)
        loaded = load(tmp_path, sha256)
        if isinstance(loaded, RegimeModel):
            assert check(loaded, sha256) is None
        else:
            assert loaded is ArtefactFault.INVALID_MODEL
            refused += 1
    assert refused > 180


def test_a_pickle_is_not_a_model(tmp_path: Path) -> None:
    """Even under its own hash it is only unknown bytes."""
    data = pickle.dumps({"means": [1.0]})
    sha256 = hashlib.sha256(data).hexdigest()
    put(tmp_path, sha256, data)
    assert load(tmp_path, sha256) is ArtefactFault.INVALID_MODEL


def test_a_model_under_another_models_name_is_refused(tmp_path: Path) -> None:
    """A sound model in the wrong place is not the one that was asked for."""
    other = msgspec.structs.replace(HOURLY, scaler_mean=(0.0002, -5.25))
    put(tmp_path, HOURLY_HASH, to_bytes(other))
    assert load(tmp_path, HOURLY_HASH) is ArtefactFault.HASH_MISMATCH


def test_a_file_over_the_cap_is_not_read(tmp_path: Path) -> None:
    """The cap is inclusive: at it the content decides, one byte more is too large."""
    put(tmp_path, HOURLY_HASH, bytes(LARGEST_FILE_BYTES))
    assert load(tmp_path, HOURLY_HASH) is ArtefactFault.HASH_MISMATCH
    put(tmp_path, HOURLY_HASH, bytes(LARGEST_FILE_BYTES + 1))
    assert load(tmp_path, HOURLY_HASH) is ArtefactFault.TOO_LARGE


def test_a_missing_model_is_missing(tmp_path: Path) -> None:
    """In a folder that exists and in one that does not."""
    assert load(tmp_path, HOURLY_HASH) is ArtefactFault.MISSING
    assert load(tmp_path / "nowhere", HOURLY_HASH) is ArtefactFault.MISSING


def test_a_path_that_is_no_file_is_unreadable(tmp_path: Path) -> None:
    """A directory in the model's place is named as such, not raised."""
    artefact_path(tmp_path, HOURLY_HASH).mkdir(parents=True)
    assert load(tmp_path, HOURLY_HASH) is ArtefactFault.UNREADABLE


@pytest.mark.parametrize(
    "name", ["", "latest", "../../etc/passwd", HOURLY_HASH.upper(), HOURLY_HASH[:-1], HOURLY_HASH + "\n", "g" * 64]
)
def test_only_a_hash_is_a_name(tmp_path: Path, name: str) -> None:
    """Nothing but 64 lowercase hexadecimal digits ever becomes part of a path."""
    save(tmp_path, HOURLY)
    assert load(tmp_path, name) is ArtefactFault.BAD_HASH
