"""What each service measures, given facts: it counts what happened, refuses what did not, and is quiet otherwise."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace
from tests.measuring import SECOND_NS, Scene
from tests.trading import ATLAS, BTC, DAY_NS, FREE, FUNDED, LISTED, MINUTE_NS, RUN, bar, order

from tapeline_bandit.service import SERVICE as BANDIT
from tapeline_common.catalogue import EVERY_SERVICE, catalogue
from tapeline_common.control_request import Action
from tapeline_common.core import Stamp
from tapeline_common.events import (
    AccountFunded,
    BalanceReported,
    BanditConfigured,
    BorrowCharged,
    DataRejected,
    FeedInterrupted,
    FeedOpened,
    FeedResumed,
    FundingPublished,
    HaltRequested,
    LimitsSet,
    ModelPromoted,
    ModelRegistered,
    ModelRolledBack,
    OrderAccepted,
    OrderApproved,
    OrderCanceled,
    OrderFilled,
    OrderOutcomeUnknown,
    OrderProposed,
    PresetRequested,
    RegimeConfigured,
    ResumeRequested,
    RollbackRequested,
    StrategyConfigured,
    StrategyDisableRequested,
    TradeClosed,
    TrainingFailed,
)
from tapeline_common.measures import Kind
from tapeline_common.values import (
    CancelReason,
    DataFault,
    FeedTroubleKind,
    Liquidity,
    ModelId,
    OrderId,
    PositionSide,
    Purpose,
    Refusal,
    Regime,
    Side,
    TrainingFault,
)
from tapeline_common.wiring import installed_services
from tapeline_execution.service import SERVICE as EXECUTION
from tapeline_ledger.measures import VERBS
from tapeline_ledger.service import SERVICE as LEDGER
from tapeline_marketdata.service import SERVICE as MARKETDATA
from tapeline_regime.measures import ModelTimes
from tapeline_regime.service import SERVICE as REGIME
from tapeline_risk.service import SERVICE as RISK
from tapeline_strategy.service import SERVICE as STRATEGY

NOON_NS = 20_000 * DAY_NS + DAY_NS // 2
KNOWN = [
    {"instrument": str(BTC), "venue": "sim", "currency": "USD"},
    {"strategy": str(ATLAS), "instrument": str(BTC)},
    {"strategy": str(ATLAS), "preset": "quick"},
]
ORDER = OrderId("atlas-1")


def fill(
    side: Side = Side.BUY, quantity: str = "2", price: str = "100", trade: str = "t1", order: str = ORDER, **more: Any
) -> OrderFilled:
    money = {"fee": Decimal(1), "slippage": Decimal(0), **more}
    return OrderFilled(
        OrderId(order), f"c-{order}", ATLAS, BTC, trade, side, Decimal(quantity), Decimal(price),
        fee_currency="USD", liquidity=Liquidity.TAKER, **money,
    )  # fmt: skip


def scene(service: Any, now_ns: int = NOON_NS) -> Scene:
    return Scene(service, known=KNOWN, now_ns=now_ns)


# ---- every table ---------------------------------------------------------------------------------------------------


def test_names_are_stable_and_in_one_table_only() -> None:
    """A name means one thing: no service exposes what another one, or every one, does."""
    names = [measured.name for measured in catalogue()]
    assert len(names) == len(set(names))
    assert all(name.startswith(("tapeline_", "process_")) for name in names)


def test_closed_lists_are_there_from_the_start() -> None:
    """For every installed service: a counter of a closed list has all of it at zero before anything happens."""
    for name, service in installed_services().items():
        zeros = Scene(service, known=KNOWN)
        for measure in service.measures.all:
            closed = [value for values in measure.values.values() for value in values]
            if measure.kind is Kind.COUNTER and closed and not measure.appears:
                text = " ".join(zeros.samples(measure.name))
                missing = [value for value in closed if value not in text]
                assert not missing, f"{name}: {measure.name} has no sample for {missing}"


def test_the_catalogue_is_the_tables() -> None:
    """What every service exposes stands once; what is installed stands under its service."""
    services = {measured.service for measured in catalogue()}
    assert services >= {EVERY_SERVICE, "ledger", "marketdata", "regime", "bandit", "strategy", "risk", "execution"}
    refusals = next(measured for measured in catalogue() if measured.name == "tapeline_refusals_total")
    assert refusals.labels == ("strategy", "reason")
    assert refusals.values == {"reason": tuple(Refusal)}
    commits = next(measured for measured in catalogue() if measured.name == "tapeline_commit_seconds")
    assert commits.samples == tuple(f"tapeline_commit_seconds_{part}" for part in ("bucket", "sum", "count"))


def test_the_ledger_knows_every_verb_of_the_door() -> None:
    """Its table is pure and cannot import the door's own list."""
    assert tuple(Action) == VERBS


