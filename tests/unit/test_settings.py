"""Where the broker is: URLs taken apart, and passwords that never show."""

from __future__ import annotations

import traceback
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqtool.errors import ConfigurationError
from mqtool.settings import DEFAULT_URL, BrokerUrl, Settings, parse_url

SOME = settings(max_examples=150, deadline=None)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("amqp://h", BrokerUrl("amqp", "h", 5672, "guest", "guest", "/")),
        ("amqp://h/", BrokerUrl("amqp", "h", 5672, "guest", "guest", "/")),
        ("amqp://h/%2F", BrokerUrl("amqp", "h", 5672, "guest", "guest", "/")),
        ("amqp://h/shop", BrokerUrl("amqp", "h", 5672, "guest", "guest", "shop")),
        ("amqp://h/eu%2Fshop", BrokerUrl("amqp", "h", 5672, "guest", "guest", "eu/shop")),
        ("amqp://h/gr%C3%B6%C3%9Fe", BrokerUrl("amqp", "h", 5672, "guest", "guest", "größe")),
        ("amqps://h", BrokerUrl("amqps", "h", 5671, "guest", "guest", "/")),
        ("AMQPS://H", BrokerUrl("amqps", "h", 5671, "guest", "guest", "/")),
        ("amqp://h:1", BrokerUrl("amqp", "h", 1, "guest", "guest", "/")),
        ("amqp://u:p@h:65535/v", BrokerUrl("amqp", "h", 65535, "u", "p", "v")),
        ("amqp://u%40x:p%2F%3A%23@h", BrokerUrl("amqp", "h", 5672, "u@x", "p/:#", "/")),
        ("amqp://u:p@ss@h", BrokerUrl("amqp", "h", 5672, "u", "p@ss", "/")),
        ("amqp://u:p:q@h", BrokerUrl("amqp", "h", 5672, "u", "p:q", "/")),
        ("amqp://:@h", BrokerUrl("amqp", "h", 5672, "", "", "/")),
        ("amqp://127.0.0.1:1", BrokerUrl("amqp", "127.0.0.1", 1, "guest", "guest", "/")),
        ("amqp://[::1]:1/v", BrokerUrl("amqp", "::1", 1, "guest", "guest", "v")),
        ("amqps://h?cafile=/ca.pem", BrokerUrl("amqps", "h", 5671, "guest", "guest", "/", "cafile=/ca.pem")),
        (DEFAULT_URL, BrokerUrl("amqp", "localhost", 5672, "guest", "guest", "/")),
    ],
)
def test_urls(text: str, url: BrokerUrl) -> None:
    assert parse_url(text) == url


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "starts with 'nothing'; write amqp://... or amqps://"),
        ("localhost:5672", "starts with 'localhost'"),
        ("http://h:15672", "starts with 'http'"),
        ("h", "starts with 'nothing'"),
        ("amqp://", "names no host"),
        ("amqp:///v", "names no host"),
        ("amqp://u:p@", "names no host"),
        ("amqp://h:abc", "host or port in the broker URL cannot be read"),
        ("amqp://h:70000", "host or port"),
        ("amqp://h:-1", "host or port"),
        ("amqp://[::1", "host or port"),
        ("amqp://h/a/b", "holds a '/'; write it as %2F"),
        ("amqp://h/v#x", "'#' or '@' where none belongs"),
        ("amqp://h/v@x", "'#' or '@' where none belongs"),
        ("amqp://u:p@h/v@x", "'#' or '@' where none belongs"),
        ("amqp://u:p@h/v?cafile=a@b", "'#' or '@' where none belongs"),
    ],
)
def test_what_is_no_url_is_refused_with_advice(text: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as caught:
        parse_url(text)
    assert "write" in str(caught.value)
    assert "\n" not in str(caught.value)


TEXT = st.text(st.characters(exclude_categories=["C"]), max_size=12)


@SOME
@given(
    st.sampled_from(["amqp", "amqps"]),
    st.sampled_from(["localhost", "a.example.com", "::1", "127.0.0.1"]),
    st.integers(1, 65535),
    TEXT, TEXT, TEXT.map(lambda vhost: vhost or "/"), st.sampled_from(["", "heartbeat=5"]),
)  # fmt: skip
def test_the_secret_form_of_a_url_is_the_url_again(
    scheme: str, host: str, port: int, user: str, password: str, vhost: str, query: str
) -> None:
    url = BrokerUrl(scheme, host, port, user, password, vhost, query)
    assert parse_url(url.secret()) == url


def test_tls_is_amqps() -> None:
    assert parse_url("amqps://h").tls
    assert not parse_url("amqp://h").tls


# -- passwords ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("amqp://u:p@h:1/v", "amqp://u:***@h:1/v"),
        ("amqp://h", "amqp://guest:***@h:5672/%2F"),
        ("amqps://u:p@[::1]/a%2Fb?keyfile=k", "amqps://u:***@[::1]:5671/a%2Fb"),
        ("amqp://:@h", "amqp://:***@h:5672/%2F"),
    ],
)
def test_a_url_is_shown_without_its_password(text: str, shown: str) -> None:
    assert str(parse_url(text)) == shown


