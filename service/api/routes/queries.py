"""The names of a query: one that a route does not know is refused, as an unknown field of a body is."""

from __future__ import annotations

from fastapi import Request
from fastapi.dependencies.models import Dependant

from service.validation import LONGEST_NAME, FieldFault, refused


async def refuse_unknown(request: Request) -> None:
    """Raise `Problem` 422 that names each query parameter of which there is none. A dependency of every route."""
    if not request.query_params:
        return
    known = sorted(names(request.scope["route"].dependant))
    unknown = [name for name in dict.fromkeys(request.query_params) if name not in known]
    if unknown:
        remedy = f"Remove it. Known parameters: {', '.join(known)}." if known else "Remove it: this path takes none."
        raise refused(
            [FieldFault(name[:LONGEST_NAME] or "query", "There is no such parameter.", remedy) for name in unknown]
        )


def names(dependant: Dependant) -> set[str]:
    """Collect the names of all query parameters that a route or one of its dependencies reads."""
    own = {parameter.alias for parameter in dependant.query_params}
    return own.union(*(names(each) for each in dependant.dependencies))
