"""Works through many pictures, several at once, past those that fail."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from facet import files
from facet.errors import ConnectError, FacetError, RequestError, SetupError
from facet.outputs import Job
from facet.results import Pictures


@dataclass
class Outcome:
    """What became of the jobs; `failed` in their order, each with the reason."""

    written: list[Job] = field(default_factory=list)
    skipped: list[Job] = field(default_factory=list)
    failed: list[tuple[Job, Exception]] = field(default_factory=list)


def hopeless(error: Exception) -> bool:
    """Whether the next picture would fail the same way: no service, or a mistake in the request."""
    if isinstance(error, ConnectError | SetupError):
        return True
    if not isinstance(error, RequestError) or error.status not in (401, 403, 404, 422):
        return False
    fields = {each["field"].partition(".")[0] for each in error.errors}
    return not fields & {"image", "face", "body"}


def run(jobs: list[Job], draw: Callable[[Job], Pictures], at_once: int, skip_existing: bool) -> Outcome:
    """Draw and write each job. Raises the first error that is `hopeless`, with what was written before left there."""
    outcome = Outcome()
    if skip_existing:
        outcome.skipped = [job for job in jobs if all(target.exists() for target in job.targets)]
    waiting = [job for job in jobs if job not in outcome.skipped]
    reasons: dict[int, Exception] = {}
    over = threading.Event()

    def work(job: Job) -> None:
        if not over.is_set():
            try:
                _write(job, draw(job))
            except Exception as exc:
                if hopeless(exc):
                    over.set()
                raise

    executor = ThreadPoolExecutor(max(1, min(at_once, len(waiting))), thread_name_prefix="facet")
    try:
        running = {executor.submit(work, job): place for place, job in enumerate(waiting)}
        with _progress(len(waiting)) as advance:
            for done in as_completed(running):
                if reason := _reason(done):
                    reasons[running[done]] = reason
                advance()
    finally:
        executor.shutdown(cancel_futures=True)
    outcome.written = [job for place, job in enumerate(waiting) if place not in reasons]
    outcome.failed = [(waiting[place], reasons[place]) for place in sorted(reasons)]
    return outcome


def _write(job: Job, drawn: Pictures) -> None:
    for picture, target in zip(drawn, job.targets, strict=True):
        target.parent.mkdir(parents=True, exist_ok=True)
        files.write(target, picture.data)


def _reason(done: Future[None]) -> Exception | None:
    """Why a job failed, None if it did not. Raises what would fail all others too, and what is our own mistake."""
    error = done.exception()
    if error is None or (isinstance(error, FacetError | OSError) and not hopeless(error)):
        return error
    raise error


@contextmanager
def _progress(total: int) -> Any:
    """A function to call after each job; it moves a bar where someone sees it."""
    if total < 2 or not sys.stderr.isatty():
        yield lambda: None
        return
    try:
        from tqdm import tqdm
    except ImportError:  # nice to have
        yield lambda: None
        return
    with tqdm(total=total, unit=" pictures", file=sys.stderr) as bar:
        yield bar.update