# ---- risk ----------------------------------------------------------------------------------------------------------

LIMITS = LimitsSet(max_gross_exposure=Decimal(1000), max_daily_loss=Decimal(50), max_open_positions=3)
RESUMED = ResumeRequested("alice", "go", 1, "")


def proposed(name: str = ORDER, quantity: str = "2", now_ns: int = NOON_NS) -> OrderProposed:
    return OrderProposed(OrderId(name), order(quantity=quantity), now_ns, 0, Decimal(quantity), Regime.UNKNOWN)


def test_risk_counts_its_decisions_by_reason() -> None:
    """An approval, and a refusal under the limit that refused."""
    risk = scene(RISK).restored(RUN, FUNDED, LISTED, LIMITS, RESUMED, bar(0))
    risk.hear(proposed("o-1"), proposed("o-2", "100"))
    assert risk.values("tapeline_approvals_total") == {"strategy=atlas": 1}
    assert risk.values("tapeline_refusals_total") == {"reason=MAX_GROSS_EXPOSURE,strategy=atlas": 1}
    assert risk.values("tapeline_reserved_orders") == {"": 1}


def test_risk_tells_what_is_used_of_each_limit() -> None:
    """Open orders count in full; a limit that is not set is not there, and neither is a drawdown without one."""
    risk = scene(RISK).restored(RUN, FUNDED, LISTED, LIMITS, RESUMED, bar(0))
    risk.hear(proposed("o-1"))
    assert risk.samples("tapeline_limit") == {
        "tapeline_limit{limit=gross_exposure}": 1000,
        "tapeline_limit{limit=open_positions}": 3,
        "tapeline_limit{limit=daily_loss}": 50,
    }
    assert risk.samples("tapeline_limit_used") == {
        "tapeline_limit_used{limit=gross_exposure}": 200,
        "tapeline_limit_used{limit=open_positions}": 1,
        "tapeline_limit_used{limit=daily_loss}": 0,
    }
    risk.hear(fill(order="o-1"), bar(1, close="90"))
    assert risk.samples("tapeline_limit_used") == {
        "tapeline_limit_used{limit=gross_exposure}": 180,
        "tapeline_limit_used{limit=open_positions}": 1,
        "tapeline_limit_used{limit=daily_loss}": 21,
    }


def test_a_loss_at_its_limit_is_a_breach_and_a_halt() -> None:
    """With the state of trading, one-hot; a deposit is no loss."""
    risk = scene(RISK).restored(RUN, FUNDED, LISTED, LIMITS, RESUMED, bar(0))
    risk.hear(AccountFunded("main", "USD", Decimal(-500)))
    assert not risk.values("tapeline_limits_breached_total")
    risk.hear(proposed("o-1"), fill(order="o-1"), bar(1, close="70"))
    assert risk.values("tapeline_limits_breached_total") == {"limit=daily_loss": 1}
    assert risk.values("tapeline_halts_total") == {"reason=DAILY_LOSS": 1}
    assert risk.samples("tapeline_trading_state") == {
        "tapeline_trading_state{state=RUNNING}": 0,
        "tapeline_trading_state{state=HALTED}": 1,
        "tapeline_trading_state{state=FLATTENING}": 0,
    }


