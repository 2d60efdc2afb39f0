"""python -m benchmarks.faults.schema: requests made from the service's own OpenAPI document, by schemathesis.

Every check of schemathesis is on. Without `--url` a service is started on the bundle.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

from benchmarks import records
from benchmarks.processes import ROOT, facet

ADDRESS_VARIABLE = "FACET_SCHEMA_ADDRESS"  # the hooks are loaded by schemathesis, which passes nothing on


def attack(url: str, examples: int, seed: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run schemathesis against the service at `url`, with `examples` for each operation.

    Its report is in `stdout`; its exit status is 0 if nothing failed.
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
    with tempfile.TemporaryDirectory() as directory:  # it keeps files of its runs
        return subprocess.run(
            command,
            cwd=directory,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )


def main() -> int:
    """Print schemathesis's report; the exit status is its own."""
    parser = records.parser("faults.schema", __doc__, out=False)
    parser.add_argument("--examples", type=int, default=200, help="for each operation")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--url", help="of a service that runs already")
    options = parser.parse_args()
    if options.url:
        done = attack(options.url.rstrip("/"), options.examples, options.seed)
    else:
        with facet(options.bundle.resolve()) as instance:
            done = attack(instance.url, options.examples, options.seed)
    print(done.stdout)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
