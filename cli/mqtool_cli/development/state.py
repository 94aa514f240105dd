"""What is kept between ``mqtool broker start`` and ``stop``: one folder for each user."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from mqtool.errors import ConfigurationError


@dataclass(frozen=True)
class Running:
    """A broker that was started.

    :ivar kind: ``docker`` or ``native``.
    :ivar handle: the container's id, or the process id of the keeper.
    :ivar source: the image or the version of RabbitMQ that it was started from.
    :ivar url: AMQP URL; user and password are the library's defaults, and not in it.
    """

    kind: str
    handle: str
    source: str
    url: str
    management_url: str


class State:
    """The folder, and what is noted in it.

    :param folder: made if need be, for this user only.
    :raises ConfigurationError: it cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"{folder} cannot be made: {error.strerror}; set XDG_STATE_HOME") from None

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> State:
        """The state of the user whose environment this is (``XDG_STATE_HOME``, by default ``~/.local/state``)."""
        base = environment.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        return cls(Path(base) / "mqtool" / "broker")

    @property
    def node_folder(self) -> Path:
        """Where a native broker lives."""
        return self.folder / "node"

    @property
    def keeper_log(self) -> Path:
        """What the keeper of a native broker said."""
        return self.folder / "keeper.log"

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """One ``start`` or ``stop`` at a time; the others wait."""
        with (self.folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextmanager
    def kept(self) -> Iterator[None]:
        """For the keeper: while this is held, it lives.

        :raises BlockingIOError: another one does.
        """
        with (self.folder / "keeper.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield

    def has_keeper(self) -> bool:
        """Whether a keeper lives; its lock goes with its process, whatever becomes of it."""
        with suppress(BlockingIOError), self.kept():
            return False
        return True

    def read(self) -> Running | None:
        """What was noted; ``None`` if nothing is."""
        try:
            return Running(**json.loads((self.folder / "state.json").read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def write(self, running: Running) -> None:
        """Note it, in one step."""
        new = self.folder / "state.new"
        new.write_text(json.dumps(asdict(running)))
        new.replace(self.folder / "state.json")

    def forget(self) -> None:
        """Nothing runs any more."""
        (self.folder / "state.json").unlink(missing_ok=True)
