"""A batcher over a graph that a test holds and releases."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry

from service.inference.batcher import Batcher, Computed
from service.inference.worker_slots import WorkerSlots
from service.telemetry.metrics import Metrics
from tests.service.fakes import PATIENCE


class Graph:
    """Doubles its input and remembers every batch; between `hold` and `release` it keeps its worker."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.failures: dict[int, Exception] = {}
        self._entered, self._gate = threading.Event(), threading.Event()
        self._gate.set()

    def __call__(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        rows = inputs["x"][:, 0].astype(int).tolist()
        self.batches.append(rows)
        self._entered.set()
        assert self._gate.wait(PATIENCE)
        for row, failure in self.failures.items():
            if row in rows:
                raise failure
        return {"y": 2 * inputs["x"], "negative": -inputs["x"][:, 0]}

    def hold(self) -> None:
        self._entered.clear()
        self._gate.clear()

    def release(self) -> None:
        self._gate.set()

    async def entered(self) -> None:
        assert await asyncio.to_thread(self._entered.wait, PATIENCE)


class Scene:
    """A batcher over a Graph, with whatever a test asks of them."""

    def __init__(self, executor: Executor, run: Callable | None, limits: dict[str, int]) -> None:
        self.graph, self.registry = Graph(), CollectorRegistry()
        limits = {"max_batch": 4, "capacity": 16} | limits
        self.slots = WorkerSlots(limits.pop("workers", 1), limits.pop("prefetch", 0))
        self.metrics, self._executor, self._limits = Metrics(self.registry), executor, limits
        self.batcher = self.another("decoder", run or self.graph)

    def another(self, name: str, run: Callable) -> Batcher:
        """One more batcher in the same slots."""
        return Batcher(name, run, self._executor, self.metrics, slots=self.slots, **self._limits)

    async def submit(self, *rows: int, timeout: float = PATIENCE) -> asyncio.Task[Computed]:
        """A request that has been admitted or refused by the time this returns."""
        values = np.asarray(rows, np.float32)[:, None].repeat(2, axis=1)
        task = asyncio.create_task(self.batcher.submit({"x": values}, timeout))
        await asyncio.sleep(0)
        return task

    async def occupy(self, row: int = 900) -> asyncio.Task[Computed]:
        """A request that keeps the only worker until `graph.release()`."""
        self.graph.hold()
        task = await self.submit(row)
        await self.graph.entered()
        return task

    def value(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"facet_{name}", labels or {"graph": "decoder"}) or 0.0

    @property
    def waiting(self) -> float:
        return self.value("queue_images")


@asynccontextmanager
async def scene(executor: Executor | None = None, run: Callable | None = None, **limits: int) -> AsyncIterator[Scene]:
    with nullcontext(executor) if executor else ThreadPoolExecutor(4) as pool:
        found = Scene(pool, run, limits)
        try:
            yield found
        finally:
            found.graph.release()
            await found.batcher.close()


def play(story: Coroutine[Any, Any, None]) -> None:
    """Run one test's story; one that hangs fails."""

    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE):
            await story

    asyncio.run(bounded())


def is_for(computed: Computed, *rows: int) -> bool:
    expected = np.asarray(rows, np.float32)
    return (
        computed.outputs["y"].tolist() == (2 * expected[:, None].repeat(2, axis=1)).tolist()
        and computed.outputs["negative"].tolist() == (-expected).tolist()
    )
