import re
from html.parser import HTMLParser

import httpx2
import pytest

from tests.support.api import calling, make_app, memory_store


class Page(HTMLParser):
    """What a page loads, and the text of the scripts that stand in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.attributes: set[str] = set()
        self.inline: list[str] = []
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open = tag
        self.attributes |= {name for name, _ in attrs}
        if tag in ("script", "link", "img"):
            self.addresses += [value for name, value in attrs if name in ("src", "href") and value]

    def handle_data(self, data: str) -> None:
        if self._open in ("script", "style") and data.strip():
            self.inline.append(data)


async def fetch(path: str) -> httpx2.Response:
    async with calling(make_app(memory_store())) as api:
        return await api.get(path)


def policy_of(response: httpx2.Response) -> dict[str, list[str]]:
    """The content security policy: what each kind of thing may come from."""
    rules = (rule.split() for rule in response.headers["content-security-policy"].split(";"))
    return {name: sources for name, *sources in rules}


async def test_the_page_loads_everything_from_this_server() -> None:
    page = Page((await fetch("/docs")).text)
    loaded = [address for address in page.addresses if address != "data:,"]
    assert len(loaded) == 3
    for address in loaded:
        assert not re.match(r"(\w+:)?//", address)
        file = await fetch(f"/{address}")
        assert file.status_code == 200
        assert file.headers["content-type"].startswith(("text/javascript", "text/css"))
        assert file.content


async def test_the_page_shows_the_document_of_this_server() -> None:
    script = (await fetch("/docs/reference.js")).text
    assert 'url: "openapi.json"' in script
    assert (await fetch("/openapi.json")).json()["openapi"].startswith("3.1")


async def test_the_policy_of_the_page_allows_no_script_but_files_of_this_server() -> None:
    response = await fetch("/docs")
    policy = policy_of(response)
    assert policy["default-src"] == ["'none'"]
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == ["'self'"]
    assert policy["frame-ancestors"] == ["'none'"]
    page = Page(response.text)
    assert page.inline == []
    assert [name for name in page.attributes if name.startswith("on") or name == "style"] == []


@pytest.mark.parametrize("path", ["/docs", "/docs/reference.js", "/docs/swagger-ui-bundle.js"])
async def test_a_file_of_the_page_is_taken_for_nothing_else_and_asked_for_again(path: str) -> None:
    response = await fetch(path)
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["etag"]


@pytest.mark.parametrize("path", ["/docs/", "/docs/../app.py", "/docs/%2e%2e/app.py", "/docs/favicon.png"])
async def test_nothing_else_is_served_beside_the_page(path: str) -> None:
    response = await fetch(path)
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"


async def test_the_page_changes_nothing_about_other_answers() -> None:
    response = await fetch("/healthz")
    policies = [
        answer.headers.get_list("content-security-policy") for answer in (response, await fetch("/docs"))
    ]
    assert [len(each) for each in policies] == [1, 1]
    assert policies[0] != policies[1]
    assert not any(path.startswith("/docs") for path in (await fetch("/openapi.json")).json()["paths"])
