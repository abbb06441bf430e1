"""Which scope each route asks for, read from the routes themselves: no route is open by forgetting."""

from collections.abc import Iterator, Sequence

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from agent_service.api.caller import CallerWith, open_to_all
from agent_service.domain.api_key import Scope


def check_scopes(routes: Sequence[BaseRoute]) -> None:
    """Raise TypeError, which a programmer sees at the start, for a route that does not say whom it is for."""
    for route in routes:
        if not isinstance(route, APIRoute):
            raise TypeError(f"{route} is no route of FastAPI, so nothing asks for a key there")
        scope_of(route)


def scope_of(route: APIRoute) -> Scope | None:
    """The scope that a route asks for; None where it is open to all. Raises TypeError where it is silent."""
    calls = list(_dependencies(route.dependant))
    said = [call.scope if isinstance(call, CallerWith) else None for call in calls if _says(call)]
    if len(said) != 1:
        raise TypeError(
            f"{', '.join(sorted(route.methods or ()))} {route.path} must say once whom it is for: give it a"
            " parameter `caller: Reader` (or Submitter, Canceller, Administrator), or its router"
            " `dependencies=[OPEN_TO_ALL]`"
        )
    return said[0]


def _says(call: object) -> bool:
    return isinstance(call, CallerWith) or call is open_to_all


def _dependencies(dependant: Dependant) -> Iterator[object]:
    for each in dependant.dependencies:
        yield each.call
        yield from _dependencies(each)
