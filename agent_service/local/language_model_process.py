"""
The process that runs the language model: `python -m agent_service.local.language_model_process`.

A process of its own, because the model is C++ with threads that keep the processor busy. It prints the line
"language model ready on URL" and serves until it gets SIGTERM or its standard input ends.
"""

import argparse
import os
import sys
from collections.abc import Sequence

import xllamacpp

#: Who calls must have the key that this names; unset: anybody may.
KEY_VARIABLE = "LANGUAGE_MODEL_API_KEY"
#: The line that says where it listens; the parent waits for it.
READY_LINE = "language model ready on "
#: The memory for prompts that were seen before, in MiB.
_PROMPT_CACHE_MIB = 64
#: Each waiting or streaming call, and each idle connection for 5 s, holds one of these threads.
_HTTP_THREADS = 32


def main(arguments: Sequence[str] | None = None) -> None:
    """Load the weights, serve them on the loopback interface, and wait for the end."""
    parser = argparse.ArgumentParser(prog="language_model_process", description=main.__doc__)
    parser.add_argument("--weights", required=True, help="path of a .gguf file")
    parser.add_argument("--name", required=True, help="the model's name in requests and answers")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--threads", type=int, required=True, help="threads that compute")
    parser.add_argument("--slots", type=int, required=True, help="answers that are written at the same time")
    parser.add_argument("--context", type=int, required=True, help="tokens of prompt and answer, per slot")
    parser.add_argument("--answer", type=int, required=True, help="tokens of an answer that names no limit")
    options = parser.parse_args(arguments)
    server = xllamacpp.Server(_parameters(options))
    print(READY_LINE + server.listening_address, flush=True)
    sys.stdin.buffer.read()
    # To put the server away waits for ever while its threads still start; nothing of it has to be saved.
    os._exit(0)


def _parameters(options: argparse.Namespace) -> xllamacpp.CommonParams:
    parameters = xllamacpp.CommonParams()
    parameters.model.path = options.weights
    parameters.model_alias = {options.name}
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = options.port
    parameters.n_parallel = options.slots
    parameters.n_ctx = options.slots * options.context
    parameters.n_predict = options.answer
    parameters.n_threads_http = _HTTP_THREADS
    parameters.cpuparams.n_threads = options.threads
    parameters.cpuparams_batch.n_threads = options.threads
    parameters.n_gpu_layers = 0
    parameters.fit_params = False
    parameters.cache_ram_mib = _PROMPT_CACHE_MIB
    # A small model wanders at the usual temperature of 0.8; a request may ask for another one.
    parameters.sampling.temp = 0.2
    parameters.sampling.top_p = 0.9
    parameters.sampling.penalty_repeat = 1.1
    # Nothing that a page in a browser, or another user of this machine, could read prompts with.
    parameters.ui = False
    parameters.cors_origins = ""
    parameters.endpoint_slots = False
    # Without a key any page could ask that has its own name resolve to 127.0.0.1 (DNS rebinding).
    parameters.api_keys = [key] if (key := os.environ.pop(KEY_VARIABLE, "")) else []
    parameters.verbosity = 2
    return parameters


if __name__ == "__main__":
    main()
