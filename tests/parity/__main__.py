"""`python -m tests.parity --seeds N [--first M]`: that many random cases; every difference is printed."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.parity.data import write_tables
from tests.parity.generate import generate
from tests.parity.harness import Bench

CASES_PER_LAKE = 500


def main() -> int:
    """0 if no answer differed."""
    parser = argparse.ArgumentParser(description="Compare answers from assets with live ones, at random.")
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    asked = parser.parse_args()
    began, compared, served, differing = time.monotonic(), 0, 0, 0
    refused: Counter[str] = Counter()
    for start in range(asked.first, asked.first + asked.seeds, CASES_PER_LAKE):
        with tempfile.TemporaryDirectory() as folder:
            data = Path(folder, "data")
            data.mkdir()
            write_tables(data, seed=start)
            bench = Bench.over(data, Path(folder, "lake"))
            try:
                for seed in range(start, min(start + CASES_PER_LAKE, asked.first + asked.seeds)):
                    outcome = bench.run(generate(seed))
                    compared += outcome.compared
                    served += outcome.refused is None
                    refused.update(
                        {reason.code for reason in outcome.refused.reasons} if outcome.refused else ()
                    )
                    differing += len(outcome.differences)
                    for difference in outcome.differences:
                        print(f"seed {seed}: {difference}\n")
            finally:
                bench.close()
        done = min(start + CASES_PER_LAKE, asked.first + asked.seeds) - asked.first
        print(f"{done} of {asked.seeds} queries, {differing} differ", file=sys.stderr, flush=True)
    seconds = time.monotonic() - began
    print(
        f"{asked.seeds} queries, {served} served from assets: {compared} pairs of answers, {differing} differ"
    )
    print(f"{seconds:.0f} seconds")
    print("refused:", ", ".join(f"{code} {count}" for code, count in refused.most_common()) or "none")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
