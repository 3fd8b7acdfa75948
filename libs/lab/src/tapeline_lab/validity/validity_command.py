"""``tapeline validity``: how far the best of recorded searches may be believed.

Bad input ends with one message and exit code 2 (the call is wrong) or 4 (a study or a file cannot be used).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import msgspec
import numpy as np

from tapeline_backtest.command import end
from tapeline_backtest.report import returns_of
from tapeline_common.commands_shared import as_json, counted_line, write_json
from tapeline_common.events import StudyGround
from tapeline_common.exits import EXIT_CONFIGURATION, EXIT_USAGE
from tapeline_lab.search.study import Study, StudyUnreadable, load
from tapeline_lab.validity.searches import Judged, count, judged, whole_grounds
from tapeline_lab.validity.series import Floats, SeriesInvalid
from tapeline_marketdata.columns import BadFile, file_digest


class Validity(msgspec.Struct, frozen=True):
    """What ``--json`` prints. counted: trials on the records of all studies named."""

    counted: int
    seed: int
    searches: list[Judged]


@click.command("validity")
@click.argument(
    "studies", metavar="STUDY...", type=click.Path(path_type=Path, file_okay=False), nargs=-1, required=True
)
@click.option(
    "--walk",
    "walks",
    multiple=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of a walk-forward of the same strategy, whose tests count as days that were not searched; repeatable.",
)
@click.option(
    "--data",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    help="The bars of a study, to compare with holding them; repeatable.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of everything resampled.")
@as_json
def validity_command(
    studies: tuple[Path, ...], walks: tuple[Path, ...], files: tuple[Path, ...], seed: int, to_json: bool
) -> None:
    """Judge the best trial of each STUDY, the folder of a sweep: could it be luck, or the search?

    Every trial on the records of all the studies counts: each was a chance for luck.
    """
    try:
        opened = [load(folder) for folder in studies]
        walked = [load(folder) for folder in walks]
        digests = {file_digest(path): path for path in files}
        asked = [(study, ground) for study in opened for ground in whole_grounds(study)]
        progress = counted_line("searches judged")
        found: list[Judged] = []
        for done, (study, ground) in enumerate(asked, 1):
            one = _judged(study, ground, count(opened), walked, digests, seed)
            found += [] if one is None else [one]
            if progress is not None:
                progress(done, len(asked))
    except (StudyUnreadable, BadFile) as trouble:
        end(str(trouble), EXIT_CONFIGURATION)
    except SeriesInvalid as trouble:
        end(f"{', '.join(map(str, studies))}: {trouble}", EXIT_CONFIGURATION)
    if not found:
        end("no trial of these studies has a value of what was looked for: name the folder of a sweep", EXIT_USAGE)
    if to_json:
        write_json(Validity(count(opened), seed, found))
        return
    from tapeline_lab.validity.tables import print_searches

    print_searches(found)


def _judged(
    study: Study, ground: int, counted: int, walked: Sequence[Study], digests: dict[str, Path], seed: int
) -> Judged | None:
    where = study.grounds[ground]
    walks = [walk for walk in walked if any(_is_same(where, other) for other in walk.grounds)]
    if walked and not walks:
        raise StudyUnreadable(f"none of the --walk folders has {where.instrument} {where.timeframe} of {where.source}")
    holding = None
    if digests:
        if where.digest not in digests:
            raise StudyUnreadable(f"none of the --data files is {where.source} (SHA-256 {where.digest[:12]})")
        holding = holding_returns(digests[where.digest], where)
    return judged(study, ground, counted=counted, seed=seed, walk=walks[0] if walks else None, holding=holding)


def _is_same(one: StudyGround, other: StudyGround) -> bool:
    return (one.instrument, one.timeframe, one.digest) == (other.instrument, other.timeframe, other.digest)


def holding_returns(path: Path, where: StudyGround) -> Floats:
    """Daily returns on a ground of buying at its first close with everything there is, shape (days,)."""
    from tapeline_lab.search.bench import day_ends, read_file

    bars = read_file(str(path), where.timeframe)
    first = int(np.searchsorted(bars.columns.open_ns, where.first_open_ns))
    part = bars.part(first, first + where.bars)
    closes = part.columns.close
    return returns_of(np.concatenate([closes[:1], closes[day_ends(part)]]))
