"""Keeps a native broker running after the terminal that started it is gone. A program: ``python -m ... FOLDER``.

It ends the broker, and then itself, when it is told to by SIGTERM; it ends when the broker does.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from pathlib import Path

from mqtool.errors import MqtoolError
from mqtool.testing import NativeBroker
from mqtool.testing.broker import first_errors
from mqtool_cli.development.state import Running, State
from mqtool_cli.exits import Code

#: Where programs look for a RabbitMQ, if nobody else is there.
PORTS = {"amqp": 5672, "management": 15672}


def main() -> int:
    """Keep the broker of the folder that the first argument names; returns the exit code."""
    state = State(Path(sys.argv[1]))
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with state.kept():
            _keep(state, told)
    except BlockingIOError:
        return Code.DONE  # another keeper was faster
    except MqtoolError as error:
        sys.stderr.write(f"{error}\n")
        return Code.FAILED
    return Code.DONE


def _keep(state: State, told: threading.Event) -> None:
    shutil.rmtree(state.node_folder, ignore_errors=True)
    broker = NativeBroker(folder=state.node_folder, ports=PORTS)
    try:
        broker.start()
        url = f"amqp://{broker.host}:{broker.port}/"
        state.write(Running("native", str(os.getpid()), f"RabbitMQ {broker.version}", url, broker.management_url))
        while not told.wait(1.0):
            if not broker.alive():
                sys.stderr.write(f"the broker ended by itself; it logged: {first_errors(broker.log())}\n")
                return
        broker.stop()
    finally:
        state.forget()
        broker.close()
        shutil.rmtree(state.node_folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
