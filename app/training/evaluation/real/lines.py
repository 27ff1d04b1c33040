"""Reads the data sets' files (gzip, one JSON object a line) and says which line is wrong and why. Knows no data set."""

import gzip
import json
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.errors import InvalidInput


@dataclass(frozen=True)
class Line:
    """One object of a file; every reader of a field raises ``InvalidInput`` if the field is missing or ill-formed."""

    path: Path
    number: int
    row: Mapping[str, object]

    def fault(self, what: str) -> InvalidInput:
        """An error that names the line and what is wrong with it."""
        return InvalidInput(f"{self.path}, line {self.number}: {what}; mend the line or fetch the file again.")

    def text(self, field: str) -> str:
        """A non-empty string, or a whole number as one."""
        value = self.row.get(field)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if not isinstance(value, str) or not value.strip():
            raise self.fault(f"'{field}' must be a non-empty string, not {value!r}")
        return value

    def texts(self, field: str, count: int) -> list[str]:
        """Exactly ``count`` strings."""
        value = self.row.get(field)
        if not isinstance(value, list) or len(value) != count or not all(isinstance(one, str) for one in value):
            raise self.fault(f"'{field}' must be a list of {count} strings")
        return value

    def one_of(self, field: str, known: Collection[str]) -> str:
        """A string among ``known``."""
        value = self.text(field)
        if value not in known:
            some = ", ".join(sorted(known)[:5]) + (", …" if len(known) > 5 else "")
            raise self.fault(f"'{field}' is {value!r}, which is none of the known {some}")
        return value

    def numbers(self, field: str) -> dict[str, float]:
        """An object of finite numbers by name."""
        value = self.row.get(field)
        if not isinstance(value, dict):
            raise self.fault(f"'{field}' must be an object of numbers by name")
        for name, number in value.items():
            if isinstance(number, bool) or not isinstance(number, int | float) or not np.isfinite(number):
                raise self.fault(f"'{field}' has {number!r} for {name!r}, which is not a finite number")
        return {name: float(number) for name, number in value.items()}


def read_lines(path: Path) -> Iterator[Line]:
    """The lines of a file in order, blank ones left out.

    Raises:
        InvalidInput: If the file is missing or no gzip text, or names the first line that is not a JSON object.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for number, content in enumerate(file, start=1):
                if content.strip():
                    yield Line(path, number, _object(path, number, content))
    except FileNotFoundError as error:
        raise InvalidInput(f"There is no {path}; fetch the whole data set.") from error
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise InvalidInput(f"{path} cannot be read as gzip text ({error}); fetch the file again.") from error


def folder_of(data: Path, name: str, file: str) -> Path:
    """Folder of the data set ``name``: ``data`` itself if it holds ``file``, else the folder of that name inside it.

    Raises:
        InvalidInput: If ``file`` is in neither.
    """
    for folder in (data, data / name):
        if (folder / file).is_file():
            return folder
    raise InvalidInput(
        f"Neither {data} nor {data / name} holds {file}; pass the folder of '{name}' or the folder of all data sets."
    )


def _object(path: Path, number: int, content: str) -> Mapping[str, object]:
    try:
        row = json.loads(content)
    except json.JSONDecodeError as error:
        raise Line(path, number, {}).fault(f"not JSON ({error})") from error
    if not isinstance(row, dict):
        raise Line(path, number, {}).fault("not a JSON object")
    return row