def test_what_was_decided_before_the_start_is_not_counted_again() -> None:
    """States are right after a restore; counters begin with the process."""
    risk = scene(RISK).restored(RUN, FUNDED, LISTED, LIMITS, RESUMED, bar(0), proposed("o-1"))
    assert risk.values("tapeline_approvals_total") == {}
    assert risk.values("tapeline_reserved_orders") == {"": 1}


def test_a_disabled_strategy_is_told_and_the_others_are_zero() -> None:
    risk = scene(RISK).restored(RUN)
    assert risk.samples("tapeline_strategy_disabled") == {"tapeline_strategy_disabled{strategy=atlas}": 0}
    risk.hear(StrategyDisableRequested(ATLAS, "alice", "drill"))
    assert risk.values("tapeline_strategy_disabled") == {"strategy=atlas": 1}


# ---- strategy ------------------------------------------------------------------------------------------------------

CROSS = StrategyConfigured(
    ATLAS, "ema_cross", (BTC,), "1m", Decimal(1), {"fast": 2, "slow": 3}, regimes=(), uses_presets=False
)


def test_each_bar_is_judged_once_by_what_became_of_it() -> None:
    """Quiet ones are counted with the next bar; the sum is the bars, and no count ever falls."""
    strategy = scene(STRATEGY).restored(RUN, LISTED, CROSS)
    closes = [100, 100, 100, 100, 90, 120, 130, 140, 90, 80, 70, 120]
    seen: dict[str, float] = {}
    for minute, close in enumerate(closes):
        before = dict(seen)
        strategy.hear(bar(minute, high="200", low="50", close=str(close)))
        seen = dict(strategy.values("tapeline_bars_judged_total"))
        assert all(seen[labels] >= count for labels, count in before.items())
    proposals = sum(strategy.values("tapeline_proposals_total").values())
    assert proposals == seen["outcome=proposed,strategy=atlas"] >= 1
    strategy.hear(bar(len(closes), high="200", low="50", close="120"))
    assert sum(strategy.values("tapeline_bars_judged_total").values()) in (len(closes), len(closes) + 1)


def test_a_declined_signal_is_counted_under_its_reason() -> None:
    """Once: declining again for the same reason is no news, and such a bar is quiet."""
    strategy = scene(STRATEGY).restored(RUN, LISTED, CROSS, HaltRequested("alice", "drill"))
    for minute, close in enumerate([100, 100, 100, 100, 120, 130, 140]):
        strategy.hear(bar(minute, high="200", low="50", close=str(close)))
    assert strategy.values("tapeline_declines_total") == {"reason=TRADING_HALTED,strategy=atlas": 1}
    assert strategy.values("tapeline_bars_judged_total")["outcome=quiet,strategy=atlas"] >= 4
    strategy.hear(bar(7, high="200", low="50", close="150"))
    assert strategy.values("tapeline_bars_judged_total")["outcome=declined,strategy=atlas"] == 1
    assert not strategy.values("tapeline_proposals_total")


# ---- bandit --------------------------------------------------------------------------------------------------------

USES = StrategyConfigured(ATLAS, "ema_cross", (BTC,), "1m", Decimal(1), {}, regimes=(), uses_presets=True)


