"""The other side of ``benchmarks/vllm_side.py``: a vLLM engine in an environment and a process of its own."""

import json
import os
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.decode.endless import TEMPERATURE, TOP_P
from benchmarks.decode.turns import Taken

ROOT = Path(__file__).parent.parent.parent
PROGRAM = ROOT / "benchmarks" / "vllm_side.py"
PYTHON = ROOT / ".venv-vllm" / "bin" / "python"


class VllmMissing(RuntimeError):
    """Why vLLM cannot take part."""


class VllmSide:
    """Takes turns over standard input and output, a line of JSON each; started once."""

    def __init__(self, model_directory: Path, basis_directory: Path, *, dtype: str, log: Path) -> None:
        """Start it; raises ``VllmMissing`` where that cannot be, with the log's end."""
        for path, remedy in ((PYTHON, "run 'make test-vllm' once"), (PROGRAM, "restore it from its source")):
            if not path.exists():
                raise VllmMissing(f"{path} is missing; {remedy}")
        command = [str(PYTHON), str(PROGRAM), "--model", str(model_directory), "--basis", str(basis_directory)]
        self._log = log
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [*command, "--dtype", dtype],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        self._seed = 0

    def turn(self, kind: str, prompt_ids: Sequence[int], n: int, tokens: int) -> Taken:
        """One turn: "rewards", "plain" or "stock"; the processor time is that of all of vLLM's processes."""
        self._seed += 1
        sampling = {"temperature": TEMPERATURE, "top_p": TOP_P, "seed": self._seed}
        asked = {"turn": kind, "n": n, "tokens": tokens, "prompt_ids": list(prompt_ids), **sampling}
        answer = self._exchange(asked)
        return Taken(float(answer["cpu_seconds"]), float(answer["seconds"]), int(answer["tokens"]))

    def close(self) -> None:
        """End the process."""
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):  # it ended before it read all
                self._process.stdin.close()
        try:
            self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _exchange(self, asked: dict[str, Any]) -> dict[str, Any]:
        if self._process.stdin is None or self._process.stdout is None:
            raise VllmMissing("its pipes are closed")
        try:
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise VllmMissing(f"it ended: {self._last_words()}") from error
        for line in self._process.stdout:
            if line.startswith("{"):
                answer: dict[str, Any] = json.loads(line)
                if "cpu_seconds" in answer:
                    return answer
                if "error" in answer:
                    raise VllmMissing(f"it failed: {answer['error']}")
        raise VllmMissing(f"it ended: {self._last_words()}")

    def _last_words(self) -> str:
        return self._log.read_text(errors="replace")[-1500:]
