"""The suite catches every seeded mutant, names what is wrong with it, and leaves honest pipelines alone."""

from __future__ import annotations

from typing import Any

import pytest
from tests.bias.clean import CLEAN
from tests.bias.mutants import MUTANTS

from tapeline_lab.bias.findings import Probe
from tapeline_lab.bias.subjects import pipeline_subject
from tapeline_lab.bias.suite import examine


@pytest.mark.parametrize("name", MUTANTS)
def test_every_mutant_is_caught_and_named(name: str) -> None:
    """The wrong column is found, with its kind and how far ahead it looks; the right ones beside it are not."""
    mutant = MUTANTS[name]
    table = mutant.bars()
    subject = pipeline_subject(mutant.pipeline, name=name, frame=mutant.frame, at_open=mutant.at_open)
    analysis = examine(subject, table, event_cuts=mutant.event_cuts)
    found = {finding.column: finding for finding in analysis.findings}
    assert list(found) == [mutant.column], analysis.findings
    finding = found[mutant.column]
    assert finding.kind in mutant.kinds, finding.sentence
    assert mutant.farthest in (None, finding.farthest), finding.sentence
    assert mutant.nearest in (None, finding.nearest), finding.sentence


@pytest.mark.parametrize("name", CLEAN)
def test_honest_pipelines_raise_no_alarm(name: str) -> None:
    """Nothing is found at 64 cuts, without later bars and with unknown ones."""
    assert_silent(name, event_cuts=0, probes=(Probe.PREFIX, Probe.NAN))


@pytest.mark.slow
@pytest.mark.parametrize("name", CLEAN)
def test_honest_pipelines_raise_no_alarm_whatever_the_future(name: str) -> None:
    """Nothing is found by any probe, at cuts where something happens as well."""
    assert_silent(name)


def assert_silent(name: str, **how: Any) -> None:
    clean = CLEAN[name]
    subject = pipeline_subject(clean.pipeline, name=name, frame=clean.frame, at_open=clean.at_open)
    analysis = examine(subject, clean.bars(), **how)
    assert analysis.findings == (), [finding.sentence for finding in analysis.findings]
    assert analysis.cuts >= 64


def test_there_are_enough_of_both() -> None:
    """What the suite is trusted by: at least 14 ways to be wrong, at least 20 ways to be right."""
    assert len(MUTANTS) >= 14
    assert len(CLEAN) >= 20
