"""The items of a map: numbered, cut into chunks, and put together again."""

import itertools
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from jobrunner.items import Cut, Items

bounds = st.tuples(st.integers(-20, 20), st.integers(-20, 20), st.sampled_from([-3, -1, 1, 2, 7])).filter(
    lambda one: len(range(*one)) > 0
)
ranges = st.one_of(bounds, bounds.map(lambda one: (0, len(range(*one)))))
axes = st.one_of(
    ranges.map(lambda one: {"range": list(one)}),
    st.lists(st.one_of(st.integers(), st.text(max_size=3), st.none()), min_size=1, max_size=7),
)
products = st.dictionaries(st.sampled_from("abc"), axes, min_size=1, max_size=3)


def meant(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """What a product of axes means, said in another way."""
    values = [range(*axis["range"]) if isinstance(axis, dict) else axis for axis in spec.values()]
    return [dict(zip(spec, row, strict=True)) for row in itertools.product(*values)]


def read(cut: Cut) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [{} for _ in range(cut.count)]
    for name, values, places in cut.columns():
        for at, row in enumerate(rows):
            value = values[at if places is None else places[at]]
            row.update(value if name is None else {name: value})
    return rows


@given(products)
def test_items_are_the_product_of_the_axes_with_the_last_running_fastest(spec: dict[str, Any]) -> None:
    items = Items.parse(json.dumps(spec))
    assert [items.params(index) for index in range(len(items))] == meant(spec)
    assert len(Items.of(spec)) == len(items)


@given(products, st.data())
def test_a_cut_holds_its_items_and_no_more_values_than_they_need(
    spec: dict[str, Any], data: st.DataObject
) -> None:
    items = Items.parse(json.dumps(spec))
    first = data.draw(st.integers(0, len(items) - 1))
    count = data.draw(st.integers(1, len(items) - first))
    cut = Cut(json.loads(items.cut(first, count)))
    assert read(cut) == meant(spec)[first : first + count]
    assert all(len(values) <= count for _, values, _ in cut.columns())


@given(st.lists(st.dictionaries(st.sampled_from("ab"), st.integers()), min_size=1, max_size=9), st.data())
def test_a_list_is_cut_into_its_own_parts(spec: list[dict[str, int]], data: st.DataObject) -> None:
    items = Items.parse(json.dumps(spec))
    first = data.draw(st.integers(0, len(spec) - 1))
    count = data.draw(st.integers(1, len(spec) - first))
    assert read(Cut(json.loads(items.cut(first, count)))) == spec[first : first + count]


def test_a_million_items_of_a_range_are_told_in_a_few_bytes() -> None:
    items = Items.parse('{"n": {"range": [0, 1000000]}}')
    assert len(items) == 1_000_000
    assert len(items.cut(1000, 900_000)) < 100
    assert items.params(999_999) == {"n": 999_999}
