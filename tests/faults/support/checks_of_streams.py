"""
Checks of what was streamed.

I2  Nothing follows the end of a request in its stream.
I3  No reader is shown a chunk of an attempt after it has seen a later one, nor any chunk twice.
chunks  The chunks of an attempt are numbered 1…N without a gap, and the history says N; who was shown that
        a step completed was shown all of its chunks before.
"""

from collections.abc import Iterator, Mapping
from itertools import groupby

from tests.faults.support.history import Document, History, Reading
from tests.faults.support.violations import Violation, last_record

_REQUEST_ENDS = ("request.completed", "request.failed", "request.cancelled")


def check_readings(history: History) -> Iterator[Violation]:
    """I2, I3 and `chunks` of what readers were shown."""
    for reading in history.readings:
        yield from _order(reading)
        yield from _complete(reading, history.final_contexts)
        types = [event.type for event in reading.events]
        ends = [place for place, name in enumerate(types) if name in _REQUEST_ENDS]
        if ends and ends[0] != len(types) - 1:
            what = f"a reader was shown {types[ends[0] + 1 :]} after {types[ends[0]]}"
            yield Violation(rule="I2", what=what, concerns=reading.request_id)


def _order(reading: Reading) -> Iterator[Violation]:
    newest: dict[str, tuple[int, int]] = {}
    for event in reading.events:
        if event.step is None or event.attempt is None:
            continue
        position = (event.attempt, event.seq or 0)
        seen = newest.get(event.step, (0, 0))
        late = position[0] < seen[0]
        again = event.seq is not None and position <= seen
        if event.type == "output.delta" and (late or again):
            what = f"a reader of {event.step} was shown chunk {position} after {seen}"
            yield Violation(
                rule="I3", what=what, concerns=f"{reading.request_id}.{event.step}", evidence=(event,)
            )
        newest[event.step] = max(seen, position)


def _complete(reading: Reading, contexts: Mapping[str, Document]) -> Iterator[Violation]:
    """Only of readers that were there from the beginning."""
    if not reading.events or reading.events[0].type != "request.accepted":
        return
    shown: dict[str, set[tuple[int, int]]] = {}
    for event in reading.events:
        if event.step is None:
            continue
        if event.type == "output.delta" and event.attempt is not None and event.seq is not None:
            shown.setdefault(event.step, set()).add((event.attempt, event.seq))
        context_id = f"{reading.request_id}.{event.step}"
        if event.type == "step.completed" and context_id in contexts:
            record = last_record(contexts[context_id])
            wanted = {(record["attempt"], seq) for seq in range(1, record["chunks"] + 1)} if record else set()
            if missing := wanted - shown.get(event.step, set()):
                what = f"a reader was shown that {event.step} completed, but not its chunks {sorted(missing)}"
                yield Violation(rule="chunks", what=what, concerns=context_id)


def check_chunks(history: History) -> Iterator[Violation]:
    """`chunks`, of what is stored in the end."""
    stored: dict[str, dict[int, int]] = {}
    for (context_id, attempt), chunks in groupby(
        history.final_chunks, key=lambda chunk: (str(chunk["context_id"]), int(chunk["attempt"]))
    ):
        numbers = [chunk["seq"] for chunk in chunks]
        stored.setdefault(context_id, {})[attempt] = len(numbers)
        if numbers != list(range(1, len(numbers) + 1)):
            what = f"attempt {attempt} has the chunks {numbers}"
            yield Violation(rule="chunks", what=what, concerns=context_id)
    for context_id, context in history.final_contexts.items():
        yield from _counted(context, stored.pop(context_id, {}))
    for context_id in stored:
        yield Violation(rule="chunks", what="has chunks and does not exist", concerns=context_id)


def _counted(context: Document, stored: Mapping[int, int]) -> Iterator[Violation]:
    for attempt in stored:
        if attempt > context["attempt"]:
            what = f"has chunks of attempt {attempt}, and only {context['attempt']} were claimed"
            yield Violation(rule="chunks", what=what, concerns=context["_id"])
    for record in context["history"]:
        count, said = stored.get(record["attempt"], 0), record["chunks"]
        # What a lost attempt had in flight may arrive later; no reader is shown it.
        if count < said or (count > said and record["outcome"] in ("completed", "failed", "cancelled")):
            what = f"attempt {record['attempt']} says {said} chunks, and {count} are there"
            yield Violation(rule="chunks", what=what, concerns=context["_id"], evidence=(record,))
