"""All targets; a further parser is one entry in one of these."""

from tests.fuzz.answers import ANSWERS
from tests.fuzz.calls import CALLS
from tests.fuzz.headers import HEADERS
from tests.fuzz.submissions import SUBMISSIONS

TARGETS = (*CALLS, *HEADERS, *SUBMISSIONS, *ANSWERS)