def test_choices_and_rewards_by_preset() -> None:
    """One preset is in use; propensities sum to one; what was earned before the start is in the sum."""
    bandit = scene(BANDIT).restored(
        RUN, BanditConfigured(1.0, 0.25, 0.998, 0.005), USES, PresetRequested(ATLAS, "quick", {"fast": 2}),
        PresetRequested(ATLAS, "slow", {"fast": 4}),
    )  # fmt: skip
    assert bandit.values("tapeline_preset_chosen_total") == {}
    assert bandit.values("tapeline_preset_in_use") == {"preset=quick,strategy=atlas": 1}
    decision = next(iter(bandit.followers["bandit"].state.learners[ATLAS][BTC].open))
    closed = TradeClosed(
        "t",
        ATLAS,
        BTC,
        PositionSide.LONG,
        Decimal(1),
        Decimal(100),
        Decimal(101),
        1,
        2,
        Decimal(1),
        Decimal(0),
        decision,
    )
    bandit.hear(closed)
    assert sum(bandit.values("tapeline_preset_chosen_total").values()) == 1
    assert bandit.values("tapeline_preset_rewards_total") == {"preset=quick,strategy=atlas": 1}
    assert bandit.values("tapeline_preset_reward_sum") == {"preset=quick,strategy=atlas": 1}
    assert sum(bandit.values("tapeline_preset_propensity").values()) == pytest.approx(1)
    assert sum(bandit.values("tapeline_preset_in_use").values()) == 1
    assert len(bandit.samples("tapeline_preset_mean", "tapeline_preset_deviation")) == 4


# ---- regime --------------------------------------------------------------------------------------------------------

LEARNT = RegimeConfigured(BTC, 300, 250, promote_first=False)


def test_without_a_model_the_regime_is_unknown() -> None:
    """No probability is made up, and the state is one-hot."""
    regime = scene(REGIME).restored(RUN, LEARNT, bar(0))
    assert regime.values("tapeline_regime") == {f"instrument={BTC},regime=UNKNOWN": 1}
    assert regime.samples("tapeline_regime_probability", "tapeline_model_info") == {}
    regime.hear(RollbackRequested(BTC, "alice", "", 1, ""), TrainingFailed(BTC, TrainingFault.NO_VARIATION, ""))
    assert regime.values("tapeline_promotions_refused_total") == {"reason=NOTHING_TO_ROLL_BACK_TO": 1}
    assert regime.values("tapeline_training_failures_total") == {"reason=NO_VARIATION": 1}


def test_times_of_models_follow_promotions_and_rollbacks() -> None:
    """Promoted when it became the current one; trained when that model was registered; right after a restore."""

    def registered(model: str) -> ModelRegistered:
        return ModelRegistered(ModelId(model), BTC, {}, 1, 1, 1, 0.0, 1)

    times = ModelTimes()
    history: list[Any] = [
        registered("a"), ModelPromoted(ModelId("a"), BTC, None, ""),
        registered("b"), ModelPromoted(ModelId("b"), BTC, ModelId("a"), ""),
    ]  # fmt: skip
    for second, event in enumerate(history, start=1):
        times.heard(event, Stamp(second, second * SECOND_NS))
    promoted, trained = "tapeline_model_promoted_time_seconds", "tapeline_model_trained_time_seconds"
    assert list(times.samples(0)) == [(promoted, (BTC,), 4), (trained, (BTC,), 3)]
    times.heard(ModelRolledBack(ModelId("a"), BTC, ModelId("b"), ""), Stamp(9, 9 * SECOND_NS))
    assert list(times.samples(0)) == [(promoted, (BTC,), 9), (trained, (BTC,), 1)]


def test_models_are_counted_by_instrument() -> None:
    regime = scene(REGIME).restored(RUN, LEARNT)
    regime.hear(ModelRegistered(ModelId("nonsense"), BTC, {}, 1, 1, 1, 0.0, 1))
    assert regime.values("tapeline_models_registered_total") == {f"instrument={BTC}": 1}
    assert sum(regime.values("tapeline_promotions_refused_total").values()) == 1
    assert regime.values("tapeline_promotions_total") == {}


# ---- marketdata ----------------------------------------------------------------------------------------------------

OPENED = FeedOpened(BTC, "synthetic", "1m", "")


