"""The page that shows the OpenAPI document to people; all of its files come from this server."""

from collections.abc import Awaitable, Callable
from importlib import resources
from pathlib import Path
from types import MappingProxyType

from fastapi import APIRouter
from starlette.responses import FileResponse

from agent_service.api.caller import OPEN_TO_ALL

_OURS = Path(__file__).parent / "static"
#: Nothing is loaded from anywhere else, and no script or style that stands in the page itself is run.
_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        # Swagger UI draws its arrows with data: images.
        "img-src 'self' data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
_HEADERS = MappingProxyType(
    {
        "Content-Security-Policy": _POLICY,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        # Kept, but asked for each time: another version has the same addresses.
        "Cache-Control": "no-cache",
    }
)


def reference_page_routes() -> APIRouter:
    """`GET /docs` and the files that it loads; none of them stands in the OpenAPI document."""
    # The wheel carries the built files of Swagger UI; nothing else of it is used.
    swagger_ui = Path(str(resources.files("fastapi_offline"))) / "static"
    router = APIRouter(include_in_schema=False, dependencies=[OPEN_TO_ALL])
    for path, file, media_type in (
        ("/docs", _OURS / "reference.html", "text/html"),
        ("/docs/reference.js", _OURS / "reference.js", "text/javascript"),
        ("/docs/swagger-ui-bundle.js", swagger_ui / "swagger-ui-bundle.js", "text/javascript"),
        ("/docs/swagger-ui.css", swagger_ui / "swagger-ui.css", "text/css"),
    ):
        router.add_api_route(path, _sending(file, media_type), response_class=FileResponse)
    return router


def _sending(file: Path, media_type: str) -> Callable[[], Awaitable[FileResponse]]:
    async def send() -> FileResponse:
        return FileResponse(file, media_type=media_type, headers=dict(_HEADERS))

    return send
