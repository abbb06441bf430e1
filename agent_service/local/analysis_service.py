"""The base service `analysis`: statistics of text and records, and sentiment, over the contract `execute`."""

from typing import Annotated, Literal

from fastapi import FastAPI
from pydantic import BaseModel, Field, JsonValue

from agent_service.local.execute_contract import (
    PROBLEM_RESPONSES,
    ExecuteEnvelope,
    Problem,
    StrictInput,
    check_json,
    install_problems,
)
from agent_service.local.record_statistics import RecordStatistics, describe_records
from agent_service.local.sentiment import Sentiment, judge_sentiment
from agent_service.local.text_statistics import TextStatistics, describe_text

TASKS = ("text_statistics", "record_statistics", "sentiment")


class TextStatisticsInput(StrictInput):
    """Ask for counts, readability and the most frequent terms of a text."""

    task: Literal["text_statistics"]
    text: str
    terms: int = Field(default=10, ge=0, le=1000, description="how many frequent terms at most")


class RecordStatisticsInput(StrictInput):
    """Ask for the statistics of each field of a list of records."""

    task: Literal["record_statistics"]
    records: list[dict[str, JsonValue]]
    fields: list[str] | None = Field(default=None, description="only these; otherwise every one that occurs")
    top_values: int = Field(default=5, ge=0, le=1000, description="how many frequent texts per field at most")


class SentimentInput(StrictInput):
    """Ask for the sentiment of an English text, as a whole and per sentence."""

    task: Literal["sentiment"]
    text: str
    max_sentences: int = Field(default=50, ge=0, le=1000, description="how many sentences are listed at most")


AnalysisInput = Annotated[
    TextStatisticsInput | RecordStatisticsInput | SentimentInput, Field(discriminator="task")
]
AnalysisOutput = Annotated[TextStatistics | RecordStatistics | Sentiment, Field(discriminator="task")]


class AnalysisCall(ExecuteEnvelope):
    """One attempt of one analysis."""

    input: AnalysisInput


class AnalysisAnswer(BaseModel):
    """The result, whose `task` is that of the input, and what it took."""

    output: AnalysisOutput
    usage: dict[str, int] = Field(description="the size of the input: `characters` or `records`")


def create_analysis_app() -> FastAPI:
    """The service as an ASGI application: `POST /execute`, `GET /healthz`, `GET /openapi.json`."""
    app = FastAPI(
        title="Analysis service",
        version="1",
        summary="Statistics of text and records, and sentiment.",
        responses={422: {"model": Problem}},
    )
    install_problems(app, discriminator="task", known=TASKS)

    # A plain function on purpose: it computes, so it runs in a thread and never holds up the event loop.
    @app.post("/execute", operation_id="execute", responses=PROBLEM_RESPONSES)
    def execute(call: AnalysisCall) -> AnalysisAnswer:
        """Carry out the analysis that `input.task` names."""
        return run_analysis(call.input)

    @app.get("/healthz", operation_id="healthz")
    async def healthz() -> dict[str, str]:
        """Say that the service takes calls."""
        return {"status": "ok"}

    return app


def run_analysis(request: AnalysisInput) -> AnalysisAnswer:
    """Compute; the time grows with the size of the input. Raises ExecuteProblem for what is no JSON."""
    output: AnalysisOutput
    match request:
        case TextStatisticsInput():
            check_json(request.text, "/input/text")
            output = describe_text(request.text, terms=request.terms)
            return AnalysisAnswer(output=output, usage={"characters": len(request.text)})
        case SentimentInput():
            check_json(request.text, "/input/text")
            output = judge_sentiment(request.text, max_sentences=request.max_sentences)
            return AnalysisAnswer(output=output, usage={"characters": len(request.text)})
        case RecordStatisticsInput():
            check_json(request.records, "/input/records")
            check_json(request.fields, "/input/fields")
            output = describe_records(request.records, fields=request.fields, top_values=request.top_values)
            return AnalysisAnswer(output=output, usage={"records": len(request.records)})
