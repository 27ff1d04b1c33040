import gzip

import pytest

from app.errors import InvalidInput
from app.training.evaluation.real.lines import read_lines
from tests.unit.training.real.conftest import write_lines


@pytest.mark.parametrize(("line", "fault"), [("[1, 2]", "not a JSON object"), ('{"a": ', "not JSON")])
def test_a_line_that_is_no_object_is_named(tmp_path, line, fault):
    write_lines(tmp_path / "rows.gz", ['{"a": 1}', line])
    with pytest.raises(InvalidInput, match=f"line 2: {fault}"):
        list(read_lines(tmp_path / "rows.gz"))


def test_a_file_that_is_not_compressed_is_refused(tmp_path):
    (tmp_path / "rows.gz").write_text('{"a": 1}')
    with pytest.raises(InvalidInput, match="cannot be read as gzip"):
        list(read_lines(tmp_path / "rows.gz"))


def test_a_file_cut_off_is_refused(tmp_path):
    whole = gzip.compress(b'{"a": 1}\n' * 500)
    (tmp_path / "rows.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidInput, match="cannot be read as gzip"):
        list(read_lines(tmp_path / "rows.gz"))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InvalidInput, match=r"There is no .*rows\.gz"):
        list(read_lines(tmp_path / "rows.gz"))
