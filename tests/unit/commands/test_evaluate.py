import pytest
from typer.testing import CliRunner

from app.commands.evaluate import app, prepare
from app.errors import InvalidInput


def test_folders_of_results_are_made(tmp_path):
    prepare(tmp_path / "new" / "out.json", tmp_path / "plots")
    assert (tmp_path / "new").is_dir()
    assert (tmp_path / "plots").is_dir()


def test_nothing_is_left_behind_where_results_will_be(tmp_path):
    prepare(tmp_path / "out.json", tmp_path / "plots")
    assert not (tmp_path / "out.json").exists()
    assert not list((tmp_path / "plots").iterdir())


def test_results_of_before_stay_until_there_are_new_ones(tmp_path):
    (tmp_path / "out.json").write_text("old")
    prepare(tmp_path / "out.json", None)
    assert (tmp_path / "out.json").read_text() == "old"


@pytest.mark.parametrize("command", ["attributes", "journey"])
@pytest.mark.parametrize("option", ["--json", "--plots"])
def test_a_destination_that_cannot_be_is_refused_at_once(tmp_path, command, option):
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match=r"Cannot write there: .*file.*; choose another"):
        CliRunner().invoke(app, [command, option, str(tmp_path / "file" / "below")], catch_exceptions=False)


@pytest.mark.parametrize(("option", "fault"), [("--basis", "no basis method 'none'"), ("--family", "no family")])
def test_an_ablation_that_does_not_exist_is_refused(option, fault):
    with pytest.raises(InvalidInput, match=fault):
        CliRunner().invoke(app, ["attributes", option, "none"], catch_exceptions=False)
