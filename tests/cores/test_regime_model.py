"""The regime model as a value: one identity, exact JSON, and every fault found and named."""

import hashlib
import itertools
import json
import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline_regime.features import FEATURE_NAMES
from tapeline_regime.model import (
    BEAR,
    BULL,
    CHOP,
    STATES,
    ModelFault,
    RegimeModel,
    check,
    from_bytes,
    model_hash,
    reorder,
    stationary,
    to_bytes,
)

HOURLY = RegimeModel(
    feature_names=FEATURE_NAMES,
    scaler_mean=(0.0001, -5.25),
    scaler_scale=(0.01, 0.4),
    start=(0.5, 0.2, 0.3),
    transition=((0.97, 0.01, 0.02), (0.01, 0.98, 0.01), (0.02, 0.02, 0.96)),
    means=((0.03, -1.0), (-0.02, 1.2), (0.0, -0.2)),
    variances=((0.2, 0.08), (2.5, 0.5), (0.5, 0.08)),
)


def changed(**fields: Any) -> RegimeModel:
    """The hourly model with some fields replaced."""
    return msgspec.structs.replace(HOURLY, **fields)


def arrays(model: RegimeModel) -> dict[str, Any]:
    """Its numeric fields, as nested lists."""
    plain: dict[str, Any] = json.loads(msgspec.json.encode(model))
    del plain["feature_names"]
    return plain


def nudged() -> list[RegimeModel]:
    """Every model that differs from the hourly one in the last bit of one number."""
    models = []
    for name, values in arrays(HOURLY).items():
        flat = np.array(values, dtype=float)
        for place in np.ndindex(flat.shape):
            other = flat.copy()
            other[place] = np.nextafter(other[place], 10.0)
            fields = arrays(HOURLY) | {name: other.tolist(), "feature_names": FEATURE_NAMES}
            models.append(msgspec.convert(fields, RegimeModel))
    return models


def test_a_sound_model_has_no_fault() -> None:
    """The check stays quiet on a good model, also with its hash demanded."""
    assert check(HOURLY, model_hash(HOURLY)) is None


def test_states_are_in_the_promised_order() -> None:
    """Index 0 is BULL, 1 BEAR, 2 CHOP."""
    assert (STATES[BULL], STATES[BEAR], STATES[CHOP]) == ("BULL", "BEAR", "CHOP")


def test_the_canonical_bytes_are_what_the_format_says() -> None:
    """Written a second way, with numpy: magic line, header line, little-endian C-order doubles."""
    fields = arrays(HOURLY)
    header = {
        "features": list(FEATURE_NAMES),
        "states": list(STATES),
        "arrays": [[name, "<f8", list(np.shape(values))] for name, values in fields.items()],
    }
    raw = b"".join(np.asarray(values, dtype="<f8").tobytes(order="C") for values in fields.values())
    expected = b"tapeline regime model 1\n" + json.dumps(header, separators=(",", ":")).encode() + b"\n" + raw
    assert to_bytes(HOURLY) == expected
    assert model_hash(HOURLY) == hashlib.sha256(expected).hexdigest()


def test_the_identity_of_a_known_model_never_moves() -> None:
    """A stored hash: if the format changes, models on old tapes lose their names, so the magic line must change too."""
    assert model_hash(HOURLY) == "265e223fd640707231fc74fdda925e5e6dafdffcb427af04bfaae13ef031f801"


def test_one_bit_of_one_number_makes_another_model() -> None:
    """All numbers and names are part of the identity."""
    models = [HOURLY, *nudged(), changed(feature_names=("log_return", "other"))]
    assert len({model_hash(model) for model in models}) == len(models)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=12, max_size=12))
def test_json_there_and_back_is_exact(numbers: list[float]) -> None:
    """Any finite doubles, minus zero and subnormals too, come back with the same bits."""
    pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
    model = changed(means=tuple(pairs[:3]), variances=tuple(pairs[3:]))
    restored = msgspec.json.decode(msgspec.json.encode(model), type=RegimeModel)
    assert to_bytes(restored) == to_bytes(model)


def test_bytes_there_and_back_are_exact() -> None:
    """Reading canonical bytes gives the model that wrote them."""
    assert from_bytes(to_bytes(HOURLY)) == HOURLY


