"""A private rabbitmq-server node: any user's, on loopback only, with its own folder, ports and cookie."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from mqtool.errors import BrokerError, Unavailable
from mqtool.testing.broker import BrokerProcess, loopback_address
from mqtool.testing.ports import PortLease
from mqtool.testing.watch import Guard

# The wrapper of the same name in /usr/sbin insists on the user rabbitmq; these do not.
_PLACES = ("/usr/lib/rabbitmq/bin", "/opt/homebrew/opt/rabbitmq/sbin", "/usr/local/opt/rabbitmq/sbin")
_ROLES = ("amqp", "management", "prometheus", "dist", "epmd")
_LOOPBACK = "-kernel inet_dist_use_interface {127,0,0,1} -start_epmd false"


def find_server() -> Path | None:
    """The installed rabbitmq-server program that any user may run, or ``None``."""
    for place in _PLACES:
        program = Path(place) / "rabbitmq-server"
        if program.is_file() and shutil.which("epmd"):
            return program
    return None


def installed_version(server: Path) -> str:
    """The version of an installed rabbitmq-server by the name of its folder, such as ``"3.10.8"``; or ``""``."""
    home = server.resolve().parent.parent
    for candidate in (home, *home.glob("lib/rabbitmq_server-*")):
        if found := re.fullmatch(r"rabbitmq_server-(\d[\w.]*)", candidate.name):
            return found[1]
    return ""


class NativeBroker(BrokerProcess):
    """A node of the installed RabbitMQ, apart from any other on the machine: nothing of it is reachable from outside.

    :param server: the rabbitmq-server program; by default the installed one.
    :param folder: for data, logs and configuration; kept after ``close()``. By default a new one, deleted then.
    :param ports: TCP ports to take if they are free, for ``amqp``, ``management``, ``prometheus``, ``dist``, ``epmd``.
    :raises Unavailable: RabbitMQ is not installed.
    """

    def __init__(
        self, server: Path | None = None, folder: Path | None = None, ports: Mapping[str, int] | None = None
    ) -> None:
        found = server or find_server()
        if found is None:
            raise Unavailable("rabbitmq-server is not installed; install the package of that name (apt, dnf, brew)")
        self._server_program = found
        self._keep = folder is not None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="mqtool-broker-"))
        self._leases = {role: PortLease((ports or {}).get(role)) for role in _ROLES}
        self._node_process: subprocess.Popen[bytes] | None = None
        self._epmd: subprocess.Popen[bytes] | None = None
        self._guard = Guard()
        version = installed_version(found)
        super().__init__(
            f"native-{version}" if version else "native",
            loopback_address(self._leases["amqp"].number),
            f"http://127.0.0.1:{self._leases['management'].number}",
        )
        self._write_configuration()
        self._protect()

    @property
    def pid(self) -> int:
        """The process id of the node's Erlang machine.

        :raises Unavailable: it does not run.
        """
        if self._node_process is None or not self.alive():
            raise Unavailable(f"broker {self.name} does not run; start() it first")
        return self._node_process.pid

    def alive(self) -> bool:
        return self._node_process is not None and self._node_process.poll() is None

    def rabbitmqctl(self, *arguments: str) -> str:
        done = subprocess.run(
            [str(self._server_program.with_name("rabbitmqctl")), *arguments],
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode:
            said = (done.stderr or done.stdout).strip()
            raise BrokerError(f"rabbitmqctl {arguments[0]} on broker {self.name} failed: {said}")
        return done.stdout

    def log(self) -> str:
        written = self.folder / "console.log"
        return written.read_text(errors="replace") if written.exists() else ""

    def close(self) -> None:
        """End the node at once and delete its folder, unless the folder was given."""
        super().close()
        self.kill()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait()
            self._epmd = None
        if not self._keep:
            shutil.rmtree(self.folder, ignore_errors=True)
        for lease in self._leases.values():
            lease.release()
        self._guard.dismiss()

    def _launch(self) -> None:
        self._start_epmd()
        with (self.folder / "console.log").open("ab") as log:
            self._node_process = subprocess.Popen(
                [str(self._server_program)],
                env=self._environment(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C on the terminal is for the test run, which then stops us in order
            )
        self._protect()

    def _shut_down(self) -> None:
        if self._node_process is not None:
            self._node_process.terminate()
            self._node_process.wait(timeout=60)

    def _end(self) -> None:
        if self._node_process is not None:
            self._node_process.kill()
            self._node_process.wait()

    def _freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def _thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def _start_epmd(self) -> None:
        """Erlang's name server, private to this node: the shared one would listen everywhere and outlive us."""
        if self._epmd is None or self._epmd.poll() is not None:
            port = str(self._leases["epmd"].number)
            self._epmd = subprocess.Popen(
                ["epmd", "-port", port, "-address", "127.0.0.1"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    def _protect(self) -> None:
        processes = [process.pid for process in (self._node_process, self._epmd) if process is not None]
        self._guard.protect(pids=processes, folders=[] if self._keep else [self.folder])

    def _write_configuration(self) -> None:
        port = {role: lease.number for role, lease in self._leases.items()}
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "enabled_plugins").write_text("[rabbitmq_management,rabbitmq_prometheus].\n")
        (self.folder / "rabbitmq-env.conf").write_text("")
        (self.folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{port['amqp']}\n"
            f"management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {port['management']}\n"
            f"prometheus.tcp.ip = 127.0.0.1\nprometheus.tcp.port = {port['prometheus']}\n"
            "collect_statistics_interval = 1000\n"
            "log.console = true\nlog.console.level = info\nlog.console.use_colors = off\nlog.file = false\n"
        )

    def _environment(self) -> dict[str, str]:
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(("RABBITMQ_", "ERL_"))},
            "HOME": str(self.folder),  # where the Erlang cookie lies
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "rabbitmq-env.conf"),  # not the one of the system's broker
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            # an IP address, since a bare machine may not be able to look up its own name
            "RABBITMQ_NODENAME": f"mqtool-{self._leases['amqp'].number}@127.0.0.1",
            "RABBITMQ_USE_LONGNAME": "true",
            "RABBITMQ_DIST_PORT": str(self._leases["dist"].number),
            "RABBITMQ_CTL_DIST_PORT_MIN": "0",
            "RABBITMQ_CTL_DIST_PORT_MAX": "0",
            "ERL_CRASH_DUMP_SECONDS": "0",  # no dump: the log says why
            "ERL_EPMD_PORT": str(self._leases["epmd"].number),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": _LOOPBACK,
            "RABBITMQ_CTL_ERL_ARGS": _LOOPBACK,
            "RUNNING_UNDER_SYSTEMD": "true",  # the script then becomes the Erlang machine: our child is the node
        }
