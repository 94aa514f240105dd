"""The event loop of a blocking publisher's I/O thread: pika's own."""

from __future__ import annotations

from collections.abc import Callable

from pika.adapters.select_connection import IOLoop  # type: ignore[import-untyped]

from mqtool.amqp.quiet import keep_quiet

keep_quiet("pika")


class BlockingLoop:
    """The event loop of one I/O thread. Only :meth:`soon` and :meth:`stop` may be called from other threads."""

    def __init__(self) -> None:
        self.native = IOLoop()

    def run(self) -> None:
        """Run until stopped."""
        self.native.start()

    def soon(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` in the loop's thread."""
        self.native.add_callback_threadsafe(callback)

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call ``callback`` once ``seconds`` have passed."""
        self.native.call_later(seconds, callback)

    def stop(self) -> None:
        """Make :meth:`run` return."""
        self.native.add_callback_threadsafe(self.native.stop)

    def close(self) -> None:
        """Free its file descriptors, after :meth:`run` has returned."""
        self.native.close()
