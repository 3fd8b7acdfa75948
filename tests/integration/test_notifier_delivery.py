"""Messages reach messengers: through apprise to a real webhook and a real mail server, and past those that fail."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.messengers import MailServer, Scripted, mail_server, until, webhook

from tapeline_common import logs
from tapeline_common.commands_shared import time_text
from tapeline_common.destinations import SENDS, Destination
from tapeline_common.servers import free_port
from tapeline_notifier import delivery, journal
from tapeline_notifier.counts import Counts
from tapeline_notifier.delivery import BURST, MOST_WAITING, Office, Pace
from tapeline_notifier.journal import Journal, joined, read_entries
from tapeline_notifier.message import Kind, Message, Severity, message
from tapeline_notifier.messenger import AppriseMessenger, Attempt, Messenger, Outcome

CANARY = "c4n4ry-s3cr3t"
QUICK = (0.01,)


def halt(number: int, severity: Severity = Severity.PAGE) -> Message:
    return message(Kind.CONTROL, severity, f"halt {number}", "oak\nelm", time_ns=number, position=number)


def to(name: str, url: str = "json://localhost", sends: tuple[str, ...] = SENDS, per_minute: int = 600) -> Destination:
    return Destination(name, url, sends, per_minute)


def office_of(folder: Path, *messengers: tuple[Destination, Messenger], counts: Counts | None = None) -> Office:
    logger = logs.configure("notifier", "info")
    return Office(Journal(folder), messengers, counts or Counts(), logger, time_text, QUICK)


@asynccontextmanager
async def at_work(office: Office) -> AsyncIterator[Office]:
    """The office delivers inside the block; leaving it is a stop, not a crash."""
    running = asyncio.create_task(office.run())
    try:
        yield office
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def outcomes(folder: Path) -> list[dict[str, str]]:
    return [entry.deliveries for entry in joined(read_entries(folder), 10_000)]


def total(counts: Counts, destination: str, outcome: str) -> int:
    return sum(
        count for (name, _, what), count in counts.notifications.items() if (name, what) == (destination, outcome)
    )


# ---- real messengers ---------------------------------------------------------------------------------------------


async def test_a_webhook_gets_the_message_and_its_position(tmp_path: Path) -> None:
    """Title, text and type as apprise's JSON has them."""
    async with webhook() as hook:
        destination = to("hook", f"json://127.0.0.1:{hook.port}/{CANARY}")
        async with at_work(office_of(tmp_path, (destination, AppriseMessenger(0, destination)))) as office:
            office.tell(halt(7))
            await until(lambda: outcomes(tmp_path) == [{"hook": "sent"}], "the outcome is written down")
    (got,) = hook.got
    assert (got["title"], got["message"], got["type"]) == ("halt 7", "oak\nelm\nposition 7", "failure")


async def test_a_mail_server_gets_the_message(tmp_path: Path) -> None:
    """Subject and text arrive as they are, signs of HTML and of mail included."""
    odd = message(Kind.TRADE, Severity.INFO, "a < b & c", "<b>oak</b>\n.\nelm", time_ns=1, position=3)
    async with mail_server() as mail:
        destination = _mail(mail)
        async with at_work(office_of(tmp_path, (destination, AppriseMessenger(0, destination)))) as office:
            office.tell(odd)
            await until(lambda: outcomes(tmp_path) == [{"mail": "sent"}], "the mail is taken")
    ((subject, text),) = mail.mails
    assert subject == "a < b & c"
    assert "oak" in text
    assert "position 3" in text
    assert mail.logins == [f"\0alice\0{CANARY}"]


def _mail(mail: MailServer) -> Destination:
    query = "mode=insecure&from=tape@example.com&to=alice@example.com"
    return to("mail", f"mailto://alice:{CANARY}@127.0.0.1:{mail.port}/?{query}")


