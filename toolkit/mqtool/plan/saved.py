"""A plan as a file: what was looked at and agreed to, and nothing else, is what ``mqtool apply`` then does. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

from mqtool.errors import Problem, TopologyError
from mqtool.plan.make import Plan
from mqtool.plan.step import Step
from mqtool.topology.layout import Binding, Exchange, Layout, Queue

_FORMAT = "mqtool-plan"
_VERSION = 1

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SavedPlan:
    """A plan with the layout that it leads to.

    :ivar broker: the name of the cluster that it was made for.
    :ivar prune: whether what is ours and not wanted any more is to be removed.
    """

    broker: str
    prune: bool
    layout: Layout
    plan: Plan


def dump(saved: SavedPlan) -> str:
    """The text of a plan file. No credentials are in it."""
    layout = saved.layout
    content = {
        _FORMAT: _VERSION,
        "broker": saved.broker,
        "prune": saved.prune,
        "layout": {
            "vhost": layout.vhost,
            "owner": layout.owner,
            "exchanges": [asdict(each) for each in layout.exchanges],
            "queues": [asdict(each) for each in layout.queues],
            "bindings": [asdict(each) for each in layout.bindings],
            "policies": [dict(each) for each in layout.policies],
        },
        "steps": [_step_data(step) for step in saved.plan.steps],
    }
    return json.dumps(content | {"digest": _digest(content)}, indent=2, sort_keys=True) + "\n"


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def is_plan(text: str) -> bool:
    """Whether a file holds a saved plan, by its looks."""
    return text.lstrip()[:1] == "{" and f'"{_FORMAT}"' in text


def load(text: str, file: str) -> SavedPlan:
    """Read a plan file.

    :raises TopologyError: it is not one, or one of another version.
    """
    try:
        content = json.loads(text)
        digest = content.pop("digest")
        if content[_FORMAT] != _VERSION:
            raise _bad(file, f"a plan of format {content[_FORMAT]!r:.20}, which this version does not know; plan again")
        if digest != _digest(content):
            raise _bad(file, "the plan was changed after it was saved; plan again")
        layout = content["layout"]
        return SavedPlan(
            broker=str(content["broker"]),
            prune=content["prune"] is True,
            layout=Layout(
                vhost=layout["vhost"],
                exchanges=tuple(_made(Exchange, each) for each in layout["exchanges"]),
                queues=tuple(_made(Queue, each) for each in layout["queues"]),
                bindings=tuple(_made(Binding, each) for each in layout["bindings"]),
                policies=tuple(layout["policies"]),
                owner=layout["owner"],
            ),
            plan=Plan(tuple(_step(each) for each in content["steps"]), (), 0, ()),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _bad(file, f"not a plan that can be read ({type(error).__name__}); make it again") from None


def _bad(file: str, text: str) -> TopologyError:
    return TopologyError([Problem(text, file=file)])


_STEP = ("action", "kind", "name", "detail", "code", "consequence")


def _step_data(step: Step) -> dict[str, str]:
    return {name: getattr(step, name) for name in _STEP}


def _step(data: Mapping[str, Any]) -> Step:
    values: dict[str, Any] = {name: str(data[name]) for name in _STEP}
    return Step(**values)


def _made(kind: type[T], data: Mapping[str, Any]) -> T:
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]  # a dataclass, all of them
    if set(data) != known:
        raise ValueError("other fields than this version has")
    return kind(**data)
