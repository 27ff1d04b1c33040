from datetime import UTC, datetime, timedelta
from uuid import UUID

from app.services.identifiers import new_id, time_of

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def test_an_identifier_is_a_prefixed_uuid_of_version_seven() -> None:
    prefix, value = new_id("cmp", NOW).split("_")
    assert (prefix, UUID(value).version) == ("cmp", 7)


def test_identifiers_sort_by_time() -> None:
    made = [new_id("qst", NOW + timedelta(milliseconds=step)) for step in range(50)]
    assert made == sorted(made)


def test_identifiers_of_one_moment_differ() -> None:
    assert len({new_id("gen", NOW) for _ in range(100)}) == 100


def test_an_identifier_tells_when_it_was_made() -> None:
    assert time_of(new_id("cmp", NOW + timedelta(milliseconds=7))) == NOW + timedelta(milliseconds=7)
