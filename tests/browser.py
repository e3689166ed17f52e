"""A real browser, and the page in it as a person meets it: nothing is asked of the page but what can be seen."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from tests.conftest import missing

WITHIN_S = 60
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # which does not work for root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass(frozen=True, kw_only=True)
class Page:
    driver: webdriver.Chrome
    url: str

    def open(self, fragment: str = "") -> None:
        self.driver.get("about:blank")
        self.driver.get(f"{self.url}/{fragment}")

    def choose(self, file: Path) -> None:
        self.driver.find_element(By.ID, "file").send_keys(str(file))

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        return self.one(selector).text

    def texts(self, selector: str) -> list[str]:
        return [element.text for element in self.all(selector)]

    def value(self, expression: str) -> Any:
        return self.driver.execute_script(f"return {expression}")

    def until(self, true: Any) -> None:
        WebDriverWait(self.driver, WITHIN_S, poll_frequency=0.05).until(lambda _: true())

    def until_state(self, state: str) -> None:
        self.until(lambda: self.text("#state") == state)

    def until_result(self) -> None:
        self.until(lambda: self.one("#result").is_displayed())

    def job_id(self) -> str:
        self.until(lambda: "#an_" in self.driver.current_url)
        return self.driver.current_url.partition("#")[2]


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    browser, service = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if browser is None or service is None:
        missing("no browser: install Debian's chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}", "--window-size=1280,1000"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options=options, service=webdriver.ChromeService(service)) as driver:
        yield driver


@contextmanager
def opened(driver: webdriver.Chrome, url: str) -> Iterator[Page]:
    """The page at `url`, which must have nothing to complain of until the block ends."""
    page = Page(driver=driver, url=url)
    page.open()
    yield page
    complaints = [entry["message"] for entry in driver.get_log("browser") if entry["source"] != "network"]
    assert complaints == [], "a broken policy or an error in the script"
