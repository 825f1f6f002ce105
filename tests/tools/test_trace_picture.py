"""The picture of a trace, drawn of spans."""

from xml.etree import ElementTree

from tests.shop.spans import Span
from tools.trace import NAMES, WIDTH, drawn

SVG = "{http://www.w3.org/2000/svg}"


def span(id: str, parent: str, name: str, began: float, ended: float, process: str) -> Span:
    return Span(
        process=process,
        name=name,
        kind="INTERNAL",
        trace_id="1",
        id=id,
        parent=parent,
        status="UNSET",
        attributes={},
        began=began,
        ended=ended,
        events=(),
        links=(),
    )


def test_each_span_is_a_line_beneath_the_one_that_caused_it() -> None:
    spans = [
        span("c", "b", "store <shop>", 10.2, 10.4, "orders"),
        span("d", "a", "send", 10.5, 10.6, "payments"),
        span("a", "elsewhere", "POST /orders", 10.0, 11.0, "api"),
        span("b", "a", "command", 10.1, 10.5, "api"),
    ]
    picture = ElementTree.fromstring(drawn(spans))
    texts = {one.text: one for one in picture.iter(f"{SVG}text")}
    named = [name for name in texts if name in {one.name for one in spans}]
    assert named == ["POST /orders", "command", "store <shop>", "send"]
    places = [float(texts[name].attrib["x"]) for name in named]
    assert places == [16, 30, 44, 30]
    assert "200.0 ms" in texts
    bars = [one for one in picture.iter(f"{SVG}rect") if one.attrib.get("height") == "14"]
    assert float(bars[0].attrib["x"]) == NAMES
    assert all(float(bar.attrib["x"]) + float(bar.attrib["width"]) < WIDTH for bar in bars)
