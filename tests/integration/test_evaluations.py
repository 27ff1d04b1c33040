import json

import pytest
from typer.testing import CliRunner

from app.commands import evaluate
from app.errors import InvalidInput
from app.training.evaluation import attributes, attune_method
from app.training.evaluation.attune_method import AttuneMethod, Options
from app.training.evaluation.baselines import chosen_baselines
from app.training.evaluation.campaign import SHUFFLED_EVERYTHING, SWAPPED, run_campaign
from app.training.evaluation.problems import draws, read_test_users
from tests.unit.training.evaluation.small import draw_problem

PLAIN = Options(family="gaussian", calibrated=False)


@pytest.fixture(scope="module")
def campaign():
    """People with tastes of their own around a common one."""
    problem = draw_problem(people=24, training_people=30, counts=(0, 12))
    method = AttuneMethod(options=PLAIN)
    return run_campaign("small", lambda seed: problem, (0,), [method], progress=lambda step: None)


def level(campaign, name, count):
    return campaign.figures({**campaign.methods, **campaign.controls}[name])["accuracy"][count].mean


def test_answers_lift_people_above_their_population(campaign):
    assert campaign.difference("attune", "population", "accuracy", 12).low > 0.0


def test_another_persons_answers_lose_the_gain(campaign):
    assert campaign.difference(SWAPPED, "attune", "accuracy", 12).high < 0.0


def test_with_shuffled_people_accuracy_returns_to_the_population(campaign):
    assert level(campaign, SHUFFLED_EVERYTHING, 12) == pytest.approx(level(campaign, "attune", 0), abs=0.05)


@pytest.mark.parametrize("name", ["attributes", "twin2", "personalllm", "jester5k"])
def test_every_evaluation_explains_itself(name):
    assert "Usage" in CliRunner().invoke(evaluate.app, [name, "--help"]).output


def test_the_command_writes_figures_and_plots(tmp_path, monkeypatch):
    for name, value in {"POOL_PAIRS": 20, "TEST_PAIRS": 40, "COUNTS": (0, 2)}.items():
        monkeypatch.setattr(attributes, name, value)
    monkeypatch.setattr(attune_method, "AttuneMethod", lambda options: AttuneMethod(options=PLAIN))
    out = tmp_path / "attributes.json"
    options = ["--seeds", "1", "--methods", "uniform", "--no-controls", "--json", str(out), "--plots", str(tmp_path)]
    result = CliRunner().invoke(evaluate.app, ["attributes", *options], catch_exceptions=False)
    assert result.exit_code == 0
    assert set(json.loads(out.read_text())["methods"]) == {"attune", "uniform"}
    assert (tmp_path / "attributes.png").exists()


def test_real_people_need_a_folder():
    with pytest.raises(InvalidInput, match="pass --data"):
        draws("jester5k", None, None)


def test_simulated_people_cannot_be_named():
    with pytest.raises(InvalidInput, match="leave out --test-users"):
        draws("attributes", None, frozenset({"a"}))


def test_an_unknown_evaluation_is_refused():
    with pytest.raises(InvalidInput, match="no evaluation 'jester'"):
        draws("jester", None, None)


def test_an_unknown_baseline_is_refused():
    with pytest.raises(InvalidInput, match="no baseline 'prefs'"):
        chosen_baselines("prefs", print)


def test_without_a_checkout_only_attune_runs(monkeypatch):
    notices = []
    monkeypatch.setattr("app.training.evaluation.baselines.MODULE", "benchmarks.elsewhere")
    assert chosen_baselines(None, notices.append) == []
    assert "only attune's own method" in notices[0]


def test_test_users_are_read_one_a_line(tmp_path):
    path = tmp_path / "ids.txt"
    path.write_bytes("\ufeffann\r\n\r\nbob \n".encode())
    assert read_test_users(path) == frozenset({"ann", "bob"})


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe\xff"])
def test_a_file_of_test_users_that_names_nobody_is_refused(tmp_path, content):
    path = tmp_path / "ids.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidInput, match=r"ids\.txt"):
        read_test_users(path)
