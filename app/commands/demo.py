"""``attune demo``: a person answers a short questionnaire in the terminal, then compares two answers.

Talks to the real API, of a service given by ``--url`` or of one started for the occasion.
"""

from contextlib import nullcontext
from typing import Annotated, Any, Literal
from uuid import uuid4

import httpx2
import typer
from rich.columns import Columns
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from app.commands.local_service import local_service

KEYS = {"1": "first", "2": "second", "t": "tie", "s": "skip"}
BAR = 12
DemoMode = Literal["best_of_n", "guided"]


def demo(
    questions: Annotated[int, typer.Option(min=1, max=40, help="Questions to answer at most.")] = 10,
    url: Annotated[str | None, typer.Option(help="A running service; without it one is started.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the answers shown at the end.")] = 7,
    mode: Annotated[DemoMode, typer.Option(help="How the personal answer is made.")] = "best_of_n",
) -> None:
    """Answer a few questions, then see a generic and a personal answer side by side.

    Example: attune demo --questions 8
    """
    console = Console()
    if url is None:
        console.print("[dim]Starting a service on this machine …[/dim]")
    with (
        local_service() if url is None else nullcontext(url) as address,
        httpx2.Client(base_url=address, timeout=60) as http,
    ):
        try:
            Demo(http, console, seed, mode).run(questions)
        except RequestRefused as refusal:
            console.print(Text(str(refusal), style="red"))
            raise typer.Exit(1) from None


class RequestRefused(Exception):
    """The service refused a request; the message is what it said."""


class Demo:
    """One person's walk through the questionnaire."""

    def __init__(self, http: httpx2.Client, console: Console, seed: int, mode: DemoMode) -> None:
        self.http, self.console, self.seed = http, console, seed
        self.options = {"mode": mode, "explain": "full"} | ({"n_candidates": 16} if mode == "best_of_n" else {})
        self.user_id = f"demo-{uuid4().hex[:8]}"
        self.ended = False

    def run(self, questions: int) -> None:
        """Questionnaire, then prompts until the person has seen enough."""
        self._call("PUT", f"/v1/users/{self.user_id}", {})
        state = self._call("POST", "/v1/questionnaires", {"user_id": self.user_id, "max_questions": questions})
        keys = "[b]1[/b] first · [b]2[/b] second · [b]t[/b] both alike · [b]s[/b] skip · [b]q[/b] enough"
        self.console.print(f"Which answer do you prefer?  {keys}\n")
        while state["question"]:
            preferred = self._ask(state["question"], state["progress"])
            if preferred is None:
                state = self._call("POST", f"/v1/questionnaires/{state['id']}/finish")
                break
            body = {"question_id": state["question"]["id"], "preferred": preferred}
            state = self._call("POST", f"/v1/questionnaires/{state['id']}/answers", body)
            self._show_estimate()
        self.console.print(f"\n[green]Done[/green] ({state['stop_reason']}).\n")
        while prompt := self._input("Ask something (empty line to leave): "):
            try:
                self._compare(prompt)
            except RequestRefused as refusal:
                self.console.print(Text(str(refusal), style="red"))

    def _ask(self, question: dict[str, Any], progress: dict[str, Any]) -> str | None:
        number, total = progress["answered"] + 1, progress["answered"] + progress["expected_remaining"]
        self.console.rule(f"question {number} of about {total}")
        self.console.print(Text(question["prompt"], style="bold"), "\n")
        self._side_by_side(("1", question["first"]), ("2", question["second"]))
        while (key := self._input("> ").lower()) not in KEYS:
            if key == "q" or self.ended:
                return None
            self.console.print("Type 1, 2, t, s or q.")
        return KEYS[key]

    def _show_estimate(self) -> None:
        known = self._call("GET", f"/v1/users/{self.user_id}/preferences")
        table = Table(box=None, padding=(0, 1), title=f"what the service believes (certainty {known['certainty']:.2f})")
        table.add_column("you prefer", justify="right")
        table.add_column("less ← → more")
        table.add_column("estimate", justify="right")
        for one in known["coefficients"]:
            table.add_row(one["label"], _bar(one["mean"], one["std"]), f"{one['mean']:+.2f} ± {one['std']:.2f}")
        self.console.print(table)

    def _compare(self, prompt: str) -> None:
        body = {"user_id": self.user_id, "prompt": prompt, "max_tokens": 96, "seed": self.seed}
        off = self._call("POST", "/v1/generations", body | {"personalization": {"mode": "off"}})
        mine = self._call("POST", "/v1/generations", body | {"personalization": self.options})
        self._side_by_side(("generic", off["text"]), ("yours", mine["text"]))
        chosen = mine["personalization"]
        reasons = sorted(chosen["explanation"], key=lambda one: -abs(one["contribution"]))[:3]
        why = ", ".join(f"{one['label']} {one['contribution']:+.2f}" for one in reasons)
        margin = _margin(chosen)
        how = f"Best of {chosen['n_candidates']}" if chosen["guidance"] is None else f"Guided by {chosen['guidance']}"
        self.console.print(f"[dim]{how}: {margin} ({why}).[/dim]\n")

    def _side_by_side(self, *texts: tuple[str, str]) -> None:
        width = max(30, self.console.width // len(texts) - 2)
        self.console.print(Columns([Panel(Text(text), title=title, width=width) for title, text in texts]))

    def _input(self, prompt: str) -> str:
        try:
            return self.console.input(prompt).strip()
        except EOFError:
            self.ended = True
            return ""

    def _call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        response = self.http.request(method, path, json=body)
        if response.is_error:
            raise RequestRefused(response.json().get("detail", response.text))
        result: dict[str, Any] = response.json()
        return result


def _margin(chosen: dict[str, Any]) -> str:
    """How much better than the generic answer the service believes the personal one to be, or why it does not say."""
    if chosen["margin_vs_generic"] is None:
        return str(chosen["note"])
    return f"{chosen['margin_vs_generic']:+.2f} log-odds over the generic answer"


def _bar(mean: float, std: float) -> str:
    """A bar from the middle: solid for the mean, dotted for one standard deviation beyond it."""
    cells = [" "] * (2 * BAR + 1)
    reach = max(-BAR, min(BAR, round(mean * BAR / 1.5)))
    beyond = max(-BAR, min(BAR, round((mean + (std if mean >= 0 else -std)) * BAR / 1.5)))
    for position in range(min(0, beyond), max(0, beyond) + 1):
        cells[BAR + position] = "·"
    for position in range(min(0, reach), max(0, reach) + 1):
        cells[BAR + position] = "█"
    cells[BAR] = "│"
    return "".join(cells)