async def test_a_destination_that_fails_is_tried_again_and_holds_nobody_up(tmp_path: Path) -> None:
    """500 twice: the other one has its message long before; in the end both have it, and it failed once."""
    counts = Counts()
    async with webhook() as broken, webhook() as sound:
        broken.answers = [500, 500]
        broken.gate.clear()
        pairs = [to("broken", f"json://127.0.0.1:{broken.port}"), to("sound", f"json://127.0.0.1:{sound.port}")]
        messengers = [(one, AppriseMessenger(index, one)) for index, one in enumerate(pairs)]
        async with at_work(office_of(tmp_path, *messengers, counts=counts)) as office:
            office.tell(halt(1))
            await until(lambda: sound.titles == ["halt 1"], "the sound one is served")
            assert broken.got == []
            broken.gate.set()
            await until(lambda: broken.titles == ["halt 1"], "the broken one is served in the end")
            await until(lambda: outcomes(tmp_path) == [{"broken": "sent", "sound": "sent"}], "both are settled")
    assert [total(counts, "broken", what) for what in ("failed", "sent", "dropped")] == [1, 1, 0]
    assert [total(counts, "sound", what) for what in ("failed", "sent", "dropped")] == [0, 1, 0]


async def test_a_destination_that_is_down_gets_everything_once_it_is_up(tmp_path: Path) -> None:
    """What waited comes as one summary that names each."""
    port = free_port()
    destination = to("hook", f"json://127.0.0.1:{port}")
    counts = Counts()
    async with at_work(office_of(tmp_path, (destination, AppriseMessenger(0, destination)), counts=counts)) as office:
        for number in range(1, 31):
            office.tell(halt(number))
        await until(lambda: total(counts, "hook", "failed") == 30, "an attempt failed")
        async with webhook(port) as hook:
            await until(lambda: total(counts, "hook", "sent") == 30, "it is up")
    assert hook.titles == ["30 more, 30 pages among them"]
    assert hook.got[0]["message"].startswith("- halt 1 [1]: oak\n- halt 2 [2]: oak\n")
    assert outcomes(tmp_path) == [{"hook": "sent"}] * 30


async def test_a_slow_destination_is_given_up_for_now(tmp_path: Path) -> None:
    """After its time; no second attempt begins while the first one still runs."""
    async with webhook() as hook:
        hook.gate.clear()
        destination = to("hook", f"json://127.0.0.1:{hook.port}/?rto=30")
        messenger = AppriseMessenger(0, destination, send_s=0.2)
        assert await messenger.send(halt(1)) == Attempt(Outcome.TIMED_OUT)
        assert await messenger.send(halt(1)) == Attempt(Outcome.BUSY)
        hook.gate.set()
        await until(lambda: hook.titles == ["halt 1"], "the first attempt ends")


async def test_attempts_say_why_they_failed(tmp_path: Path) -> None:
    """In words of ours, with the status where there is one."""
    async with webhook() as hook, mail_server() as mail:
        hook.answers, mail.refuses = [403], True
        gone = to("gone", f"json://127.0.0.1:{free_port()}/{CANARY}")
        tried = [to("hook", f"json://127.0.0.1:{hook.port}/{CANARY}"), gone, _mail(mail)]
        said = [str(await AppriseMessenger(0, one).send(halt(1))) for one in tried]
    assert said[:2] == ["refused (HTTP 403)", "unreachable"]
    assert said[2] in ("unreachable", "failed")


