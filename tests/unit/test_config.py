import json

import pytest

from app.config import known_variables, load_settings
from app.errors import ConfigurationError

TOKEN = "a-token-of-some-length"


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in known_variables():
        monkeypatch.delenv(name, raising=False)


def test_the_embedded_default_on_loopback_needs_no_token() -> None:
    settings = load_settings()
    assert (settings.embedded, settings.auth_required, settings.token) == (True, False, None)


def test_an_unknown_variable_stops_the_start_with_the_nearest_known_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTUNE_ENGINE__BACKND", "scripted")
    with pytest.raises(ConfigurationError, match=r"ATTUNE_ENGINE__BACKND.*ATTUNE_ENGINE__BACKEND"):
        load_settings()


def test_variables_of_the_test_suite_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTUNE_TEST_POSTGRES_URL", "postgresql://nowhere")
    assert load_settings().embedded


def test_a_nested_variable_reaches_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTUNE_ENGINE__QUEUE_SIZE", "3")
    assert load_settings().engine.queue_size == 3


def test_a_wrong_value_names_its_variable_and_not_the_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTUNE_AUTH__TOKEN", "short")
    with pytest.raises(ConfigurationError, match="ATTUNE_AUTH__TOKEN") as caught:
        load_settings()
    assert "short" not in caught.value.message.replace("should", "")


@pytest.mark.parametrize(
    ("name", "value"), [("ATTUNE_HOST", "0.0.0.0"), ("ATTUNE_DATABASE_URL", "postgresql://db/attune")]
)
def test_beyond_the_embedded_loopback_a_token_is_needed(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match="set ATTUNE_AUTH__TOKEN"):
        load_settings()
    monkeypatch.setenv("ATTUNE_AUTH__TOKEN", TOKEN)
    assert load_settings().token == TOKEN


def test_authentication_cannot_be_switched_off_beyond_the_embedded_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTUNE_AUTH__REQUIRED", "false")
    monkeypatch.setenv("ATTUNE_AUTH__TOKEN", TOKEN)
    assert load_settings().token is None
    with pytest.raises(ConfigurationError, match="loopback"):
        load_settings(host="0.0.0.0")


def test_migrating_needs_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTUNE_DATABASE_URL", "postgresql://db/attune")
    assert load_settings(needs_token=False).database == "postgresql+psycopg://db/attune"


def test_a_database_of_another_kind_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTUNE_DATABASE_URL", "mysql://db/attune")
    with pytest.raises(ConfigurationError, match="ATTUNE_DATABASE_URL"):
        _ = load_settings(needs_token=False).database


def test_printed_settings_show_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTUNE_AUTH__TOKEN", TOKEN)
    monkeypatch.setenv("ATTUNE_DATABASE_URL", "postgresql://me:hunter2@db/attune")
    printed = json.dumps(load_settings().redacted())
    assert TOKEN not in printed
    assert "hunter2" not in printed
