"""TLS: verified unless the URL says otherwise in so many words."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import pytest

from mqtool.amqp.tls import ssl_context
from mqtool.errors import ConfigurationError
from mqtool.settings import parse_url


def context(query: str = "") -> ssl.SSLContext:
    found = ssl_context(parse_url(f"amqps://h/v?{query}"))
    assert found is not None
    return found


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate, its key, and the key encrypted."""
    folder = tmp_path_factory.mktemp("tls")
    make = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    subprocess.run(["openssl", *make.split(), "-keyout", "key.pem", "-out", "cert.pem"], cwd=folder, check=True)
    encrypt = "pkcs8 -topk8 -passout pass:secret -in key.pem -out encrypted.pem"
    subprocess.run(["openssl", *encrypt.split()], cwd=folder, check=True)
    (folder / "nonsense.pem").write_text("not a certificate")
    return folder


@pytest.mark.parametrize("query", ["", "cafile=/nowhere", "no_verify_ssl=1"])
def test_plain_amqp_has_no_context(query: str) -> None:
    assert ssl_context(parse_url(f"amqp://h/v?{query}")) is None


@pytest.mark.parametrize("query", ["", "no_verify_ssl=0", "no_verify_ssl=false", "no_verify_ssl=", "heartbeat=5"])
def test_certificate_and_name_are_verified(query: str) -> None:
    found = context(query)
    assert found.verify_mode is ssl.CERT_REQUIRED
    assert found.check_hostname


@pytest.mark.parametrize("query", ["no_verify_ssl=1", "no_verify_ssl=true", "no_verify_ssl=True"])
def test_nothing_is_verified_if_the_url_says_so(query: str) -> None:
    found = context(query)
    assert found.verify_mode is ssl.CERT_NONE
    assert not found.check_hostname


@pytest.mark.parametrize("value", ["no", "off", "2", "yes", "False0"])
def test_an_unclear_wish_is_refused_rather_than_taken_for_no_verification(value: str) -> None:
    with pytest.raises(ConfigurationError, match="no_verify_ssl in the broker URL is 1"):
        context(f"no_verify_ssl={value}")


def test_a_ca_of_ones_own_replaces_the_systems(pem: Path) -> None:
    found = context(f"cafile={pem / 'cert.pem'}")
    assert [dict(ca)["serialNumber"] for ca in found.get_ca_certs()] == [serial(pem / "cert.pem")]
    assert found.verify_mode is ssl.CERT_REQUIRED


def serial(certificate: Path) -> str:
    told = subprocess.run(
        ["openssl", "x509", "-noout", "-serial", "-in", str(certificate)], check=True, capture_output=True, text=True
    )
    return told.stdout.strip().removeprefix("serial=")


@pytest.mark.parametrize("key", ["&keyfile={}/key.pem", "&keyfile={}/key.pem&cafile={}/cert.pem"])
def test_a_client_certificate(pem: Path, key: str) -> None:
    assert context(f"certfile={pem}/cert.pem" + key.format(pem, pem)).verify_mode is ssl.CERT_REQUIRED


@pytest.mark.parametrize(
    "query",
    [
        "cafile={}/missing.pem",
        "cafile={}/nonsense.pem",
        "cafile={}",
        "certfile={}/missing.pem",
        "certfile={}/nonsense.pem",
        "certfile={}/cert.pem",
        "certfile={}/cert.pem&keyfile={}/missing.pem",
        "certfile={}/cert.pem&keyfile={}/nonsense.pem",
        "certfile={}/cert.pem&keyfile={}/encrypted.pem",
    ],
    ids=[
        "CA missing", "CA is nonsense", "CA is a folder", "certificate missing", "certificate is nonsense", "no key",
        "key missing", "key is nonsense", "key is encrypted",
    ],
)  # fmt: skip
def test_files_that_cannot_be_used_are_a_configuration_error(pem: Path, query: str) -> None:
    with pytest.raises(ConfigurationError, match="TLS files named in the broker URL cannot be used"):
        context(query.replace("{}", str(pem)))


def test_nobody_is_asked_for_the_password_of_a_key(pem: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """OpenSSL would ask, and a worker that runs as a service would wait for ever."""
    with pytest.raises(ConfigurationError):
        context(f"certfile={pem}/cert.pem&keyfile={pem}/encrypted.pem")
    assert "pass phrase" not in "".join(capfd.readouterr())