#: Two halves around a character that has a meaning in URLs.
HALVES = ("Geh3im", "W0rt")


@pytest.mark.parametrize("between", [*"/?#@:[],%&=+ \\\n", "℀", "//", "%2F", "@@", "]:", "/@", "1"])
@pytest.mark.parametrize("written", ["as it is", "escaped"])
@pytest.mark.parametrize(
    "form",
    [
        "amqp://user:{}@host:5672/v",
        "amqps://user:{}@host",
        "amqp://user:12{}@host/v?x=1",
        "amqp://user:@x/{}@host",
        "amqp://user:@x/?{}@host",
    ],
)
def test_no_part_of_a_password_shows_anywhere(form: str, written: str, between: str) -> None:
    """Neither where the URL is understood, nor where the password breaks it."""
    password = between.join(HALVES)
    text = form.format(quote(password, safe="") if written == "escaped" else password)
    try:
        found = Settings.from_environment({"MQTOOL_URL": text})
    except ConfigurationError as error:
        seen = str(error) + repr(error) + "".join(traceback.format_exception(error))
        seen += repr(error.__context__)
    else:
        seen = str(found) + repr(found) + "".join(str(url) + repr(url) for url in found.urls)
        assert found.urls[-1].host == "host"
    assert not any(half.casefold() in seen.casefold() for half in HALVES)


@SOME
@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8), st.text(max_size=4).filter(lambda t: "," not in t)
)
def test_whatever_stands_around_it_the_password_does_not_show(between: str, before: str) -> None:
    text = f"amqp://user:{before}{between.join(HALVES)}@host:5672/v"
    try:
        seen = repr(Settings.of(text)) + str(Settings.of(text))
    except ConfigurationError as error:
        seen = str(error)
    assert not any(half.casefold() in seen.casefold() for half in HALVES)


def test_the_management_urls_password_does_not_show() -> None:
    found = Settings.of("amqp://h", "http://admin:Geh3im@h:15672")
    assert "Geh3im" not in repr(found) + str(found)
    assert found.management_url == "http://admin:Geh3im@h:15672"


# -- settings ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "environment", "hosts"),
    [
        (None, {}, ["localhost"]),
        (None, {"MQTOOL_URL": ""}, ["localhost"]),
        (None, {"MQTOOL_URL": "amqp://a"}, ["a"]),
        ("amqp://b", {"MQTOOL_URL": "amqp://a"}, ["b"]),
        ("", {"MQTOOL_URL": "amqp://a"}, ["a"]),
        ("amqp://a,amqp://b:1,amqps://c", {}, ["a", "b", "c"]),
        (" amqp://a , amqp://b ,", {}, ["a", "b"]),
        (None, {"MQTOOL_URL": "amqp://a/v,amqp://b/v"}, ["a", "b"]),
    ],
)
def test_candidates(url: str | None, environment: dict[str, str], hosts: list[str]) -> None:
    assert [candidate.host for candidate in Settings.from_environment(environment, url).urls] == hosts


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (",", "the broker URL is empty"),
        (" ", "the broker URL is empty"),
        ("amqp://a/x,amqp://b/y", "different virtual hosts"),
        ("amqp://a/x,amqp://b", "different virtual hosts"),
        ("amqp://a,http://b", "starts with 'http'"),
    ],
)
def test_candidates_that_do_not_go_together_are_refused(url: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        Settings.from_environment({}, url)


@pytest.mark.parametrize(
    ("given_url", "environment", "management_url"),
    [
        (None, {}, None),
        (None, {"MQTOOL_MANAGEMENT_URL": ""}, None),
        (None, {"MQTOOL_MANAGEMENT_URL": "http://m"}, "http://m"),
        ("http://n", {"MQTOOL_MANAGEMENT_URL": "http://m"}, "http://n"),
    ],
)
def test_management_url(given_url: str | None, environment: dict[str, str], management_url: str | None) -> None:
    assert Settings.from_environment(environment, "amqp://h", given_url).management_url == management_url


def test_the_environment_is_read_when_settings_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQTOOL_URL", "amqp://one")
    assert Settings.of().urls[0].host == "one"
    monkeypatch.setenv("MQTOOL_URL", "amqp://two")
    assert Settings.of().urls[0].host == "two"
    assert Settings.of("amqp://three").urls[0].host == "three"


def test_settings_are_taken_as_they_are() -> None:
    ready = Settings.of("amqp://h")
    assert Settings.of(ready) is ready


def test_settings_are_shown_as_their_urls() -> None:
    assert str(Settings.of("amqp://a,amqp://b")) == "amqp://guest:***@a:5672/%2F,amqp://guest:***@b:5672/%2F"


@pytest.mark.parametrize(("vhost", "expected"), [("shop", "shop"), (None, "v"), ("v", "v"), ("a/b", "a/b")])
def test_another_virtual_host_on_every_candidate(vhost: str | None, expected: str) -> None:
    found = Settings.of("amqp://a/v,amqp://u:p@b/v", "http://m").with_vhost(vhost)
    assert {url.vhost for url in found.urls} == {found.vhost} == {expected}
    assert (found.urls[1].password, found.management_url) == ("p", "http://m")
