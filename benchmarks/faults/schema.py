"""python -m benchmarks.faults.schema: requests made from the service's own OpenAPI document, by schemathesis.

Every check of schemathesis is on. Without `--url` a service is started on the bundle.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.processes import ROOT
from benchmarks.serving import running, servers

ADDRESS_VARIABLE = "FACET_SCHEMA_ADDRESS"  # the hooks are loaded by schemathesis, which passes nothing on


def attack(url: str, examples: int, seed: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run schemathesis against the service at `url`, with so many examples an operation; status 0 if nothing failed.

    Its report is in `stdout`.
    """
    environment = os.environ | {
        ADDRESS_VARIABLE: url,
        "SCHEMATHESIS_HOOKS": "benchmarks.faults.hooks",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json"]
    command += ["--checks", "all", "--phases", "examples,coverage,fuzzing,stateful", "--continue-on-failure"]
    command += ["--max-examples", str(examples), "--no-color", "--warnings", "off"]
    command += [] if seed is None else ["--seed", str(seed)]
    with tempfile.TemporaryDirectory() as place:  # for what it keeps of its runs
        return subprocess.run(
            command,
            cwd=place,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )


def main() -> int:
    """Print schemathesis's report; the exit status is its own."""
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.faults.schema", description=__doc__)
    arguments.add_argument("--bundle", type=Path, default=ROOT / "bundles" / "celeba64")
    arguments.add_argument("--examples", type=int, default=200, help="for each operation")
    arguments.add_argument("--seed", type=int)
    arguments.add_argument("--url", help="of a service that runs already")
    asked = arguments.parse_args()
    if asked.url:
        done = attack(asked.url.rstrip("/"), asked.examples, asked.seed)
    else:
        with running(servers()["facet"], asked.bundle.resolve()) as instance:
            done = attack(instance.url, asked.examples, asked.seed)
    print(done.stdout)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
