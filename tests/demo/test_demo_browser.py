"""A person at the demo: log in, fill the cart, meet a restarted server, log out."""

from __future__ import annotations

import json

from demo_process import DemoProcess
from selenium.common.exceptions import WebDriverException
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

COOKIE = "session"


def find(browser: Chrome, element: str) -> WebElement:
    return browser.find_element(By.ID, element)


def press(browser: Chrome, button: WebElement) -> None:
    """Press a button that sends a form, and wait until the next page is all there."""
    browser.execute_script("window.before = true")
    button.click()
    arrived = "return !window.before && document.readyState === 'complete'"
    wait = WebDriverWait(browser, 20, 0.05, ignored_exceptions=[WebDriverException])
    wait.until(lambda browser: browser.execute_script(arrived))


def log_in(browser: Chrome, name: str) -> None:
    find(browser, "name").send_keys(name)
    press(browser, find(browser, "login"))


def add(browser: Chrome, item: str) -> None:
    find(browser, "item").send_keys(item)
    press(browser, find(browser, "add"))


def cart(browser: Chrome) -> dict[str, int]:
    return {
        line.find_element(By.CLASS_NAME, "item").text: int(
            line.find_element(By.CLASS_NAME, "quantity").text.split()[-1]
        )
        for line in browser.find_elements(By.CSS_SELECTOR, "#cart li")
    }


def stored(browser: Chrome) -> str:
    """The record as the page shows it, whether that part is folded or not."""
    return find(browser, "raw").get_attribute("textContent") or ""


def test_a_session_survives_a_restart_and_ends_with_log_out(
    browser: Chrome, demo: DemoProcess
) -> None:
    assert find(browser, "nothing").is_displayed()
    assert browser.get_cookies() == []

    log_in(browser, "Ada")
    assert find(browser, "greeting").text == "Good to see you, Ada"
    assert find(browser, "visits").text == "1"
    for item in ("Blue teapot", "Oat milk", "Blue teapot"):
        add(browser, item)
    assert cart(browser) == {"Blue teapot": 2, "Oat milk": 1}
    press(browser, browser.find_element(By.CSS_SELECTOR, "[aria-label='One less: Oat milk']"))
    assert cart(browser) == {"Blue teapot": 2}
    assert find(browser, "visits").text == "5"
    cookie = browser.get_cookie(COOKIE)
    assert cookie is not None

    demo.restart()
    browser.get(demo.url)
    assert find(browser, "greeting").text == "Good to see you, Ada"
    assert find(browser, "visits").text == "6"
    assert cart(browser) == {"Blue teapot": 2}

    press(browser, find(browser, "logout"))
    assert find(browser, "nothing").is_displayed()
    assert find(browser, "name").is_displayed()
    assert browser.get_cookies() == []

    browser.add_cookie({"name": COOKIE, "value": cookie["value"]})
    browser.get(demo.url)
    assert find(browser, "nothing").is_displayed(), "the old id must not open anything"


def test_the_panel_shows_the_record_of_this_very_visit(browser: Chrome) -> None:
    log_in(browser, "Ada")
    add(browser, "Blue teapot")

    record = json.loads(stored(browser))
    assert record["name"] == "Ada"
    assert record["visits"] == 2
    assert [(line["item"], line["quantity"]) for line in record["cart"]] == [("Blue teapot", 1)]
    tags = {
        tag.text: tag.find_element(By.XPATH, "following-sibling::i[1]").text
        for tag in browser.find_elements(By.CSS_SELECTOR, "#record .tag")
    }
    assert tags == {
        '" m"': "Markup",
        '" u"': "UUID",
        '" b"': "bytes",
        '" d"': "datetime",
        '" t"': "tuple",
    }


def test_the_session_id_is_in_the_cookie_and_nowhere_on_the_page(browser: Chrome) -> None:
    log_in(browser, "Ada")
    cookie = browser.get_cookie(COOKIE)
    assert cookie is not None
    assert cookie["httpOnly"]
    assert len(cookie["value"]) == 43
    assert cookie["value"] not in browser.page_source


def test_what_a_person_types_stays_text(browser: Chrome) -> None:
    script = "<img src=x onerror=alert(1)>"
    log_in(browser, script)
    add(browser, script)
    assert find(browser, "greeting").text == f"Good to see you, {script}"
    assert cart(browser) == {script: 1}
    assert script in find(browser, "record").text
    assert browser.find_elements(By.TAG_NAME, "img") == []
