"""RabbitMQ in a container, by the command ``docker``: what users of Docker have."""

from __future__ import annotations

import shutil
import subprocess

from mqtool.errors import Unavailable
from mqtool.testing.ports import PortLease
from mqtool_cli.development.state import Running

DEFAULT_IMAGE = "rabbitmq:4-management"
_PORTS = {"5672/tcp": 5672, "15672/tcp": 15672}
_QUICK, _START, _PULL = 30, 120, 900


def answers() -> bool:
    """Whether there is a Docker engine that we may use."""
    return shutil.which("docker") is not None and _docker("version", "--format", "{{.Server.Version}}") is not None


def obtain(image: str) -> bool:
    """Have the image, from its registry if need be. Returns whether that worked."""
    if _docker("image", "inspect", image) is not None:
        return True
    return _docker("pull", "--quiet", image, timeout=_PULL) is not None


def start(image: str, label: str) -> Running:
    """Start a container, with ports on loopback only.

    :param label: marks it as ours; what is left of an earlier one with the same label is removed.
    :raises Unavailable: Docker refuses.
    """
    mark = f"mqtool.broker={label}"
    for left in (_docker("ps", "--all", "--quiet", "--filter", f"label={mark}") or "").split():
        remove(left)
    leases = {port: PortLease(preferred) for port, preferred in _PORTS.items()}
    published = [f"--publish=127.0.0.1:{lease.number}:{port}" for port, lease in leases.items()]
    try:
        done = subprocess.run(
            ["docker", "run", "--detach", f"--label={mark}", *published, image],
            capture_output=True,
            text=True,
            timeout=_START,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"Docker does not start image {image}: {error}; see `docker ps -a`") from None
    finally:
        for lease in leases.values():
            lease.release()
    if done.returncode:
        said = " ".join(done.stderr.split())
        raise Unavailable(f"Docker does not start image {image}: {said}; name another with --image, or use --native")
    amqp, management = (lease.number for lease in leases.values())
    return Running("docker", done.stdout.strip(), image, f"amqp://127.0.0.1:{amqp}/", f"http://127.0.0.1:{management}")


def runs(container: str) -> bool:
    """Whether a container is there and runs."""
    return _docker("inspect", "--format", "{{.State.Running}}", container) == "true"


def remove(container: str) -> None:
    """End a container and delete its data; it may be gone already."""
    _docker("rm", "--force", "--volumes", container, timeout=120)


def log(container: str) -> str:
    """What it logged."""
    return _docker("logs", container) or ""


def _docker(*arguments: str, timeout: float = _QUICK) -> str | None:
    """What a docker command printed; ``None`` if it failed."""
    try:
        done = subprocess.run(
            ["docker", *arguments],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
