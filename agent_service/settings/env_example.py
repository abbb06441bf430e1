"""render_env_example: the text of `.env.example`."""

from itertools import groupby

from agent_service.settings.service_names import STANDARD_SERVICES
from agent_service.settings.table import Entry, list_entries

_HEAD = """\
# Every setting of agent_service with its default. Copy this file to .env and take the # from what you change.
# The environment goes before .env, and .env before a file in /run/secrets that is called like the variable in
# lower case (/run/secrets/generation_api_key). An empty value counts as not set.
"""


def render_env_example() -> str:
    """Every variable as a comment with its default, under headings, explained where it first appears."""
    blocks = [_HEAD]
    explained: set[str] = set()
    for title, entries in groupby(list_entries(STANDARD_SERVICES), key=lambda entry: entry.title):
        lines = [f"# {title}", ""]
        for entry in entries:
            if entry.variable.about not in explained:
                explained.add(entry.variable.about)
                lines.append(f"# {_explain(entry)}")
            lines.append(f"#{entry.variable.name}={entry.default}")
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def _explain(entry: Entry) -> str:
    about = entry.variable.about
    return f"{about[0].upper()}{about[1:]} (read by: {', '.join(entry.variable.read_by)})"
