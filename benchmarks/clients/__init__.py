"""The clients. Each module has ``publish(job, span)`` and ``consume(job, span)``, and imports its library itself.

``publish`` warms up, starts the span, publishes ``job.count`` messages, and stops the span when all are confirmed.
``consume`` calls ``span.hit()`` for each message that its handler is given; the last one ends the process.
``job.operation`` says what the messages are: ``publish`` and ``consume``: bytes; ``latency``: bytes that begin with the
time, one every ``1 / job.rate`` seconds; ``tasks``: a typed :class:`~benchmarks.payload.Order`.
"""
