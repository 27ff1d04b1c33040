"""Identifiers of everything the service creates: a prefix and a UUIDv7, so that they sort by time."""

import secrets
from datetime import UTC, datetime
from hashlib import sha256
from typing import Literal
from uuid import UUID

Prefix = Literal["qnr", "qst", "cmp", "adj", "gen"]


def new_id(prefix: Prefix, at: datetime) -> str:
    """A new identifier, such as ``cmp_019a9e2f5d0c7b3a8f0e6d5c4b3a2918`` (RFC 9562, section 5.7)."""
    milliseconds = int(at.timestamp() * 1000)
    value = (milliseconds << 80) | secrets.randbits(80)
    value = (value & ~(0xF << 76)) | (0x7 << 76)
    value = (value & ~(0x3 << 62)) | (0x2 << 62)
    return f"{prefix}_{UUID(int=value).hex}"


def time_of(identifier: str) -> datetime:
    """When an identifier of ``new_id`` was made, to the millisecond below."""
    milliseconds = UUID(identifier.partition("_")[2]).int >> 80
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def tenant_of(user_id: str | None) -> str:
    """The name under which a person's calls share an engine evenly with others'.

    The same in every process, so that several services share one engine fairly. It does not show who it is, yet whoever
    has a list of ids can compute theirs. All calls for nobody in particular are one tenant's.
    """
    return "" if user_id is None else sha256(f"tenant {user_id}".encode()).hexdigest()[:16]