def test_a_feed_is_up_while_it_is_open_and_not_interrupted() -> None:
    feed = scene(MARKETDATA).restored(LISTED)
    up = f"tapeline_feed_up{{instrument={BTC}}}"
    assert feed.samples("tapeline_feed_up") == {up: 0}
    assert feed.hear(OPENED).samples("tapeline_feed_up") == {up: 1}
    trouble = FeedInterrupted(BTC, FeedTroubleKind.RATE_LIMITED, "")
    assert feed.hear(trouble).samples("tapeline_feed_up") == {up: 0}
    assert feed.values("tapeline_feed_interruptions_total") == {f"instrument={BTC},kind=RATE_LIMITED": 1}
    assert feed.hear(FeedResumed(BTC, 0)).samples("tapeline_feed_up") == {up: 1}


def test_a_feed_is_as_stale_as_its_last_bar() -> None:
    """Also right after a restart; a rejected bar is none."""
    feed = scene(MARKETDATA).restored(LISTED, OPENED, bar(0, close="105"))
    feed.now_ns += 7 * SECOND_NS
    feed.hear(DataRejected(BTC, DataFault.GAP, 0, ""))
    assert feed.values("tapeline_feed_stale_seconds") == {f"instrument={BTC}": 7}
    assert feed.values("tapeline_feed_last_bar_time_seconds") == {f"instrument={BTC}": NOON_NS / SECOND_NS}
    assert feed.values("tapeline_data_rejected_total") == {f"fault=GAP,instrument={BTC}": 1}
    assert feed.values("tapeline_price") == {f"instrument={BTC}": 105}
    assert feed.values("tapeline_bars_total") == {}
    assert feed.hear(bar(1)).values("tapeline_feed_stale_seconds") == {}
    assert feed.values("tapeline_bars_total") == {f"instrument={BTC}": 1}


# ---- execution -----------------------------------------------------------------------------------------------------


def approved(name: str = ORDER, side: Side = Side.BUY) -> OrderApproved:
    return OrderApproved(OrderId(name), order(side, "2"), NOON_NS + DAY_NS)


def trading() -> Scene:
    """Execution with a bar at 100, whose simulated venue hears nothing of orders."""
    one = scene(EXECUTION).restored(RUN, RESUMED, FREE, LISTED)
    venue = one.followers["venue"]
    one.hear(bar(0))
    venue.hear = lambda fact: ()  # type: ignore[assignment]
    return one


def test_an_order_is_followed_from_its_approval_to_its_end() -> None:
    """Submitted, open by state, aged, filled and finished; each counted once."""
    at = trading()
    at.now_ns += SECOND_NS
    at.hear(approved())
    assert at.values("tapeline_orders_submitted_total") == {"strategy=atlas,type=MARKET": 1}
    assert at.values("tapeline_orders") == {"state=SUBMITTED": 1}
    at.now_ns += 3 * SECOND_NS
    assert at.values("tapeline_oldest_open_order_seconds") == {"": 3}
    at.hear(OrderAccepted(ORDER, "c", "v"), fill(quantity="1"))
    assert at.values("tapeline_orders") == {"state=PARTLY_FILLED": 1}
    assert at.values("tapeline_orders_finished_total") == {}
    at.hear(fill(quantity="1", trade="t2"), fill(quantity="1", trade="t2"))
    assert at.values("tapeline_orders_finished_total") == {"state=FILLED": 1}
    assert at.values("tapeline_fills_total") == {"liquidity=TAKER,strategy=atlas": 2}
    assert at.values("tapeline_orders") == {}
    assert at.values("tapeline_oldest_open_order_seconds") == {}
    assert at.values("tapeline_order_to_fill_seconds_count") == {"": 1}
    assert at.values("tapeline_order_to_fill_seconds_sum") == {"": 3}


