"""The laboratory's facts are for tapes of studies: nobody may say them on a bus."""

from __future__ import annotations

import pytest

from tapeline_common import subjects
from tapeline_common.events import SAYS
from tapeline_common.permissions import allowances
from tapeline_common.wiring import installed_services

LABORATORY = "laboratory"


@pytest.mark.parametrize("replay", [False, True])
def test_nobody_is_permitted_to_speak_for_the_laboratory(replay: bool) -> None:
    """No user may ask for its facts to be recorded, live or in a replay; every other author has somebody."""
    asked = {subject for user in allowances(installed_services(), replay=replay) for subject in user.publish}
    assert subjects.append(LABORATORY) not in asked
    assert not any(subject.startswith(subjects.APPEND) and subject.endswith(("*", ">")) for subject in asked)


def test_no_service_says_or_hears_them() -> None:
    """Research cannot move a live core, not even by a forged tape."""
    own = set(SAYS[LABORATORY])
    for service in installed_services().values():
        assert LABORATORY not in service.authors
        for core in service.cores:
            assert not own & {*core.hears}
