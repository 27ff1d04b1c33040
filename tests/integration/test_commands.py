"""The commands that talk to the real API, against services of their own."""

import os
import subprocess
import sys

import httpx2
import pytest

from app.commands.local_service import local_service
from app.errors import ConfigurationError
from app.training.journey import ARMS, Journey, JourneyOptions
from app.training.properties import PropertyScale
from app.training.report import journey_json, journey_table, plot_journey

TEXTS = ["A plain sentence.", "Do you like it? I do!", "- one\n- two\n- three", "Perhaps it might be 3 or 4 degrees."]


@pytest.fixture(scope="module")
def scripted():
    with local_service(ATTUNE_ENGINE__BACKEND="scripted") as address:
        yield address


def attune(*arguments, stdin=""):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ATTUNE_")}
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment | {"COLUMNS": "120"},
    )


def test_a_person_goes_through_the_demo(scripted):
    done = attune("demo", "--questions", "3", "--url", scripted, stdin="1\n2\nt\nHow do I sleep well?\n\n")
    assert done.returncode == 0, done.stderr
    assert "question 3" in done.stdout
    assert "certainty" in done.stdout
    assert "generic" in done.stdout
    assert "yours" in done.stdout


def test_a_person_may_leave_the_demo_early(scripted):
    done = attune("demo", "--url", scripted, stdin="1\nq\n\n")
    assert done.returncode == 0, done.stderr
    assert "finished_by_caller" in done.stdout


@pytest.fixture(scope="module")
def result(scripted):
    options = JourneyOptions(people=3, prompts_each=2, n_candidates=4, max_tokens=24, counts=(0, 2, 4))
    with httpx2.Client(base_url=scripted, timeout=60) as client:
        journey = Journey(client, PropertyScale.of(TEXTS), ["How are you?", "Why is it late?", "What now?"], options)
        return options, journey.run(lambda: None)


def test_a_journey_scores_every_person_at_every_stage_in_every_arm(result):
    options, found = result
    assert {arm: {count: len(rates) for count, rates in rows.items()} for arm, rows in found.wins.items()} == {
        arm: dict.fromkeys(options.counts, 3) for arm in ARMS
    }


def test_before_any_answer_everyone_gets_the_populations_choice(result):
    _, found = result
    assert found.wins["personal"][0] == found.wins["shuffled"][0] == found.wins["swapped"][0]


def test_the_hidden_taste_is_never_beaten_by_the_service(result):
    _, found = result
    assert sum(found.oracle) >= max(sum(rates) for rates in found.wins["personal"].values()) - 1e-9


def test_a_journey_is_reported_as_table_json_and_plot(result, tmp_path):
    options, found = result
    plot_journey(found, tmp_path / "journey.png")
    assert (tmp_path / "journey.png").stat().st_size > 5000
    assert "own answers" in journey_table(found)
    assert '"win_rate"' in journey_json(found, options)


def test_a_service_that_cannot_start_says_why():
    with pytest.raises(ConfigurationError, match="ATTUNE_NONSENSE"), local_service(ATTUNE_NONSENSE="1"):
        pass


@pytest.mark.parametrize(
    "command", ["serve", "migrate", "demo", "basis fit", "pool build", "evaluate journey", "model train"]
)
def test_every_command_has_help_with_an_example(command):
    done = attune(*command.split(), "--help")
    assert done.returncode == 0
    assert "Example" in done.stdout
