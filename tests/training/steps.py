"""Runs steps of a trainer and says what each lost; started by tests, alone or by `torchrun`.

python -m tests.training.steps '{"data": ..., "cache": ..., "directory": ..., "overrides": [...], "runs": [
    {"resume": FILE or null, "steps": 4, "save": NAME or null, "losses": FILE}]}'
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.training.trainers import make_trainer
from training import distributed


def run(trainer, steps: int) -> list[dict[str, float]]:
    """What each step lost, averaged over the processes."""
    found = [trainer.train_step() for _ in range(steps)]
    return [{name: float(distributed.average(value)) for name, value in step.items()} for step in found]


def main() -> None:
    task = json.loads(sys.argv[1])
    distributed.start()
    for part in task["runs"]:
        trainer = make_trainer(task["data"], task["cache"], task["directory"], *task["overrides"])
        if part["resume"]:
            trainer.resume(Path(part["resume"]))
        found = run(trainer, part["steps"])
        if part["save"]:
            trainer.save(part["save"])
        if distributed.rank() == 0:
            Path(part["losses"]).write_text(json.dumps(found))
    distributed.stop()


if __name__ == "__main__":
    main()
