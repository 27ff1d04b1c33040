"""Comparisons of any two texts."""

from fastapi import APIRouter

from app.api.dependencies import ServicesOf
from app.api.responses import ComparisonsView
from app.api.schemas import OneOrManyComparisons
from app.services.record_comparisons import NewComparison

router = APIRouter(prefix="/v1/comparisons", tags=["comparisons"])


@router.post("", status_code=201)
async def record_comparisons(body: OneOrManyComparisons, services: ServicesOf) -> ComparisonsView:
    """Store one comparison, a list, or an object with ``comparisons``: all of them or none."""
    items = [
        NewComparison(
            user_id=item.user_id,
            prompt=item.conversation(f"comparisons.{index}."),
            first=item.first,
            second=item.second,
            preferred=item.preferred,
            about=item.about,
            at=item.at,
        )
        for index, item in enumerate(body.root.comparisons)
    ]
    return ComparisonsView.of(await services.record_comparisons(items))
