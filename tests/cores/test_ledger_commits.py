"""The statement that commits a small group: its tables and columns are those of the projections."""

from itertools import combinations, product

import pytest

from tapeline_common.money import ZERO
from tapeline_ledger import commits
from tapeline_ledger.projections import NAMES, Changes, OrderRow
from tapeline_ledger.tables import ORDER_COLUMNS, POSITION_COLUMNS


def names(columns: commits.Columns) -> tuple[str, ...]:
    return tuple(name for name, _ in columns)


def test_rows_have_the_columns_that_the_bulk_way_writes() -> None:
    """Both ways of committing write the same columns in the same order."""
    assert names(commits.ORDERS) == ORDER_COLUMNS
    assert names(commits.POSITIONS) == POSITION_COLUMNS


@pytest.mark.parametrize(("is_one_row", "last"), [(True, "::bytea)"), (False, "::bytea[])")])
def test_a_statement_names_only_what_is_touched(is_one_row: bool, last: str) -> None:
    """A quiet bar touches the tape and the offset, nothing else; a value or an array for each column."""
    text = commits.statement(("tape",), is_one_row=is_one_row)
    assert not any(name in text.replace("projection_offset", "") for name in NAMES)
    assert f"${len(commits.TAPE)}{last}" in text
    assert f"${len(commits.TAPE) + 1}" not in text
    assert "ON CONFLICT" not in text


@pytest.mark.parametrize("is_one_row", [True, False])
def test_a_row_that_exists_is_replaced_by_its_key_and_a_fact_never(is_one_row: bool) -> None:
    """Orders and positions are brought up to date; a second fact at a position is an error, not an update."""
    text = commits.statement(("tape", "orders", "positions"), is_one_row=is_one_row)
    assert text.count("ON CONFLICT") == 2
    assert "ON CONFLICT (order_id) DO UPDATE SET strategy" in text
    assert "ON CONFLICT (strategy, instrument) DO UPDATE SET quantity" in text


def test_one_row_is_given_as_values_and_more_as_columns() -> None:
    """Both ways carry the same values in the order of the columns."""
    rows = [[f"{column}{row}" for column, _ in commits.TAPE] for row in range(2)]
    one, values = commits.group(rows[:1], Changes())
    more, columns = commits.group(rows, Changes())
    assert one == commits.statement(("tape",), is_one_row=True)
    assert more == commits.statement(("tape",), is_one_row=False)
    assert values == rows[0]
    assert columns == [*map(list, zip(*rows, strict=True))]


def test_many_rows_of_one_table_make_arrays_of_all() -> None:
    """A table beside them that gets one row is given columns of one row each, so that statements stay few."""
    facts = [[f"{column}{row}" for column, _ in commits.TAPE] for row in range(2)]
    mark = [column for column, _ in commits.EQUITY]

    text, arguments = commits.group(facts, Changes(equity=[tuple(mark)]))

    assert text == commits.statement(("tape", "equity"), is_one_row=False)
    assert arguments == [*map(list, zip(*facts, strict=True)), *([value] for value in mark)]


def test_statements_are_few_whatever_is_committed_together() -> None:
    """Each is prepared when it is first needed and kept: two for each choice of touched tables, and no more."""
    order = OrderRow(*("",) * 7, *(ZERO,) * 3, *("",) * 4, *(ZERO,) * 3, *(0,) * 4)
    texts = set()
    for facts, orders, positions, fills, trades, equity in product((1, 2), *((0, 1, 2, 3) for _ in NAMES)):
        changes = Changes(
            orders={f"order-{number}": order for number in range(orders)},
            positions={(f"strategy-{number}", "BTC"): ("",) * len(commits.POSITIONS) for number in range(positions)},
            fills=[("",) * len(commits.FILLS)] * fills,
            trades=[("",) * len(commits.TRADES)] * trades,
            equity=[("",) * len(commits.EQUITY)] * equity,
        )
        texts.add(commits.group([[""] * len(commits.TAPE)] * facts, changes)[0])
    assert len(texts) == 2 * 2 ** len(NAMES)


def test_no_statement_has_parameters_that_python_keeps_for_ever() -> None:
    """asyncpg passes them on in a tuple with one more place, and Python 3.11 never uses a freed tuple of 20 again."""
    others = [len(columns) for name, (columns, _) in commits.TABLES.items() if name != "tape"]
    sums = {sum(some) for count in range(len(others) + 1) for some in combinations(others, count)}
    assert not {len(commits.TAPE) + more for more in sums} & {19, 20}
