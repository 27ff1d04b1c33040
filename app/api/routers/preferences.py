"""What is believed about a person's taste: read, correct and reset."""

from typing import Annotated

from fastapi import APIRouter, Header, Response

from app.api.dependencies import ServicesOf, UserIdPath
from app.api.responses import PreferencesView
from app.api.schemas import PatchPreferencesBody
from app.services.estimator import Estimate

router = APIRouter(prefix="/v1/users/{user_id}/preferences", tags=["preferences"])


@router.get("", response_model=PreferencesView, responses={304: {"description": "Unchanged since If-None-Match"}})
async def get_preferences(
    user_id: UserIdPath,
    response: Response,
    services: ServicesOf,
    if_none_match: Annotated[str | None, Header()] = None,
) -> PreferencesView | Response:
    """The coefficients, with an ETag; 304 where If-None-Match has it already."""
    if if_none_match is not None:
        version = await services.estimate_preferences.version(user_id)
        if {version, "*"} & _versions(if_none_match):
            return Response(status_code=304, headers={"ETag": _etag(version)})
    return _view(await services.estimate_preferences(user_id), response)


@router.patch("")
async def patch_preferences(
    user_id: UserIdPath,
    body: PatchPreferencesBody,
    response: Response,
    services: ServicesOf,
    if_match: Annotated[str | None, Header()] = None,
) -> PreferencesView:
    """Add a person's own adjustments; If-Match must carry the ETag that they saw."""
    adjustments = [(item.index, item.delta) for item in body.adjustments]
    expected = None if if_match is None else if_match.strip().strip('"')
    return _view(await services.adjust_preferences(user_id, adjustments, expected), response)


@router.post("/reset")
async def reset_preferences(user_id: UserIdPath, response: Response, services: ServicesOf) -> PreferencesView:
    """Start over from the population's coefficients."""
    return _view(await services.reset_preferences(user_id), response)


def _view(estimate: Estimate, response: Response) -> PreferencesView:
    response.headers["ETag"] = _etag(estimate.version)
    return PreferencesView.of(estimate)


def _etag(version: str) -> str:
    return f'"{version}"'


def _versions(header: str) -> set[str]:
    """The versions in an If-None-Match header, which compares weakly."""
    return {part.strip().removeprefix("W/").strip('"') for part in header.split(",")}
