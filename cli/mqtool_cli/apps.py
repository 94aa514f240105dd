"""``mqtool consume APP``: a worker that lies in a Python module."""

from __future__ import annotations

import importlib
import shlex
import sys
from pathlib import Path

from mqtool import Worker
from mqtool.errors import ConfigurationError, MqtoolError

#: Longer than a worker's usual grace period, in seconds.
_TIME_TO_STOP = 35


def load_worker(app: str) -> Worker:
    """The worker that ``package.module:name`` names; modules are looked for in the current directory first.

    :raises ConfigurationError: there is no such module or name, or it is no worker.
    :raises MqtoolError: the module fails while it is imported.
    """
    module_name, _, path = app.partition(":")
    if not module_name or not path:
        raise ConfigurationError(f"{app!r} is no app; write it as package.module:worker")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    found = _import(module_name)
    for name in path.split("."):
        if not hasattr(found, name):
            raise ConfigurationError(f"{app}: {module_name} has no {name!r}; write it as package.module:worker")
        found = getattr(found, name)
    if not isinstance(found, Worker):
        raise ConfigurationError(f"{app} is a {type(found).__name__}, not a mqtool.Worker; name the worker itself")
    return found


def _import(name: str) -> object:
    try:
        return importlib.import_module(name)
    except MqtoolError:
        raise
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise ConfigurationError(
                f"there is no module {error.name!r} in the current directory or the installed packages; "
                "an app is written as package.module:worker"
            ) from None
        raise MqtoolError(f"{name} cannot be imported: {error}; install what it needs") from error
    except (Exception, SystemExit) as error:
        raise MqtoolError(
            f"{name} cannot be imported: {type(error).__name__}: {error}; mend it, --debug shows where it fails"
        ) from error


def run_with_reload(arguments: list[str]) -> None:
    """Run ``mqtool`` with ``arguments`` in a process of its own, and again whenever a Python file here changes.

    :raises ConfigurationError: watchfiles is not installed.
    """
    try:
        from watchfiles import PythonFilter, run_process
    except ImportError:
        raise ConfigurationError("--reload needs the package watchfiles; pip install 'mqtool[reload]'") from None
    command = shlex.join([sys.executable, "-m", "mqtool_cli", *arguments])
    run_process(".", target=command, target_type="command", watch_filter=PythonFilter(), sigint_timeout=_TIME_TO_STOP)
