import httpx2
import pytest
from fastapi import FastAPI

from app.errors import EngineOverloaded

pytestmark = pytest.mark.anyio


async def start(http: httpx2.AsyncClient, user: str, **options: object) -> dict[str, object]:
    response = await http.post("/v1/questionnaires", json={"user_id": user, **options})
    assert response.status_code == 201
    assert response.headers["location"] == f"/v1/questionnaires/{response.json()['id']}"
    return response.json()


async def answer(http: httpx2.AsyncClient, state: dict, preferred: str) -> httpx2.Response:
    body = {"question_id": state["question"]["id"], "preferred": preferred, "latency_ms": 1200}
    return await http.post(f"/v1/questionnaires/{state['id']}/answers", json=body)


async def test_a_questionnaire_has_every_field_of_the_contract(http: httpx2.AsyncClient, user: str) -> None:
    state = await start(http, user)
    assert set(state) == {"id", "user_id", "status", "stop_reason", "progress", "question", "questions"}
    assert set(state["progress"]) == {"answered", "expected_remaining", "certainty"}
    assert set(state["question"]) == {"id", "prompt", "first", "second", "expected_information_bits"}


async def test_answering_every_question_ends_the_questionnaire(http: httpx2.AsyncClient, user: str) -> None:
    state = await start(http, user, max_questions=4)
    for preferred in ["first", "second", "tie", "skip"]:
        state = (await answer(http, state, preferred)).json()
    assert (state["status"], state["stop_reason"], state["question"]) == ("complete", "max_questions", None)
    preferences = (await http.get(f"/v1/users/{user}/preferences")).json()
    assert preferences["comparisons"] == 3


async def test_the_current_question_stays_until_it_is_answered(http: httpx2.AsyncClient, user: str) -> None:
    state = await start(http, user)
    path = f"/v1/questionnaires/{state['id']}"
    assert (await http.get(path)).json() == (await http.get(path)).json() == state


async def test_the_same_answer_twice_is_harmless_and_another_is_a_conflict(http: httpx2.AsyncClient, user: str) -> None:
    state = await start(http, user)
    once, twice, other = [await answer(http, state, given) for given in ("first", "first", "second")]
    assert (once.status_code, twice.status_code, other.status_code) == (200, 200, 409)
    assert twice.json() == once.json()
    assert (other.json()["code"], other.headers["x-should-retry"]) == ("question_already_answered", "false")


async def test_finishing_early_is_told_in_the_metrics(http: httpx2.AsyncClient, user: str) -> None:
    counter = 'attune_questionnaire_outcomes_total{stop_reason="finished_by_caller"}'

    async def finished() -> float:
        lines = (await http.get("/metrics")).text.splitlines()
        return next(float(line.split()[-1]) for line in lines if line.startswith(counter))

    before, state = await finished(), await start(http, user)
    for _ in range(2):
        await http.post(f"/v1/questionnaires/{state['id']}/finish")
    assert await finished() == before + 1


async def test_a_batch_comes_at_once_and_its_first_question_is_the_question(
    http: httpx2.AsyncClient, user: str
) -> None:
    state = await start(http, user, batch_size=3)
    assert (len(state["questions"]), state["questions"][0]) == (3, state["question"])
    last = {"question_id": state["questions"][2]["id"], "preferred": "first"}
    following = (await http.post(f"/v1/questionnaires/{state['id']}/answers", json=last)).json()
    assert following["questions"] == state["questions"][:2]


async def test_a_generated_question_asks_about_the_caller_s_prompt(http: httpx2.AsyncClient, user: str) -> None:
    state = await start(http, user, source="generated", prompts=["What is rain?"])
    assert state["question"]["prompt"] == "What is rain?"


async def test_an_answer_whose_next_question_waits_for_the_engine_may_be_sent_again(
    http: httpx2.AsyncClient, app: FastAPI, user: str
) -> None:
    state = await start(http, user, source="generated")
    app.state.services.answer_question.decoder.fail_next(EngineOverloaded(3))
    refused, again = [await answer(http, state, "first") for _ in range(2)]
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
    assert (again.status_code, again.json()["progress"]["answered"]) == (200, 1)


async def test_a_questionnaire_whose_next_question_waits_for_the_engine_may_be_continued(
    http: httpx2.AsyncClient, app: FastAPI, user: str
) -> None:
    state = await start(http, user, source="generated")
    app.state.services.answer_question.decoder.fail_next(EngineOverloaded(3))
    await answer(http, state, "first")
    once, again = [await http.post(f"/v1/questionnaires/{state['id']}/next") for _ in range(2)]
    assert (once.status_code, len(once.json()["questions"])) == (200, 1)
    assert again.json() == once.json()


async def test_nothing_is_asked_where_no_answer_would_change_what_is_served(
    http: httpx2.AsyncClient, user: str
) -> None:
    sure = {"adjustments": [{"index": 0, "delta": 100}]}
    await http.patch(f"/v1/users/{user}/preferences", json=sure, headers={"If-Match": "*"})
    state = await start(http, user)
    assert (state["status"], state["stop_reason"], state["question"]) == ("complete", "low_information", None)


async def test_what_is_too_long_is_told_with_the_limit(http: httpx2.AsyncClient, user: str) -> None:
    refused = await http.put(f"/v1/users/{user}", json={"about": "x" * 4001})
    assert "4000" in refused.json()["detail"]


async def test_what_a_person_writes_of_themselves_changes_the_etag(http: httpx2.AsyncClient, user: str) -> None:
    path = f"/v1/users/{user}/preferences"
    before = (await http.get(path)).headers["etag"]
    await http.put(f"/v1/users/{user}", json={"about": "a poet"})
    assert (await http.get(path)).headers["etag"] != before
