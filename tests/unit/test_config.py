import json
from typing import get_args

import pytest

from app.config import QuestionSettings, known_variables, load_engine_settings, load_settings
from app.errors import ConfigurationError
from app.preferences.selection import RULES
from app.preferences.stopping import MINIMUM_CHANGE

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


def test_every_rule_of_choice_has_its_name_in_the_settings() -> None:
    assert get_args(QuestionSettings.model_fields["rule"].annotation) == RULES


def test_questionnaires_end_by_default_where_the_core_says() -> None:
    assert load_settings().questions.minimum_change == MINIMUM_CHANGE


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ATTUNE_QUESTIONS__RULE", "astrology"),
        ("ATTUNE_QUESTIONS__MINIMUM_CHANGE", "1.5"),
        ("ATTUNE_QUESTIONS__CANDIDATES", "1"),
        ("ATTUNE_PREFERENCES__HALF_LIFE_DAYS", "0"),
        ("ATTUNE_PREFERENCES__HALF_LIFE_DAYS", "nan"),
    ],
)
def test_a_setting_that_makes_no_sense_stops_the_start(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=name):
        load_settings()


def test_an_engine_has_a_port_of_its_own_unless_one_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (load_engine_settings().port, load_engine_settings(port=8000).port) == (8001, 8000)
    monkeypatch.setenv("ATTUNE_PORT", "9000")
    assert load_engine_settings().port == 9000


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "engine"])
def test_beyond_loopback_an_engine_needs_a_token(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    with pytest.raises(ConfigurationError, match="ATTUNE_ENGINE__TOKEN"):
        load_engine_settings(host=host)
    monkeypatch.setenv("ATTUNE_ENGINE__TOKEN", TOKEN)
    assert load_engine_settings(host=host).engine_token == TOKEN


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_on_loopback_an_engine_needs_no_token(host: str) -> None:
    assert load_engine_settings(host=host).engine_token is None


def test_an_engine_asks_for_no_token_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTUNE_DATABASE_URL", "postgresql://db/attune")
    assert load_engine_settings().auth_required


@pytest.mark.parametrize(
    "url", ["engine:8001", "unix:///run/engine", "http://", "http://:8001", "http://engine:port", "", "ftp://engine"]
)
def test_an_address_of_an_engine_that_is_none_stops_the_start(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("ATTUNE_ENGINE_URL", url)
    with pytest.raises(ConfigurationError, match="ATTUNE_ENGINE_URL"):
        load_settings()


def test_printed_settings_show_no_secret_of_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TOKEN", "UPSTREAM_KEY"):
        monkeypatch.setenv(f"ATTUNE_ENGINE__{name}", TOKEN)
    assert TOKEN not in json.dumps(load_settings().redacted())


@pytest.mark.parametrize("value", ["{bad", "tensor_parallel_size=2"])
def test_an_object_that_is_no_json_stops_the_start_by_its_name_alone(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("ATTUNE_ENGINE__VLLM", value)
    with pytest.raises(ConfigurationError, match="ATTUNE_ENGINE__VLLM") as caught:
        load_settings()
    assert value not in caught.value.message


@pytest.mark.parametrize("name", ["ATTUNE_ENGINE_URL", "ATTUNE_ENGINE__UPSTREAM_URL"])
def test_an_address_with_a_password_stops_the_start_without_showing_it(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "http://me:hunter2@engine:8001/v1")
    with pytest.raises(ConfigurationError, match=name) as caught:
        load_settings()
    assert "hunter2" not in caught.value.message


@pytest.mark.parametrize("name", ["ATTUNE_AUTH__TOKEN", "ATTUNE_ENGINE__TOKEN"])
@pytest.mark.parametrize("token", [TOKEN + "\n", TOKEN + " ", "a-t\u00f6ken-of-some-length"])
def test_a_token_that_no_header_can_hold_stops_the_start_by_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str, token: str
) -> None:
    monkeypatch.setenv(name, token)
    with pytest.raises(ConfigurationError, match=name) as caught:
        load_settings()
    assert token.strip() not in caught.value.message


def test_printed_settings_show_no_secret_among_the_arguments_of_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTUNE_ENGINE__VLLM", json.dumps({"hf_token": "hunter2", "max_model_len": 4096}))
    printed = json.dumps(load_settings().redacted())
    assert "hunter2" not in printed
    assert load_settings().engine.vllm["hf_token"] == "hunter2"