async def test_no_secret_is_in_a_log_a_file_or_a_number(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever fails and however the other side quotes it, at any log level: no URL and no password shows."""
    caplog.set_level(logging.DEBUG)
    counts = Counts()
    async with webhook() as hook, mail_server() as mail:
        hook.answers, mail.refuses = [500, 404], True
        gone = to("gone", f"json://{CANARY}:{CANARY}@127.0.0.1:{free_port()}/{CANARY}?+X-Key={CANARY}")
        pairs = [to("hook", f"json://alice:{CANARY}@127.0.0.1:{hook.port}/{CANARY}"), gone, _mail(mail)]
        messengers = [(one, AppriseMessenger(index, one)) for index, one in enumerate(pairs)]
        async with at_work(office_of(tmp_path, *messengers, counts=counts)) as office:
            office.tell(halt(1))
            await until(lambda: hook.titles == ["halt 1"], "it went wrong, then well")
            await until(lambda: all(total(counts, name, "failed") for name in ("gone", "mail")), "the others failed")
    written = "".join(path.read_text() for path in tmp_path.iterdir())
    said = "".join(capfd.readouterr())
    assert "not delivered" in said
    assert CANARY not in written + said + caplog.text + str(list(counts.samples()))


# ---- nothing lost ------------------------------------------------------------------------------------------------


async def test_a_crash_between_delivery_and_cursor_repeats_the_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may come twice, it never stays out; what was settled before does not come again."""
    first, second = Scripted(), Scripted()
    async with at_work(office_of(tmp_path, (to("hook"), first))) as office:
        office.tell(halt(1))
        await until(lambda: outcomes(tmp_path) == [{"hook": "sent"}], "the first one is settled")
        monkeypatch.setattr(Journal, "settled", lambda *_: None)  # the process dies before it can write
        monkeypatch.setattr(Journal, "keep", lambda _: None)
        office.tell(halt(2))
        await until(lambda: len(first.got) == 2, "the second one is delivered")
    monkeypatch.undo()
    async with at_work(office_of(tmp_path, (to("hook"), second))):
        await until(lambda: outcomes(tmp_path) == [{"hook": "sent"}] * 2, "it is delivered again")
    assert [told.title for told in second.got] == ["halt 2"]


async def test_what_waited_when_the_process_died_is_delivered_by_the_next(tmp_path: Path) -> None:
    """Each destination goes on where it was; one that is new begins now, one that is gone is forgotten."""
    up, down = Scripted(), Scripted([Outcome.UNREACHABLE] * 1_000_000)
    async with at_work(office_of(tmp_path, (to("up"), up), (to("down"), down))) as office:
        office.tell(halt(1))
        await until(lambda: len(up.got) == 1 and down.tried > 0, "one has it, one does not")
        office.keep()
    up, down, new = Scripted(), Scripted(), Scripted()
    async with at_work(office_of(tmp_path, (to("down"), down), (to("new"), new))) as office:
        await until(lambda: len(down.got) == 1, "it is delivered now")
        office.tell(halt(2))
        await until(lambda: len(down.got) == 2 and len(new.got) == 1, "both hear of what comes now")
        office.keep()
    assert [told.title for told in down.got] == ["halt 1", "halt 2"]
    assert [told.title for told in new.got] == ["halt 2"]
    assert Journal(tmp_path).cursor.delivered == {"down": 2, "new": 2}


async def test_a_message_that_nobody_wants_is_written_down(tmp_path: Path) -> None:
    """And does not come later to a destination that did not ask for it."""
    hook = Scripted()
    async with at_work(office_of(tmp_path, (to("hook", sends=("trade",)), hook))) as office:
        office.tell(halt(1))
        office.keep()
    async with at_work(office_of(tmp_path, (to("hook"), hook))):
        pass
    assert outcomes(tmp_path) == [{}]
    assert hook.tried == 0


async def test_a_full_disk_does_not_silence_an_alert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot be written down, so it is delivered all the same; this may be the alert about the disk."""

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    hook = Scripted()
    async with at_work(office_of(tmp_path, (to("hook"), hook))) as office:
        monkeypatch.setattr(journal.os, "fsync", full)
        office.tell(halt(1))
        await until(lambda: len(hook.got) == 1, "it is delivered")
        monkeypatch.undo()


async def test_a_stop_waits_for_what_is_on_its_way(tmp_path: Path) -> None:
    """So that an ordinary restart does not tell it twice."""
    gate, hook = asyncio.Event(), Scripted()
    hook.gate = gate.wait
    office = office_of(tmp_path, (to("hook"), hook))
    running = asyncio.create_task(office.run())
    office.tell(halt(1))
    await until(lambda: hook.tried == 1, "it is on its way")
    running.cancel()
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(running, return_exceptions=True)
    assert outcomes(tmp_path) == [{"hook": "sent"}]


# ---- storms ------------------------------------------------------------------------------------------------------


async def test_a_storm_becomes_few_messages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand messages at once are one; the next thousand are another; every one of them is accounted for."""
    monkeypatch.setattr(journal.os, "fsync", lambda _: None)
    counts, hook = Counts(), Scripted()
    async with at_work(office_of(tmp_path, (to("hook"), hook), counts=counts)) as office:
        for told in (1_000, 2_000):
            for number in range(told - 999, told + 1):
                office.tell(halt(number, Severity.INFO))
            await until(lambda told=told: total(counts, "hook", "sent") == told, "all of it is told")  # type: ignore[misc]
    assert [told.title for told in hook.got] == ["1000 more"] * 2
    assert outcomes(tmp_path) == [{"hook": "sent"}] * 2_000


async def test_the_oldest_gives_way_and_the_summary_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory stays bounded; what was dropped is counted and stands in the file."""
    monkeypatch.setattr(delivery, "MOST_WAITING", 10)
    counts, hook = Counts(), Scripted()
    office = office_of(tmp_path, (to("hook"), hook), counts=counts)
    for number in range(1, 14):
        office.tell(halt(number))
    assert total(counts, "hook", "dropped") == 3
    async with at_work(office):
        await until(lambda: len(hook.got) == 1, "the summary is told")
        office.tell(halt(14))
        await until(lambda: len(hook.got) == 2, "the next one comes by itself")
    assert hook.got[0].title == "13 more, 10 pages among them"
    assert hook.got[0].text.endswith("3 older ones stand in notifications.jsonl only")
    assert hook.got[1].title == "halt 14"
    assert outcomes(tmp_path) == [{"hook": "dropped"}] * 3 + [{"hook": "sent"}] * 11
    assert MOST_WAITING == 1_000


def test_a_pace_lets_a_burst_go_and_then_so_many_a_minute() -> None:
    """A token bucket, by a clock of its own."""
    clock = [0.0]
    pace = Pace(20, lambda: clock[0])
    assert pace.free() == BURST
    pace.permits -= BURST
    assert (pace.free(), pace.wait_s()) == (0, 3.0)
    clock[0] = 2.9
    assert pace.free() == 0
    clock[0] = 3.1
    assert pace.free() == 1
    clock[0] = 3_600.0
    assert pace.free() == BURST, "an idle hour saves up no more than a burst"


async def test_what_comes_while_a_backlog_is_under_way_does_not_grow_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that failed goes back into the queue; together they keep the bound, and the rest is counted."""
    monkeypatch.setattr(delivery, "MOST_WAITING", 10)
    counts, gate = Counts(), asyncio.Event()
    hook = Scripted([Outcome.UNREACHABLE] * 1_000_000, gate=gate.wait)
    async with at_work(office_of(tmp_path, (to("hook", per_minute=1), hook), counts=counts)) as office:
        for number in range(1, 9):
            office.tell(halt(number))
        await until(lambda: hook.tried == 1, "eight are under way")
        for number in range(9, 18):
            office.tell(halt(number))
        gate.set()
        await until(lambda: total(counts, "hook", "dropped") == 7, "the oldest gave way")
        (courier,) = office.couriers
        assert [one.number for one in (*courier.under_way, *courier.queue)] == list(range(8, 18))


async def test_numbers_can_be_read_from_another_thread(tmp_path: Path) -> None:
    """A scrape comes in a thread of its own."""
    counts = Counts()
    office = office_of(tmp_path, (to("hook"), Scripted()), counts=counts)
    office.tell(halt(1))
    samples = await asyncio.to_thread(lambda: list(counts.samples()))
    assert ("notifications_pending", {"destination": "hook"}, 1.0) in samples
    (age_s,) = [value for name, _, value in samples if name == "notification_age_seconds"]
    assert age_s >= 0


async def test_after_a_failure_what_waits_comes_as_one(tmp_path: Path) -> None:
    """A message that a messenger will not have does not stand in the way of those behind it for good."""
    hook = Scripted([Outcome.REFUSED])
    office = office_of(tmp_path, (to("hook"), hook))
    for number in (1, 2):
        office.tell(halt(number))
    async with at_work(office):
        await until(lambda: outcomes(tmp_path) == [{"hook": "sent"}] * 2, "both are told")
    assert [told.title for told in hook.got] == ["2 more, 2 pages among them"]
