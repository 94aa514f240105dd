"""A RabbitMQ image in Docker, by testcontainers, on loopback ports that stay the same when it is restarted."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from mqtool.errors import BrokerError, Unavailable
from mqtool.testing.broker import BrokerProcess, loopback_address
from mqtool.testing.ports import PortLease
from mqtool.testing.watch import Guard

if TYPE_CHECKING:
    from testcontainers.core.container import DockerContainer

DEFAULT_IMAGE = "rabbitmq:4-management"
IMAGE_SETTING = "MQTOOL_TEST_IMAGE"


def default_image() -> str:
    """The image to use where none is named: ``MQTOOL_TEST_IMAGE`` or the official one."""
    return os.environ.get(IMAGE_SETTING) or DEFAULT_IMAGE


def image_ready(image: str, pull_timeout: float = 60.0) -> bool:
    """Whether Docker answers and has the image, or gets it from its registry.

    :param pull_timeout: seconds without any progress after which the registry counts as unreachable.
    """
    try:
        docker = import_module("docker")
    except ImportError:
        return False
    try:
        client = docker.from_env(timeout=pull_timeout)
    except docker.errors.DockerException:
        return False
    try:
        client.ping()
        try:
            client.images.get(image)
        except docker.errors.ImageNotFound:
            client.images.pull(image)
    except (docker.errors.DockerException, OSError):
        return False
    finally:
        client.close()
    return True


class ContainerBroker(BrokerProcess):
    """A container of a RabbitMQ image that has the management plugin.

    :param image: by default ``MQTOOL_TEST_IMAGE`` or the official image.
    :raises Unavailable: testcontainers is not installed, or Docker does not answer.
    """

    def __init__(self, image: str | None = None) -> None:
        self.image = image or default_image()
        self._container = _container(self.image)
        host = _docker_host(self._container)
        self._leases = {role: PortLease() for role in ("amqp", "management")}
        port = {role: lease.number for role, lease in self._leases.items()}
        super().__init__(
            f"container:{self.image}", loopback_address(port["amqp"], host), f"http://{host}:{port['management']}"
        )
        interface = "127.0.0.1" if host == "127.0.0.1" else "0.0.0.0"
        published = cast("dict[str, Any]", self._container.ports)  # the annotation leaves out (interface, port)
        published["5672/tcp"] = (interface, port["amqp"])
        published["15672/tcp"] = (interface, port["management"])
        self._container.with_env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-rabbit collect_statistics_interval 1000")
        self._created = False
        self._guard = Guard()

    @property
    def container_id(self) -> str:
        """Docker's id of the container.

        :raises Unavailable: it was not started, or is closed.
        """
        if not self._created:
            raise Unavailable(f"broker {self.name} has no container; start() it first")
        return self._container.get_container_id()

    def alive(self) -> bool:
        if not self._created:
            return False
        self._container.reload()
        return self._container.status in ("running", "paused")

    def rabbitmqctl(self, *arguments: str) -> str:
        done = self._container.exec(["rabbitmqctl", *arguments])
        said = done.output.decode(errors="replace")
        if done.exit_code:
            raise BrokerError(f"rabbitmqctl {arguments[0]} on broker {self.name} failed: {said.strip()}")
        return said

    def log(self) -> str:
        if not self._created:
            return ""
        said: bytes = self._container.get_wrapped_container().logs()
        return said.decode(errors="replace")

    def close(self) -> None:
        """Remove the container with its data."""
        super().close()
        if self._created:
            self._container.stop()
            self._created = False
        for lease in self._leases.values():
            lease.release()
        self._guard.dismiss()

    def _launch(self) -> None:
        if self._created:
            self._container.get_wrapped_container().start()
            return
        self._start_new()
        self._created = True
        self._guard.protect(containers=[self.container_id])

    def _start_new(self) -> None:
        docker_errors = import_module("docker.errors")
        settings = import_module("testcontainers.core.config").testcontainers_config
        reaper_off = settings.ryuk_disabled
        # The guard does the reaper's work, without an image that would have to be pulled.
        settings.ryuk_disabled = True
        try:
            self._container.start()
        except (docker_errors.DockerException, OSError) as error:
            self._container.stop()
            raise Unavailable(
                f"Docker cannot start image {self.image} ({error}); pull or build it, or set {IMAGE_SETTING}"
            ) from error
        finally:
            settings.ryuk_disabled = reaper_off

    def _shut_down(self) -> None:
        self._container.get_wrapped_container().stop(timeout=60)

    def _end(self) -> None:
        if self.alive():
            self._container.get_wrapped_container().kill("SIGKILL")
            self._container.get_wrapped_container().wait()

    def _freeze(self) -> None:
        self._container.get_wrapped_container().pause()

    def _thaw(self) -> None:
        self._container.get_wrapped_container().unpause()


def _container(image: str) -> DockerContainer:
    try:
        errors = import_module("docker.errors")
        module = import_module("testcontainers.core.container")
    except ImportError as error:
        raise Unavailable("testcontainers is not installed; pip install 'mqtool[testing]'") from error
    try:
        return cast("DockerContainer", module.DockerContainer(image))
    except errors.DockerException as error:
        raise Unavailable(f"Docker does not answer ({error}); start it, or use another broker") from error


def _docker_host(container: DockerContainer) -> str:
    """Where published ports are reached: loopback, unless the Docker engine is elsewhere."""
    named = os.environ.get("TESTCONTAINERS_HOST_OVERRIDE") or os.environ.get("TC_HOST")
    engine = os.environ.get("DOCKER_HOST", "")
    if named or (engine and not engine.startswith("unix:")):
        host = named or container.get_docker_client().host()
        return "127.0.0.1" if host == "localhost" else host
    return "127.0.0.1"
