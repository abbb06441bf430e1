"""The answers that show a request: made, waited for, or as it stands."""

from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.responses import Response

from agent_service.api.conditional import entity_tag, is_known
from agent_service.api.request_answer import request_answer, request_path
from agent_service.api.waiting import Waited
from agent_service.request_reader import RequestView

#: How long a client should wait before it asks how a request stands, in seconds.
_ASK_AGAIN = "1"
#: What belongs to one caller is kept by no cache in between; a client compares entity tags by itself.
_NO_STORE = {"Cache-Control": "no-store"}


def taken(waited: Waited, *, replayed: bool) -> Response:
    """The answer to whoever made a request, or made it before with the same key: 202, or 200 at its end."""
    view = waited.view
    headers = {"Location": request_path(view.request.id), **waited.headers}
    if replayed:
        headers["Idempotency-Replayed"] = "true"
    # Who did not ask for the end is told that the request was taken, whatever became of it.
    ended = waited.preferred and view.status.ended
    return _answer(view, HTTPStatus.OK if ended else HTTPStatus.ACCEPTED, headers)


def cancelled(waited: Waited) -> Response:
    """The answer to whoever cancelled a request: 200 if it has ended, 202 while something still stops."""
    status = HTTPStatus.OK if waited.view.status.ended else HTTPStatus.ACCEPTED
    return _answer(waited.view, status, waited.headers)


def shown(waited: Waited, asked: Headers) -> Response:
    """How a request stands, or 304 to whoever has seen that already."""
    answer = _answer(waited.view, HTTPStatus.OK, waited.headers)
    tag = entity_tag(bytes(answer.body))
    answer.headers["ETag"] = tag
    if not is_known(asked, tag):
        return answer
    kept = {name: value for name, value in answer.headers.items() if not name.startswith("content-")}
    return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=kept)


def _answer(view: RequestView, status: HTTPStatus, headers: dict[str, str]) -> Response:
    # Where 202 is answered at the end of a request, there is more to see at its place.
    waits = status is HTTPStatus.ACCEPTED or not view.status.ended
    return Response(
        request_answer(view).to_json(),
        status_code=status,
        headers={**_NO_STORE, **({"Retry-After": _ASK_AGAIN} if waits else {}), **headers},
        media_type="application/json",
    )
