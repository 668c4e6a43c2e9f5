import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from invdiff.errors import InputError
from invdiff.posterior import Posterior
from invdiff.random import generator
from invdiff.report.html import html_report


def example(slices: int = 3, size: int = 24, draws: int = 4) -> Posterior:
    rng = generator(0)
    base = torch.zeros(slices, 1, size, size)
    for k in range(slices):
        base[k, 0, 4 : 12 + k, 6:18] = 1.0 + k
    x = base + 0.2 * torch.randn(draws, slices, 1, size, size, generator=rng)
    posterior = Posterior.from_draws(
        x,
        coords={"problem": ("problem", np.arange(slices) + 40)},
        attrs={"sampler": "dds", "seed": 3, "input": "<head>.nii.gz", "operator": "ParallelCT[...]", "options": "{}"},
        diagnostics={"warnings": ["the draws miss the data: chi2 is 2 times its expectation"], "chi2_ratio": 2.0},
        batched=True,
    )
    posterior.draws.attrs["units"] = "HU"
    variance = posterior.draws.var("draw") * 0.5
    posterior.dataset["trajectory_variance"] = variance
    misfit = np.abs(torch.randn(slices, 7, 20, generator=rng).numpy())
    posterior.dataset["misfit"] = xr.DataArray(misfit, dims=("problem", "datum_0", "datum_1"))
    posterior.diagnostics["rows"] = [{"method": "dds", "slice": "mean", "psnr": 30.1, "ssim": 0.9, "coverage90": None}]
    return posterior


def pictures(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert found
    content: dict[str, Any] = json.loads(found[1])
    return content


def test_page_holds_everything_and_asks_for_nothing(tmp_path: Path) -> None:
    page = html_report(example(), tmp_path / "r.html").read_text(encoding="utf-8")
    held = pictures(page)
    assert len(held["mean"]) == 3 and len(held["draws"]) == 4 and len(held["draws"][0]) == 3
    assert set(held["spread"]) == {
        "standard deviation", "half width of the 90 % interval", "wavering of the last steps (hallucination map)",
    }  # fmt: skip
    assert held["labels"] == ["slice 40", "slice 41", "slice 42"]
    assert not re.search(r"\$[a-z_]", page) and "&lt;head&gt;.nii.gz" in page and "<head>.nii" not in page
    assert "The draws miss the data: chi2 is 2 times its expectation." in page and "HU" in page and "30.10" in page
    # Nothing is fetched: every source is inside, and the page's own policy forbids the rest.
    assert not re.search(r"""<[^>]*\s(src|href)=["']?(?!data:)[^"' >]""", page)
    assert "http" not in page.replace("http-equiv", "")
    assert "default-src 'none'" in page


def test_page_stays_within_its_bound(tmp_path: Path) -> None:
    large = example(slices=20, size=128, draws=10)
    page = html_report(large, tmp_path / "r.html", most=2**20)
    assert page.stat().st_size <= 2**20
    text = page.read_text(encoding="utf-8")
    assert "Of 20 slices" in text and "Of 10 draws the first 8 are shown" in text
    held = pictures(text)
    assert held["labels"][0] == "slice 40" and held["labels"][-1] == "slice 59"


@pytest.mark.parametrize("kind", ["single draw", "one image", "volume", "complex", "fields"])
def test_other_posteriors_have_pages_too(tmp_path: Path, kind: str) -> None:
    rng = generator(1)
    shape = {"volume": (3, 1, 4, 10, 12), "fields": (3, 2, 10, 12)}.get(kind, (3, 1, 10, 12))
    x = torch.randn(shape, generator=rng, dtype=torch.complex64 if kind == "complex" else torch.float32)
    posterior = Posterior.from_draws(x[:1] if kind == "single draw" else x)
    held = pictures(html_report(posterior, tmp_path / "r.html").read_text(encoding="utf-8"))
    assert len(held["mean"]) == {"volume": 4, "fields": 2}.get(kind, 1)
    assert bool(held["spread"]) == (kind != "single draw")


def test_vectors_and_small_limits_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="component"):
        html_report(Posterior.from_draws(torch.zeros(3, 5)), tmp_path / "r.html")
    with pytest.raises(InputError, match="at least"):
        html_report(example(), tmp_path / "r.html", most=1000)
    assert list(tmp_path.iterdir()) == []


def test_notebooks_show_a_compact_figure() -> None:
    text = example()._repr_html_()
    assert text.count("<img") == 2 and "HU" in text and len(text) < 20_000 and "chi2 is 2 times" in text
    assert "<img" not in Posterior.from_draws(torch.zeros(3, 5))._repr_html_()


@pytest.fixture
def browser() -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("no chromium with its driver is installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield opened
    opened.quit()


def test_page_works_in_a_browser_by_keyboard(tmp_path: Path, browser: Any) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    page = html_report(example(), tmp_path / "r.html")
    browser.get(page.as_uri())

    def shown(name: str) -> str:
        return str(browser.find_element(By.ID, name).get_attribute("src"))

    held = pictures(page.read_text(encoding="utf-8"))
    assert shown("image") == held["mean"][1]  # the middle slice
    body = browser.find_element(By.TAG_NAME, "body")
    body.send_keys(Keys.ARROW_RIGHT)
    assert shown("image") == held["mean"][2] and shown("spread-0") == held["spread"]["standard deviation"][2]
    assert shown("misfit") == held["misfit"][2]
    body.send_keys(Keys.ARROW_UP, Keys.ARROW_UP)
    assert shown("image") == held["draws"][1][2]
    assert "draw 2 of 4" in browser.find_element(By.ID, "draw-name").text
    # By tab and the control's own keys: each is labelled and can be reached.
    body.send_keys(Keys.TAB)
    active = browser.switch_to.active_element
    assert active.get_attribute("id") == "slice" and active.accessible_name == "Slice"
    active.send_keys(Keys.HOME)
    time.sleep(0.1)
    assert shown("image") == held["draws"][1][0]
    active.send_keys(Keys.ARROW_RIGHT)
    assert shown("image") == held["draws"][1][1]  # one step, not two: the page leaves the slider's keys alone
    assert all(i.get_attribute("alt") for i in browser.find_elements(By.TAG_NAME, "img"))
    loaded = browser.execute_script("return [...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert loaded and browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []
    browser.set_window_size(420, 900)  # nothing runs out of a narrow page
    wide = browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    assert wide
