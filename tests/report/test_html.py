"""The HTML report in a real browser: it opens, answers clicks, and asks nobody for anything."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from imslab.report.html import write_html
from imslab.report.ladder import build
from imslab.report.summary import summarise
from imslab.rules.clauses import Finding, Level
from imslab.trace.model import Role
from tests.report.build import CK, IK, XRES, trace
from tests.require import require_program

FINDINGS = [Finding("CHL-10", "33.203 6.1.1", Level.VIOLATION, Role.PCSCF, (6,), "the 401 <b>still</b> carries ck")]


def page(show_keys: bool = False) -> str:
    ladder = build(trace())
    return write_html(summarise(trace(), FINDINGS), ladder, title="a <title>", footer="imslab", show_keys=show_keys)


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    chromium, driver = require_program("chromium"), require_program("chromedriver")
    options = Options()
    options.binary_location = chromium
    for argument in (
        "--headless=new",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        *(["--no-sandbox"] if os.geteuid() == 0 else []),
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    opened = webdriver.Chrome(options, Service(driver))
    yield opened
    opened.quit()


def test_no_key_is_in_the_page_unless_asked_for() -> None:
    for key in (CK, IK, XRES.hex()):
        assert key not in page()
        assert key in page(show_keys=True)


def test_what_peers_wrote_is_text_and_nothing_else() -> None:
    text = page()
    assert "<script>alert" not in text
    assert "X: &lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "the 401 &lt;b&gt;still&lt;/b&gt; carries ck" in text
    assert "\x1b" not in text


def test_it_names_nothing_that_would_have_to_be_fetched() -> None:
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!data:)""", page())
    assert not re.search(r"@import|url\(", page())
    assert "default-src 'none'" in page()


def test_a_browser_shows_it_and_follows_clicks(browser: webdriver.Chrome, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(page())
    browser.get_log("performance")
    browser.get(path.as_uri())
    assert browser.find_element(By.ID, "verdict").text == "inconclusive"
    rows = browser.find_elements(By.CSS_SELECTOR, ".row")
    assert len(rows) == 9
    shown = [each for each in browser.find_elements(By.CSS_SELECTOR, ".message") if each.is_displayed()]
    assert shown == []

    rows[3].click()
    (message,) = [each for each in browser.find_elements(By.CSS_SELECTOR, ".message") if each.is_displayed()]
    assert "MAA command 303" in message.text
    assert "Confidentiality-Key: <masked>" in message.text

    browser.find_element(By.CSS_SELECTOR, "#findings .finding").click()
    (message,) = [each for each in browser.find_elements(By.CSS_SELECTOR, ".message") if each.is_displayed()]
    assert message.text.startswith("frame 6: 401 REGISTER, P-CSCF → UE 192.0.2.2")

    errors = [each for each in browser.get_log("browser") if each["level"] == "SEVERE"]
    assert errors == []
    wanted = re.findall(
        r'"url":"((?!data:)[^"]+)"', "".join(each["message"] for each in browser.get_log("performance"))
    )
    assert {url for url in wanted if not url.startswith("file:")} <= {""}
    shutil.rmtree(tmp_path)
