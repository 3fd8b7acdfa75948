"""The statement that commits a small group: its tables and columns are those of the projections."""

from tapeline_ledger import commits
from tapeline_ledger.projections import NAMES
from tapeline_ledger.tables import ORDER_COLUMNS, POSITION_COLUMNS


def names(columns: commits.Columns) -> tuple[str, ...]:
    return tuple(name for name, _ in columns)


def test_rows_have_the_columns_that_the_bulk_way_writes() -> None:
    """Both ways of committing write the same columns in the same order."""
    assert names(commits.ORDERS) == ORDER_COLUMNS
    assert names(commits.POSITIONS) == POSITION_COLUMNS


def test_a_statement_names_only_what_is_touched() -> None:
    """A quiet bar touches the tape and the offset, nothing else; one array for each column and the offset."""
    text = commits.statement(("tape",))
    assert not any(name in text.replace("projection_offset", "") for name in NAMES)
    assert f"${len(commits.TAPE) + 1}::bytea[]" in text
    assert f"${len(commits.TAPE) + 2}" not in text
    assert "ON CONFLICT" not in text


def test_a_row_that_exists_is_replaced_by_its_key_and_a_fact_never() -> None:
    """Orders and positions are brought up to date; a second fact at a position is an error, not an update."""
    text = commits.statement(("tape", "orders", "positions"))
    assert text.count("ON CONFLICT") == 2
    assert "ON CONFLICT (order_id) DO UPDATE SET strategy" in text
    assert "ON CONFLICT (strategy, instrument) DO UPDATE SET quantity" in text
