"""What is in the messages: plain bytes, bytes that say when they were sent, and a typed task."""

from __future__ import annotations

import time

from pydantic import BaseModel

#: Digits of the time that a stamped body begins with.
STAMP = 20


class Line(BaseModel):
    """One line of an order."""

    article: str
    amount: int
    price: float


class Order(BaseModel):
    """A task as an application would have it."""

    id: int
    customer: str
    express: bool
    lines: list[Line]
    note: str


def order(size: int) -> Order:
    """A task of about so many bytes of JSON, at least 200."""
    lines = [Line(article=f"article-{number}", amount=number, price=number * 1.25) for number in range(1, 4)]
    task = Order(id=1, customer="ada@example.com", express=True, lines=lines, note="")
    task.note = "x" * max(size - len(task.model_dump_json()), 0)
    return task


def stamped(size: int) -> bytes:
    """A body that begins with the monotonic clock, which all processes of one machine share."""
    return f"{time.monotonic_ns():0{STAMP}d}".encode().ljust(size, b"x")
