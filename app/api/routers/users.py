"""People: create, read, erase and export."""

from fastapi import APIRouter, Response

from app.api.dependencies import ServicesOf, UserIdPath
from app.api.responses import ExportView, ReceiptView, UserView
from app.api.schemas import PutUserBody
from app.services.put_user import UserChanges

router = APIRouter(prefix="/v1/users", tags=["users"])


@router.put("/{user_id}", responses={201: {"model": UserView}})
async def put_user(user_id: UserIdPath, body: PutUserBody, response: Response, services: ServicesOf) -> UserView:
    """Create a user (201), or change the fields sent (200)."""
    changes = UserChanges(frozenset(body.model_fields_set), body.about, body.consent, body.metadata)
    user, created = await services.put_user(user_id, changes)
    response.status_code = 201 if created else 200
    return UserView.of(user)


@router.get("/{user_id}")
async def get_user(user_id: UserIdPath, services: ServicesOf) -> UserView:
    """Read a user."""
    return UserView.of(await services.get_user(user_id))


@router.delete("/{user_id}")
async def delete_user(user_id: UserIdPath, services: ServicesOf) -> ReceiptView:
    """Erase a user and everything about them; the receipt counts what went."""
    return ReceiptView.of(await services.delete_user(user_id))


@router.get("/{user_id}/export")
async def export_user(user_id: UserIdPath, services: ServicesOf) -> ExportView:
    """Everything that is stored about a user."""
    return ExportView.of(await services.export_user(user_id))
