"""One client process: ``python -m benchmarks.clients JOB``. Prints one line of JSON."""

from __future__ import annotations

import importlib
import sys

from benchmarks.job import Job, Span
from benchmarks.registry import CLIENTS


def main() -> None:
    """Do the job that the command line holds."""
    job = Job.load(sys.argv[1])
    module = importlib.import_module(f"benchmarks.clients.{CLIENTS[job.client].module}")
    span = Span(job)
    getattr(module, job.verb)(job, span)
    span.leave()


main()