def test_a_submission_is_timed_from_the_stamp_it_inherits() -> None:
    """A signal's is the bar's; what flattens follows no bar and is not timed."""
    at = trading()
    at.hear(approved("o-1"))
    assert at.values("tapeline_bar_to_order_seconds_count") == {"": 1}
    flattens = replace(order(), purpose=Purpose.FLATTEN, reduce_only=True)
    at.hear(OrderApproved(OrderId("o-2"), flattens, NOON_NS + DAY_NS))
    assert at.values("tapeline_bar_to_order_seconds_count") == {"": 1}


@pytest.mark.parametrize(("side", "price", "bps"), [("BUY", "101", 100), ("SELL", "101", -100), ("SELL", "98", 200)])
def test_slippage_is_against_the_last_close_at_the_approval(side: str, price: str, bps: float) -> None:
    """Positive where worse for us; a bar that comes later changes nothing."""
    at = trading()
    at.hear(approved(side=Side(side)), bar(1, close="50"), fill(Side(side), price=price))
    assert at.values("tapeline_fill_slippage_bps_sum") == {"strategy=atlas": bps}
    assert at.values("tapeline_fill_slippage_bps_count") == {"strategy=atlas": 1}


def test_an_unknown_order_ages_until_the_venue_tells() -> None:
    """Also over a restart, and from the first doubt on; an end by a surprise is none."""
    at = scene(EXECUTION)
    at.followers["venue"].hear = lambda fact: ()  # type: ignore[assignment]
    at.restored(RUN, RESUMED, approved(), OrderOutcomeUnknown(ORDER, "c", "timeout"))
    at.now_ns += 60 * SECOND_NS
    at.hear(OrderOutcomeUnknown(ORDER, "c", "timeout"))
    assert at.values("tapeline_unknown_orders") == {"": 1}
    assert at.values("tapeline_unknown_order_age_seconds") == {"": 60}
    assert at.values("tapeline_orders") == {"state=UNKNOWN": 1}
    at.hear(OrderCanceled(ORDER, "c", CancelReason.REQUESTED), OrderCanceled(ORDER, "c", CancelReason.REQUESTED))
    assert at.values("tapeline_unknown_orders") == {}
    assert at.values("tapeline_unknown_order_age_seconds") == {}
    assert at.values("tapeline_orders_finished_total") == {"state=CANCELED": 1}


def test_a_halt_withholds_and_cancels_under_its_reason() -> None:
    at = trading()
    at.hear(approved("o-1"), HaltRequested("alice", "drill"), approved("o-2"))
    assert at.values("tapeline_cancels_submitted_total") == {"reason=OPERATOR_HALT": 1}
    assert at.values("tapeline_orders_withheld_total") == {"reason=TRADING_HALTED": 1}
    assert at.values("tapeline_orders_finished_total") == {"state=WITHHELD": 1}


# ---- ledger --------------------------------------------------------------------------------------------------------

HELD = f"instrument={BTC},strategy=atlas"


def test_the_account_is_told_as_the_books_have_it() -> None:
    """Bought 2 at 100 for a fee of 1, now at 110."""
    ledger = scene(LEDGER).restored(RUN, LISTED, FUNDED, fill(), bar(0, close="110"))
    assert ledger.samples(
        "tapeline_equity", "tapeline_cash", "tapeline_gross_exposure", "tapeline_net_exposure", "tapeline_equity_peak"
    ) == {
        "tapeline_equity{currency=USD}": 100_019,
        "tapeline_cash{currency=USD}": 99_799,
        "tapeline_gross_exposure{currency=USD}": 220,
        "tapeline_net_exposure{currency=USD}": 220,
        "tapeline_equity_peak{currency=USD}": 100_019,
    }
    assert {name: ledger.values(f"tapeline_{name}") for name in ("position_quantity", "fees", "unrealised_pnl")} == {
        "position_quantity": {HELD: 2},
        "fees": {HELD: 1},
        "unrealised_pnl": {HELD: 20},
    }
    assert ledger.values("tapeline_position_notional") == {HELD: 220}
    assert ledger.values("tapeline_realised_pnl") == {}


