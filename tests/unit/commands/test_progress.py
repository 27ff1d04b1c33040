import io

from rich.console import Console

from app.commands.progress import steps


def shown(*, terminal: bool) -> str:
    stream = io.StringIO()
    with steps(Console(file=stream, force_terminal=terminal, width=120)) as progress:
        for done in range(1, 4):
            progress("features", done, 3)
        progress("heads", 7, 0)
    return stream.getvalue()


def test_elsewhere_than_on_a_terminal_every_step_is_one_line():
    lines = shown(terminal=False).splitlines()
    assert [line.split(" in ")[0] for line in lines] == ["features: 3 of 3", "heads: 7"]


def test_on_a_terminal_every_step_has_a_bar():
    text = shown(terminal=True)
    assert "features" in text
    assert "3/3" in text


def test_a_step_that_fails_is_still_reported():
    stream = io.StringIO()
    try:
        with steps(Console(file=stream, force_terminal=False)) as progress:
            progress("features", 1, 3)
            raise InterruptedError
    except InterruptedError:
        assert stream.getvalue().startswith("features: 1 of 3")


def test_nothing_to_do_says_nothing():
    stream = io.StringIO()
    with steps(Console(file=stream, force_terminal=False)):
        pass
    assert stream.getvalue() == ""
