"""Take comparisons of any two texts, made outside a questionnaire."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from app.entities import Caller, Comparison, Conversation, Preferred
from app.errors import InvalidInput, UserNotFound
from app.ports import BasisRegistry, BeginUnitOfWork, Clock, Decoder
from app.services.identifiers import new_id, tenant_of


@dataclass(frozen=True)
class NewComparison:
    """A comparison as a caller sends it; ``at`` is when it was made, if not now."""

    user_id: str
    prompt: Conversation
    first: str
    second: str
    preferred: Preferred
    about: str | None = None
    at: datetime | None = None


@dataclass(frozen=True)
class RecordComparisons:
    """Score comparisons and store them, all of them or none."""

    begin: BeginUnitOfWork
    registry: BasisRegistry
    decoder: Decoder
    clock: Clock

    async def __call__(self, items: Sequence[NewComparison]) -> list[Comparison]:
        """The comparisons as stored; errors name the index of the item at fault in their ``field``."""
        await self._check_users(items)
        comparisons = [await self._score(index, item) for index, item in enumerate(items)]
        about = {item.user_id: item.about for item in items if item.about is not None}
        async with self.begin() as uow:
            for user_id in sorted({item.user_id for item in items}):
                user = await uow.users.get(user_id, for_update=True)
                if user_id in about:
                    await uow.users.change(replace(user, about=about[user_id], updated_at=self.clock()))
            await uow.preferences.add_comparisons(comparisons)
            await uow.commit()
        return comparisons

    async def _check_users(self, items: Sequence[NewComparison]) -> None:
        async with self.begin(read_only=True) as uow:
            for index, item in enumerate(items):
                try:
                    await uow.users.get(item.user_id)
                except UserNotFound as error:
                    error.field = f"comparisons.{index}.user_id"
                    raise

    async def _score(self, index: int, item: NewComparison) -> Comparison:
        try:
            rewards = await self.decoder.basis_rewards(
                item.prompt, [item.first, item.second], caller=Caller(tenant_of(item.user_id))
            )
        except InvalidInput as error:
            error.field = f"comparisons.{index}.{error.field or 'prompt'}"
            raise
        now = self.clock()
        return Comparison(
            id=new_id("cmp", now),
            user_id=item.user_id,
            prompt=item.prompt,
            first=item.first,
            second=item.second,
            preferred=item.preferred,
            basis_version=self.registry.basis.version,
            differences=tuple((rewards[0] - rewards[1]).tolist()),
            source="api",
            created_at=item.at or now,
        )