def test_a_short_position_counts_against_net_exposure() -> None:
    ledger = scene(LEDGER).restored(RUN, LISTED, FUNDED, fill(Side.SELL), bar(0, close="110"))
    assert ledger.values("tapeline_net_exposure") == {"currency=USD": -220}
    assert ledger.values("tapeline_gross_exposure") == {"currency=USD": 220}
    assert ledger.values("tapeline_position_notional") == {HELD: -220}


def test_closed_trades_by_result_after_fees() -> None:
    """A gain of 1 that two fees of 1 eat is a loss; a repeated fill trades nothing."""
    ledger = scene(LEDGER).restored(RUN, LISTED, FUNDED)
    ledger.hear(fill(), fill(), fill(Side.SELL, price="100.5", trade="t2"))
    assert ledger.values("tapeline_trades_closed_total") == {"result=loss,strategy=atlas": 1}
    assert ledger.values("tapeline_trade_pnl_sum") == {"strategy=atlas": -1}
    assert ledger.values("tapeline_traded_notional_total") == {HELD: 401}


def test_drawdown_is_from_the_highest_mark_and_deposits_move_it() -> None:
    """Marked at 200 per unit after a second fill; then half of the position's value is lost."""
    ledger = scene(LEDGER).restored(RUN, LISTED, AccountFunded("main", "USD", Decimal(1000)))
    ledger.hear(fill(fee=Decimal(0)), bar(0, close="200"))
    ledger.hear(fill(quantity="1", price="200", trade="t2", fee=Decimal(0)), bar(1, close="100"))
    assert ledger.values("tapeline_equity_peak") == {"currency=USD": 1200}
    assert ledger.values("tapeline_drawdown_ratio") == {"currency=USD": 0.25}
    ledger.hear(AccountFunded("main", "USD", Decimal(-200)))
    assert ledger.values("tapeline_equity_peak") == {"currency=USD": 1000}


def test_costs_of_the_whole_tape_are_told_by_kind() -> None:
    """Slippage of counted fills, funding as received, borrowing as paid; the past included."""
    ledger = scene(LEDGER).restored(RUN, LISTED, FUNDED, fill(Side.SELL, slippage=Decimal("0.5")))
    ledger.hear(fill(Side.SELL, slippage=Decimal("0.5")))
    ledger.hear(FundingPublished(BTC, Decimal("0.01"), Decimal(100)))
    ledger.hear(BorrowCharged(BTC, 1, Decimal("0.02"), Decimal(100)))
    assert ledger.values("tapeline_slippage_cost") == {HELD: 1}
    assert ledger.values("tapeline_funding") == {HELD: 2}
    assert ledger.values("tapeline_borrow_cost") == {HELD: 4}


def test_reconciliations_and_what_differed() -> None:
    """One that agrees is quiet; one that does not is counted, with the currencies."""
    ledger = scene(LEDGER).restored(RUN, LISTED, FUNDED)
    ledger.hear(BalanceReported("sim", {"USD": Decimal(100_000)}))
    assert ledger.values("tapeline_books_mismatches_total") == {}
    assert ledger.samples("tapeline_books_differences") == {"tapeline_books_differences{venue=sim}": 0}
    ledger.now_ns += MINUTE_NS
    ledger.hear(BalanceReported("sim", {"USD": Decimal(1), "BTC": Decimal(1)}))
    assert ledger.values("tapeline_books_mismatches_total") == {"venue=sim": 1}
    assert ledger.values("tapeline_books_differences") == {"venue=sim": 2}
    assert ledger.values("tapeline_books_reconciled_time_seconds") == {"venue=sim": (NOON_NS + MINUTE_NS) / SECOND_NS}


def test_before_a_run_there_is_no_account() -> None:
    """Nothing is made up for an empty tape."""
    ledger = scene(LEDGER).restored()
    assert ledger.samples("tapeline_equity", "tapeline_equity_peak", "tapeline_drawdown_ratio") == {}
    assert ledger.values("tapeline_position_quantity") == {}
