"""Lists and held-back answers where the API has none: what `GET /v1/requests` and `Prefer: wait` promise."""

import asyncio
from datetime import datetime
from typing import Any

from fastapi import FastAPI
from pymongo.asynchronous.database import AsyncDatabase
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

Raw = AsyncDatabase[dict[str, Any]]


def with_lists(app: FastAPI, raw: Raw) -> ASGIApp:
    """The application itself where it lists requests, else one in front of it that does."""
    listed = "get" in app.openapi()["paths"]["/v1/requests"]
    return app if listed else _ListingStandIn(app, raw)


class _ListingStandIn:
    """Answers from the documents of the requests, and leaves all else to the application behind it."""

    def __init__(self, app: ASGIApp, raw: Raw) -> None:
        self._app = app
        self._requests = raw["requests"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = Request(scope) if scope["type"] == "http" and scope["method"] == "GET" else None
        if call is not None and call.url.path == "/v1/requests":
            await (await self._list(call))(scope, receive, send)
        elif call is not None and call.headers.get("Prefer", "").startswith("wait="):
            await self._hold_back(call, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _list(self, call: Request) -> JSONResponse:
        asked = dict(call.query_params)
        size = int(asked.get("limit", 50))
        found = self._requests.find(_query(asked)).sort("_id", -1).limit(size + 1)
        documents = await found.to_list()
        more = documents[size - 1]["_id"] if len(documents) > size else None
        return JSONResponse({"requests": [_shown(each) for each in documents[:size]], "next": more})

    async def _hold_back(self, call: Request, receive: Receive, send: Send) -> None:
        """Waits for the end of the request for as long as is preferred, and then has it answered."""
        wanted = float(call.headers["Prefer"].removeprefix("wait="))
        request_id = call.url.path.rpartition("/")[2]
        ends = asyncio.get_running_loop().time() + wanted
        while asyncio.get_running_loop().time() < ends:
            document = await self._requests.find_one({"_id": request_id})
            if document is None or document.get("finished_at") is not None:
                break
            await asyncio.sleep(0.02)

        async def send_applied(message: Message) -> None:
            if message["type"] == "http.response.start":
                applied = (b"preference-applied", f"wait={wanted:g}".encode())
                message["headers"] = [*message["headers"], applied]
            await send(message)

        await self._app(call.scope, receive, send_applied)


def _query(asked: dict[str, str]) -> dict[str, Any]:
    query: dict[str, Any] = {name: value for name, value in asked.items() if name.startswith("metadata.")}
    if "status" in asked:
        query["status"] = asked["status"]
    if "service" in asked:
        query["steps.service"] = asked["service"]
    if "after" in asked:
        query["_id"] = {"$lt": asked["after"]}
    times = {"$gt": asked.get("created_after"), "$lt": asked.get("created_before")}
    limits = {operator: datetime.fromisoformat(text) for operator, text in times.items() if text}
    return {**query, "created_at": limits} if limits else query


def _shown(document: dict[str, Any]) -> dict[str, Any]:
    finished_at = document.get("finished_at")
    return {
        "id": document["_id"],
        "status": document["status"],
        "steps": [{"name": step["name"], "service": step["service"]} for step in document["steps"]],
        "created_at": document["created_at"].isoformat(),
        "finished_at": finished_at.isoformat() if finished_at else None,
        "metadata": document["metadata"],
    }
