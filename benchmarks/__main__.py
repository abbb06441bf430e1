"""`python -m benchmarks [NAME …]`: measure, print a table, and write the same as JSON."""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from loguru import logger

from agent_service.main import new_event_loop
from benchmarks import (
    chain,
    claims,
    endurance,
    fleet,
    growth,
    idle,
    ingest,
    latency,
    lines,
    memory,
    noop,
    readers,
    throughput,
)
from benchmarks.document import read_kept, renewed, write_document
from benchmarks.machine import describe_machine
from benchmarks.report import as_json, table
from benchmarks.stage import Load, Stage, open_stage

BENCHMARKS: Mapping[str, Callable[[Stage], Awaitable[None]]] = {
    "claims": claims.measure,
    "lines": lines.measure,
    "chain": chain.measure,
    "throughput": throughput.measure,
    "noop": noop.measure,
    "latency": latency.measure,
    "idle": idle.measure,
    "fleet": fleet.measure,
    "ingest": ingest.measure,
    "memory": memory.measure,
    "readers": readers.measure,
    "growth": growth.measure,
    "endurance": endurance.measure,
}
_RESULTS = Path(__file__).resolve().parents[1] / "benchmark-results"


def main() -> None:
    """Run the benchmarks that are named, or all of them."""
    arguments = _parser().parse_args()
    # Whatever ends well says nothing; warnings belong to whoever watches.
    logger.remove()
    logger.add(sys.stderr, level="WARNING")
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_run(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=main.__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}")
    parser.add_argument("--runs", type=int, default=3, help="how often each figure is measured (3)")
    parser.add_argument("--quick", action="store_true", help="small sizes, which show that it works")
    parser.add_argument("--rate", type=float, default=Load().rate, help="of endurance, per second (1,000)")
    parser.add_argument("--minutes", type=int, default=Load().minutes, help="for which endurance lasts (10)")
    parser.add_argument(
        "--document", action="store_true", help="write the figures into docs/benchmarks.md, unless --quick"
    )
    parser.add_argument("--results", type=Path, default=_RESULTS, help="folder for the JSON")
    return parser


async def _run(arguments: argparse.Namespace) -> None:
    names: list[str] = arguments.names or list(BENCHMARKS)
    runs, quick, load = arguments.runs, arguments.quick, Load(rate=arguments.rate, minutes=arguments.minutes)
    if min(runs, load.rate, load.minutes) <= 0:
        raise SystemExit("--runs, --rate and --minutes must be above 0")
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        raise SystemExit(f"there is no benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)}")
    folder = Path(tempfile.mkdtemp(prefix="agent-service-benchmarks-"))
    async with open_stage(folder, runs=runs, quick=quick, load=load) as stage:
        for name in names:
            began = time.perf_counter()
            await BENCHMARKS[name](stage)
            print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
        machine = await describe_machine(stage)
        print(table(stage.results, machine))
        _write(arguments.results, as_json(stage.results, machine, runs=runs, quick=quick))
        if arguments.document and not quick:
            today = f"{datetime.now(UTC):%Y-%m-%d}"
            write_document(renewed(read_kept(), stage.results.figures(), machine, today))
            print("the figures are in docs/benchmarks.md and docs/benchmarks.json", file=sys.stderr)


def _write(folder: Path, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    file.write_text(text, encoding="utf-8")
    print(f"the figures are in {folder.name}/{file.name}", file=sys.stderr)


if __name__ == "__main__":
    main()
