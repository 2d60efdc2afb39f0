"""Bound runs against the real onnxruntime, on the CPU: the same buffers, bindings and copies as on a GPU."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from service.inference.batcher import buckets
from service.inference.io_binding import BoundSession
from service.inference.out_of_memory import OutOfMemory

onnxruntime = pytest.importorskip("onnxruntime")
BUNDLE = Path(__file__).parents[3] / "bundles" / "celeba64"
SIZES = buckets(12)


def inputs(session, rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng([seed, rows])
    draw = {
        "tensor(uint8)": lambda shape: rng.integers(0, 256, shape, dtype=np.uint8),
        "tensor(float)": lambda shape: rng.standard_normal(shape, dtype=np.float32),
    }
    return {node.name: draw[node.type]((rows, *node.shape[1:])) for node in session.get_inputs()}


def expected(session, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    names = [node.name for node in session.get_outputs()]
    return dict(zip(names, session.run(names, given), strict=True))


def same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> bool:
    return found.keys() == wanted.keys() and all(
        found[name].dtype == wanted[name].dtype and np.array_equal(found[name], wanted[name]) for name in wanted
    )


class Watched:
    """A session that keeps what it is asked."""

    def __init__(self, session) -> None:
        self.session = session
        self.bound: list[tuple[str | None, str]] = []  # graph and thread of each bound run
        self.plain: list[str | None] = []
        self.error: Exception | None = None

    def __getattr__(self, name: str):
        return getattr(self.session, name)

    def run_with_iobinding(self, bound, options=None):
        if self.error is not None:
            raise self.error
        self.bound.append((graph(options), threading.current_thread().name))
        self.session.run_with_iobinding(bound, options)

    def run(self, names, given, options=None):
        self.plain.append(graph(options))
        return self.session.run(names, given, options)


def graph(options) -> str | None:
    return options and options.get_run_config_entry("gpu_graph_id")


def opened(name: str) -> Watched:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    path = str(BUNDLE / name)
    return Watched(onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]))


@pytest.fixture(scope="module", params=["encoder.onnx", "decoder.onnx"])
def shared(request) -> Watched:
    return opened(request.param)


@pytest.fixture
def session(shared: Watched) -> Watched:
    return Watched(shared.session)


@pytest.mark.parametrize("captured", [False, True])
def test_every_size_computes_what_the_session_does(session: Watched, captured: bool):
    bound = BoundSession(onnxruntime, session, SIZES, captured=captured)
    session.bound.clear()
    for seed, rows in enumerate([*SIZES, *SIZES]):
        given = inputs(session, rows, seed)
        assert same(bound(given), expected(session.session, given))
    assert len(session.bound) == 2 * len(SIZES)
    assert session.plain == []


@pytest.mark.slow
@pytest.mark.parametrize(("sets", "captured"), [(1, False), (2, False), (1, True)])
def test_threads_do_not_see_each_others_batches(session: Watched, sets: int, captured: bool):
    bound = BoundSession(onnxruntime, session, [1, 2], sets=sets, captured=captured)
    batches = [inputs(session, 1 + seed % 2, seed) for seed in range(24)]
    wanted = [expected(session.session, given) for given in batches]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(bound, batches))
    assert all(same(*pair) for pair in zip(found, wanted, strict=True))


def test_an_answer_outlives_the_next_batch(session: Watched):
    bound = BoundSession(onnxruntime, session, [2])
    given = inputs(session, 2)
    first = bound(given)
    bound(inputs(session, 2, seed=1))
    assert same(first, expected(session.session, given))


def test_a_size_without_buffers_runs_all_the_same(session: Watched):
    bound = BoundSession(onnxruntime, session, [2])
    assert len(session.bound) == 1  # to see that it can be
    given = inputs(session, 3)
    assert same(bound(given), expected(session.session, given))
    assert (len(session.bound), session.plain) == (1, [None])
    assert not bound.page_locked


def test_what_does_not_fit_is_refused_by_the_session_and_not_bent_until_it_does(session: Watched):
    bound = BoundSession(onnxruntime, session, [2])
    given = inputs(session, 2)
    for wrong in (
        given | {"attributes": given["attributes"].astype(np.float64)},
        given | {"attributes": given["attributes"][:, :1]},
        {name: array for name, array in given.items() if name != "attributes"},
    ):
        with pytest.raises(Exception, match=r"attributes|input data type"):
            bound(wrong)
    assert same(bound(given), expected(session.session, given))


def test_each_size_is_captured_at_once_and_everything_runs_in_one_thread(session: Watched):
    bound = BoundSession(onnxruntime, session, [1, 2, 4], captured=True)
    assert [name for name, _ in session.bound] == ["4", "2", "1"]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(bound, [inputs(session, rows) for rows in (1, 2, 3, 4)]))
    assert sorted(name for name, _ in session.bound[3:]) == ["1", "2", "4"]
    assert session.plain == ["-1"]  # of 3, which must not be captured
    assert len({thread for _, thread in session.bound}) == 1
    assert threading.current_thread().name not in {thread for _, thread in session.bound}


@pytest.mark.parametrize("captured", [False, True])
def test_memory_that_ran_out_is_told_and_the_buffers_serve_on(session: Watched, captured: bool):
    bound = BoundSession(onnxruntime, session, [1], captured=captured)
    session.error = RuntimeError("BFCArena: Failed to allocate memory for requested buffer of size 41943040")
    with pytest.raises(OutOfMemory):
        bound(inputs(session, 1))
    session.error = None
    assert same(bound(inputs(session, 1)), expected(session.session, inputs(session, 1)))
