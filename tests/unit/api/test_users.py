import httpx2
import pytest

pytestmark = pytest.mark.anyio


async def test_put_creates_with_201_then_changes_with_200(http: httpx2.AsyncClient) -> None:
    first = await http.put("/v1/users/put-1", json={"about": "a poet"})
    second = await http.put("/v1/users/put-1", json={"consent": False})
    assert (first.status_code, second.status_code) == (201, 200)
    assert second.json()["about"] == "a poet"


async def test_delete_gives_a_receipt_and_then_the_user_is_gone(http: httpx2.AsyncClient, user: str) -> None:
    receipt = (await http.delete(f"/v1/users/{user}")).json()
    assert receipt["rows"]["users"] == 1
    assert (await http.get(f"/v1/users/{user}")).status_code == 404


async def test_the_export_holds_answers_and_coefficients(http: httpx2.AsyncClient, user: str) -> None:
    item = {"user_id": user, "prompt": "hello", "first": "good day", "second": "hi", "preferred": "first"}
    await http.post("/v1/comparisons", json=item)
    export = (await http.get(f"/v1/users/{user}/export")).json()
    assert export["comparisons"][0]["first"] == "good day"
    assert len(export["preferences"]["coefficients"]) == len(export["covariance"]) == 4


async def test_preferences_have_every_field_of_the_contract(http: httpx2.AsyncClient, user: str) -> None:
    body = (await http.get(f"/v1/users/{user}/preferences")).json()
    assert set(body) == {"user_id", "basis_version", "coefficients", "certainty", "comparisons", "updated_at"}
    assert {"index", "label", "mean", "std", "population_mean"} <= set(body["coefficients"][0])


async def test_preferences_that_have_not_changed_are_304(http: httpx2.AsyncClient, user: str) -> None:
    path = f"/v1/users/{user}/preferences"
    etag = (await http.get(path)).headers["etag"]
    again = await http.get(path, headers={"If-None-Match": etag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)


async def test_preferences_that_have_changed_are_sent_again(http: httpx2.AsyncClient, user: str) -> None:
    path = f"/v1/users/{user}/preferences"
    etag = (await http.get(path)).headers["etag"]
    await http.post(f"{path}/reset")
    assert (await http.get(path, headers={"If-None-Match": etag})).status_code == 200


async def test_an_adjustment_needs_the_current_etag(http: httpx2.AsyncClient, user: str) -> None:
    path, change = f"/v1/users/{user}/preferences", {"adjustments": [{"index": 0, "delta": 0.5}]}
    etag = (await http.get(path)).headers["etag"]
    statuses = [
        (await http.patch(path, json=change)).status_code,
        (await http.patch(path, json=change, headers={"If-Match": etag})).status_code,
        (await http.patch(path, json=change, headers={"If-Match": etag})).status_code,
    ]
    assert statuses == [428, 200, 412]
