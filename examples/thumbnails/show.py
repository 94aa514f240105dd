"""The demo from its command line to its report: where it takes place, how it is stopped, what is cleaned up."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pictures
from crew import WorkerDied
from display import Display
from library import Library
from play import Play, Record, make_pictures
from report import Unwritable, prepare, show_table, write_report
from stage import stage

from mqtool import AccessRefused, MqtoolError, Settings, Unavailable

OUT = Path(__file__).parent / "out"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="demo", description="Photographs through a bounded work queue: none lost, none done twice unnoticed."
    )
    parser.add_argument("--count", type=int, help=f"photographs, at least {pictures.FEWEST} (default: 60)")
    parser.add_argument("--fast", action="store_true", help="24 small photographs and a shorter queue")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--quorum", dest="kind", action="store_const", const="quorum", help="quorum queues (default)")
    kind.add_argument("--classic", dest="kind", action="store_const", const="classic", help="classic queues")
    parser.add_argument("--keep", action="store_true", help="leave queues, photographs and thumbnails to look at")
    parser.add_argument("--out", type=Path, default=OUT, metavar="DIR", help="where report.html and summary.json go")
    given = parser.parse_args(arguments)
    given.private = False
    if given.count is None:
        given.count = 24 if given.fast else 60
    if not pictures.FEWEST <= given.count <= 9999:
        parser.error(f"--count is from {pictures.FEWEST} (one of each kind) to 9999")
    os.environ["THUMBNAILS_QUEUE_TYPE"] = given.kind or "quorum"
    if given.fast:
        os.environ.setdefault("THUMBNAILS_MAX_LENGTH", "8")
    return given


@contextmanager
def broker(given: argparse.Namespace) -> Iterator[Settings]:
    """The broker that MQTOOL_URL names; without one, a private broker that ends with the demo.

    :raises MqtoolError: there is none to be had.
    """
    if os.environ.get("MQTOOL_URL"):
        yield Settings.of()
        return
    from mqtool.testing import choose_broker, open_broker

    chosen = choose_broker()
    given.private = True
    print(f"starting a private RabbitMQ ({chosen}); MQTOOL_URL would name a running one", flush=True)
    with open_broker(chosen) as private:
        print(f"RabbitMQ {private.version} is ready", flush=True)
        yield Settings.of(private.url(), private.management_url)


async def run(given: argparse.Namespace, settings: Settings) -> bool:
    """Run the demo and write the report; whether every photograph is accounted for."""
    work = Path(tempfile.mkdtemp(prefix="run-", dir=given.out))
    try:
        library = Library(work)
        plans = pictures.plan(given.count)
        with Display(given.count) as display:
            display.say(f"making {given.count} photographs, and a queue for them")
            making = asyncio.create_task(make_pictures(plans, library, small=given.fast))
            try:
                async with stage(settings, keep=given.keep) as here:
                    display.say(
                        f"RabbitMQ {here.version} at {here.settings}: {here.declared} objects made for one "
                        f"{here.queue_type} queue with room for {here.bound}, its retries and its dead letters"
                    )
                    await making
                    display.say(f"{given.count} photographs are ready")
                    record = await Play(here, library, display, deadline=60 + given.count).run()
                    display.say("every photograph is accounted for" if record.balance.settled else "INCOMPLETE")
            finally:
                making.cancel()
                await asyncio.gather(making, return_exceptions=True)
        return _conclude(given, display, record, library)
    finally:
        if not given.keep:
            shutil.rmtree(work)


def _conclude(given: argparse.Namespace, display: Display, record: Record, library: Library) -> bool:
    show_table(display.console, record)
    page = write_report(given.out, record, library, kept=given.keep)
    display.console.print(f"\nThe pictures, and what happened to them: {page}", markup=False)
    if given.keep:
        queues = "the queues ended with the private broker" if given.private else f"queues at {record.stage.settings}"
        display.console.print(f"Kept: {library.home}; {queues}", markup=False)
    return record.balance.settled and record.account.tried == set(record.paths) == record.balance.accepted


class Stopped(Exception):
    """A signal ended the run; everything was cleaned up."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by signal {number}")
        self.exit_code = 128 + number


async def _until_told_to_stop(given: argparse.Namespace, settings: Settings) -> bool:
    """Run; the first signal ends the run, later ones cannot end the cleaning up.

    :raises Stopped: by that signal.
    """
    loop = asyncio.get_running_loop()
    running = asyncio.create_task(run(given, settings))
    signals: list[int] = []

    def stop(number: int) -> None:
        signals.append(number)
        if len(signals) == 1:
            print("\nstopping; cleaning up", file=sys.stderr, flush=True)
            running.cancel()

    for number in _SIGNALS:
        loop.add_signal_handler(number, stop, number)
    try:
        return await running
    except asyncio.CancelledError:
        if not signals:
            raise
        raise Stopped(signals[0]) from None


def main() -> int:
    """Run from the command line; the exit code is mqtool's: 0 done, 1 failed, 69 no broker, 77 no permission."""
    given = options()
    logging.basicConfig(level=logging.CRITICAL)  # the client library logs what we raise and print anyway
    try:
        prepare(given.out)
        with broker(given) as settings:
            return 0 if asyncio.run(_until_told_to_stop(given, settings)) else 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Stopped as stopped:
        return stopped.exit_code
    except (MqtoolError, WorkerDied, Unwritable) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 69 if isinstance(error, Unavailable) else 77 if isinstance(error, AccessRefused) else 1
