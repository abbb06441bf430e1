"""What the doctor says of sizes."""

from dataclasses import replace

import pytest

from agent_service.cli.doctor_storage import judge_storage
from agent_service.settings import load_settings
from agent_service.store.storage_facts import MOST_COUNTED, StorageFacts

FACTS = StorageFacts(collection="contexts", documents=7, data_bytes=0, index_bytes=0, late=0)


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1_500, "1.5 kB"),
        (12_345_678, "12.3 MB"),
        (5_000_000_000, "5 GB"),
        (7_250_000_000_000_000, "7.25e+03 TB"),
    ],
)
def test_sizes_are_told_in_three_digits(size: int, said: str) -> None:
    finding, _ = judge_storage(load_settings({}, env_file=None), [replace(FACTS, data_bytes=size)])
    assert finding.text == f"contexts: 7 documents, {said} of data, 0 bytes of indexes"
    assert finding.remedy is None


@pytest.mark.parametrize(
    ("late", "said"), [(3, ": 3 of contexts"), (MOST_COUNTED, ": 100000 or more of contexts")]
)
def test_what_is_late_is_counted_to_a_limit(late: int, said: str) -> None:
    _, finding = judge_storage(load_settings({}, env_file=None), [replace(FACTS, late=late)])
    assert finding.text.endswith(said)
    assert finding.remedy is not None