FAULTY = {
    "no features": (changed(feature_names=(), scaler_mean=(), scaler_scale=()), ModelFault.SHAPE),
    "a mean too many": (changed(means=((0.0, 0.0, 0.0), *HOURLY.means[1:])), ModelFault.SHAPE),
    "two states": (changed(means=HOURLY.means[:2]), ModelFault.SHAPE),
    "four columns": (changed(transition=((0.25,) * 4, *HOURLY.transition[1:])), ModelFault.SHAPE),
    "short start": (changed(start=(0.5, 0.5)), ModelFault.SHAPE),
    "other decay": (
        changed(feature_names=("log_return", "ewma_log_volatility(decay=0.9,seed=20)")),
        ModelFault.UNKNOWN_FEATURES,
    ),
    "NaN mean": (changed(means=((math.nan, 0.0), *HOURLY.means[1:])), ModelFault.NOT_FINITE),
    "infinite variance": (changed(variances=((math.inf, 1.0), *HOURLY.variances[1:])), ModelFault.NOT_FINITE),
    "NaN transition": (changed(transition=((math.nan, 0.5, 0.5), *HOURLY.transition[1:])), ModelFault.NOT_FINITE),
    "NaN start": (changed(start=(math.nan, 0.5, 0.5)), ModelFault.NOT_FINITE),
    "huge mean": (changed(means=((1e7, 0.0), *HOURLY.means[1:])), ModelFault.OUT_OF_RANGE),
    "zero scale": (changed(scaler_scale=(0.0, 1.0)), ModelFault.OUT_OF_RANGE),
    "negative scale": (changed(scaler_scale=(-0.01, 0.4)), ModelFault.OUT_OF_RANGE),
    "negative probability": (
        changed(transition=((1.1, -0.1, 0.0), *HOURLY.transition[1:])),
        ModelFault.BAD_PROBABILITY,
    ),
    "absorbing state": (changed(transition=((1.0, 0.0, 0.0), *HOURLY.transition[1:])), ModelFault.BAD_PROBABILITY),
    "certain start": (changed(start=(1.0, 0.0, 0.0)), ModelFault.BAD_PROBABILITY),
    "row over one": (
        changed(transition=((0.97, 0.01, 0.02 + 2e-12), *HOURLY.transition[1:])),
        ModelFault.ROWS_DO_NOT_SUM_TO_ONE,
    ),
    "start under one": (changed(start=(0.5, 0.2, 0.2)), ModelFault.ROWS_DO_NOT_SUM_TO_ONE),
    "thin state": (changed(variances=((0.2, 0.0099), *HOURLY.variances[1:])), ModelFault.VARIANCE_BELOW_FLOOR),
    "negative variance": (changed(variances=((-0.2, 0.1), *HOURLY.variances[1:])), ModelFault.VARIANCE_BELOW_FLOOR),
}


@pytest.mark.parametrize("name", FAULTY)
def test_every_fault_is_found_and_named(name: str) -> None:
    """One broken thing gives exactly its fault."""
    model, fault = FAULTY[name]
    assert check(model) is fault


def test_every_kind_of_fault_has_an_example() -> None:
    """The table above covers the closed enum but for the two faults that concern bytes, tested below."""
    found = {fault for _, fault in FAULTY.values()}
    assert found == set(ModelFault) - {ModelFault.MALFORMED, ModelFault.HASH_MISMATCH}


def test_another_models_hash_is_a_mismatch() -> None:
    """The hash demanded is compared with the content, not believed."""
    assert check(HOURLY, model_hash(nudged()[0])) is ModelFault.HASH_MISMATCH


def test_rounding_within_the_tolerance_is_no_fault() -> None:
    """Rows that miss 1 by less than 1e-12 are sums of doubles, not errors."""
    assert check(changed(transition=((0.97, 0.01, 0.02 + 5e-13), *HOURLY.transition[1:]))) is None


def test_a_faulty_model_cannot_hide_in_well_formed_bytes() -> None:
    """Bytes of the right form are still checked as a model."""
    model, fault = FAULTY["row over one"]
    assert from_bytes(to_bytes(model)) is fault


def test_bytes_of_another_spelling_are_malformed() -> None:
    """The same header with a space in it would be a second name for one model."""
    assert from_bytes(to_bytes(HOURLY).replace(b'"states":', b'"states": ')) is ModelFault.MALFORMED


@pytest.mark.parametrize("data", [b"", b"\x80\x04N.", b"tapeline regime model 1\n", b"tapeline regime model 1\n{}\n"])
def test_other_bytes_are_malformed(data: bytes) -> None:
    """Nothing, a pickle, and headers without content are refused alike."""
    assert from_bytes(data) is ModelFault.MALFORMED


def test_missing_numbers_are_a_wrong_shape() -> None:
    """A file cut short within the numbers says so."""
    assert from_bytes(to_bytes(HOURLY)[:-8]) is ModelFault.SHAPE


def test_canonical_bytes_of_a_misshapen_model_are_a_bug() -> None:
    """There is no spelling for a model whose arrays do not fit."""
    with pytest.raises(ValueError, match="do not fit 3 states of 2 features"):
        to_bytes(changed(means=HOURLY.means[:2]))


def test_reordering_moves_rows_columns_and_emissions_together() -> None:
    """CHOP first: every number goes with its state."""
    assert reorder(HOURLY, (2, 0, 1)) == changed(
        start=(0.3, 0.5, 0.2),
        transition=((0.96, 0.02, 0.02), (0.02, 0.97, 0.01), (0.01, 0.01, 0.98)),
        means=((0.0, -0.2), (0.03, -1.0), (-0.02, 1.2)),
        variances=((0.5, 0.08), (0.2, 0.08), (2.5, 0.5)),
    )


def test_the_long_run_shares_stay_put_under_the_transition() -> None:
    """pi A = pi, for random chains and for nearly closed ones; renumbering states changes no bit."""
    generator = np.random.default_rng(3)
    for concentration in (0.2, 1.0, 20.0):
        matrix = generator.dirichlet([concentration] * 3, size=3) * (1 - 3e-8) + 1e-8
        model = changed(transition=tuple(tuple(row) for row in matrix.tolist()))
        shares = stationary(model.transition)
        np.testing.assert_allclose(np.array(shares) @ matrix, shares, rtol=1e-9)
        for order in itertools.permutations(range(3)):
            assert stationary(reorder(model, order).transition) == tuple(shares[state] for state in order)
