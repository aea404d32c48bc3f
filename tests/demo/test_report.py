"""The report is one honest, self-contained page."""

import html.parser
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from edgepick_host.core.figures import EnergyKind
from edgepick_host.demo.picture import pareto_svg
from edgepick_host.demo.report import render_report, write_report
from edgepick_host.demo.result import DemoResult, Standing, problems
from fakes.demo_result import a_good_run, candidate

VOID = {"meta", "br", "link", "img", "input", "hr"}


class Outline(html.parser.HTMLParser):
    """Checks that tags nest, and collects ids, links and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def outline(page: str) -> Outline:
    parsed = Outline()
    parsed.feed(page)
    return parsed


@pytest.fixture(scope="module")
def good() -> DemoResult:
    return a_good_run()


@pytest.fixture(scope="module")
def page(good: DemoResult) -> str:
    return render_report(good)


def test_every_tag_is_closed_and_every_id_is_unique(page: str) -> None:
    """The page is well-formed, pictures included."""
    parsed = outline(page)

    assert parsed.open == []
    assert len(parsed.ids) == len(set(parsed.ids))


def test_the_page_needs_no_network(page: str) -> None:
    """Every reference stays within the page; no script, no import, no font file."""
    parsed = outline(page)

    assert {link[0] for link in parsed.links} == {"#"}
    assert {link[1:] for link in parsed.links} <= set(parsed.ids)
    assert not {"script", "link", "img", "iframe"} & set(parsed.tags)
    assert not re.search(r"@import|url\((?!#)", page)


def test_every_table_has_a_caption_and_every_table_of_figures_says_stand_in(page: str, good: DemoResult) -> None:
    """No figure can be taken for a board's."""
    tables = re.findall(r"<table>.*?</table>", page, flags=re.DOTALL)

    with_figures = [table for table in tables if "p50" in table or "agent memory" in table]

    assert all("<caption>" in table for table in tables)
    assert len(with_figures) == len(good.profiles) + 1
    assert all(f"measured on {good.environment.machine}, not on the board" in table for table in with_figures)


def test_light_and_dark_and_phones_are_served(page: str) -> None:
    """The page follows the reader's colours and width."""
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page


def test_the_facts_of_the_demo_are_on_the_page(page: str, good: DemoResult) -> None:
    """Devices, reasons, the kill, both faults and the waves can be read."""
    text = " ".join(outline(page).text.split())

    expected = [d.device for d in good.fleet] + [r for p in good.profiles for r in p.reasons]
    expected += [f.code for f in good.faults] + [f.detail for f in good.faults] + [w.name for w in good.waves]
    expected += ["killed with SIGKILL after 17 of 41 chunks", "No chunk was asked for again."]
    assert [fact for fact in expected if fact not in text] == []


def test_what_a_device_says_cannot_become_markup(good: DemoResult) -> None:
    """A hostile refusal or name is shown as text."""
    evil = "<script>alert(1)</script>"
    fault = replace(good.faults[0], detail=evil, code=evil)

    hostile = render_report(replace(good, faults=(fault,), notes=(evil,), model=evil))

    assert evil not in hostile
    assert hostile.count("&lt;script&gt;") >= 4


def test_energy_that_was_not_measured_says_why(page: str) -> None:
    """There is no zero where there is no sensor."""
    assert "Energy: not measured: no power sensor on this machine." in outline(page).text


def test_energy_that_was_measured_is_shown(good: DemoResult) -> None:
    """One sensor is enough for the column, which says whether idle power is in it; who has none still says why."""
    first = good.profiles[0]
    measured = replace(first.candidates[0], energy_uj=412.0, energy_kind=EnergyKind.GROSS)
    changed = replace(first, candidates=(measured, *first.candidates[1:]))

    text = outline(render_report(replace(good, profiles=(changed,)))).text

    assert "412 µJ gross" in text
    assert "not measured: no power sensor" in text


def test_what_went_wrong_leads_the_page(good: DemoResult) -> None:
    """A fault that was not caught is said at the top, in words."""
    missed = replace(good, faults=(replace(good.faults[0], caught=False),))

    text = outline(render_report(missed)).text

    assert "it was not caught on pi4-kitchen" in text.partition("What each kind of device runs")[0]


def test_a_profile_without_a_choice_still_has_a_page(good: DemoResult) -> None:
    """Nothing measured, nothing chosen: the page says so instead of failing."""
    empty = replace(good.profiles[0], candidates=(), chosen=None, reasons=("Nothing was measured.",))

    text = outline(render_report(replace(good, profiles=(empty,)))).text

    assert "no variant was chosen" in text
    assert "Nothing was measured." in text


def test_the_same_run_gives_the_same_bytes(page: str, good: DemoResult) -> None:
    """Nothing on the page depends on when it was written."""
    assert render_report(good) == page


def test_a_report_is_written_whole_or_not_at_all(tmp_path: Path, good: DemoResult) -> None:
    """When rendering fails, the old report stays and nothing is left beside it."""
    target = tmp_path / "report.html"
    write_report(good, target)
    before = target.read_bytes()

    with pytest.raises(AttributeError):
        write_report(replace(good, delivery=None), target)

    assert target.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_a_good_run_has_no_problems(good: DemoResult) -> None:
    """Everything as promised is an empty list."""
    assert problems(good) == ()


def test_each_broken_promise_is_a_problem(good: DemoResult) -> None:
    """A missing choice, a silent device, a missed fault, and a download that starts again are all named."""
    again = replace(good.delivery.resume, fetched_twice=17, completed=False)
    broken = replace(
        good,
        profiles=(replace(good.profiles[0], chosen=None),),
        fleet=(replace(good.fleet[0], phase=""),),
        faults=(replace(good.faults[1], caught=False),),
        delivery=replace(good.delivery, resume=again),
    )

    found = " | ".join(problems(broken))

    assert "raspberry-pi-4: no variant was chosen" in found
    assert "pi4-kitchen: silent" in found
    assert "not caught on coral-gate" in found
    assert "did not complete" in found
    assert "17 chunks were fetched twice, allowed are 8" in found


def test_a_picture_is_an_element_with_the_pages_colours() -> None:
    """The SVG parses, carries the table's numbers, and has neither size nor colours of its own."""
    rows = [candidate("static_wi8_ai8", standing=Standing.CHOSEN), candidate("float32")]

    svg = pareto_svg("raspberry-pi-4", rows)
    root = ET.fromstring(svg)

    texts = ["".join(t.itertext()).strip() for t in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"1", "2"} <= set(texts)
    assert "width" not in root.attrib
    assert "var(--accent)" in svg
    assert not re.search(r"#0[1-6]0[1-6]0[1-6]", svg)


def test_one_point_is_no_picture() -> None:
    """With fewer than two measured variants there is nothing to compare."""
    assert pareto_svg("p", [candidate("float32")]) == ""
    assert pareto_svg("p", [candidate("float32"), candidate("float16", p50_ns=None)]) == ""
