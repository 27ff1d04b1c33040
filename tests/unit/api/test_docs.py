import re

import pytest

pytestmark = pytest.mark.anyio


async def test_the_documentation_page_needs_no_other_host(http):
    page = await http.get("/docs")
    assert page.status_code == 200
    assert not re.findall(r"(?:src|href)=\"https?://", page.text)


async def test_the_documentation_pages_script_is_served_here(http):
    page = await http.get("/docs")
    script = re.search(r"src=\"(/[^\"]+\.js)\"", page.text).group(1)
    served = await http.get(script)
    assert served.status_code == 200
    assert len(served.content) > 100_000
