"""The values that a key goes through in a sweep."""

import pytest

from runners import grid
from runners.errors import SpecError


def values(text):
    return [value.text for value in grid.parse_axis(f"optimizer.lr={text}").values]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("64,256,1024", ["64", "256", "1024"]),
        (" 0.1 , 0.3", ["0.1", "0.3"]),
        ("0.1:3.2:x2", ["0.1", "0.2", "0.4", "0.8", "1.6", "3.2"]),
        ("64:1000:x2", ["64", "128", "256", "512"]),
        ("0.1:0.4:+0.1", ["0.1", "0.2", "0.3", "0.4"]),
        ("1e-3:1:x10", ["0.001", "0.01", "0.1", "1.0"]),
        ("-1:1:+1", ["-1", "0", "1"]),
        ("1:3:+1,10", ["1", "2", "3", "10"]),
        ("5:5:x2", ["5"]),
    ],
)
def test_lists_and_ranges(text, expected):
    assert values(text) == expected


def test_a_range_goes_to_its_end_where_the_factor_is_rounded():
    assert values("1:100:x3.16228") == ["1.0", "3.16227766017", "10.0", "31.6227766017", "100.0"]


def test_a_range_does_not_go_past_its_end():
    assert values("1:99:x10") == ["1", "10"]


def test_what_is_in_brackets_or_quotes_belongs_together():
    assert values('{kind="cosine",peak=0.3,steps=100},[1,2],"a,b",0.1') == ['{kind="cosine",peak=0.3,steps=100}', "[1,2]", '"a,b"', "0.1"]


def test_text_with_colons_is_no_range():
    assert values("optax:adabelief,sgd") == ["optax:adabelief", "sgd"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected values between the commas"),
        ("0.1,,0.2", "expected values between the commas"),
        ("0.1,0.1", r"0\.1 stands there twice"),
        ("0:1:x2", r"expected 0 < first value <= last value and a factor > 1"),
        ("1:10:x1", "a factor > 1"),
        ("1:0:+1", "expected first value <= last value and a step > 0"),
        ("0:1:+0", "a step > 0"),
        ("0:1:+1e-9", "more than 100,000 values"),
    ],
)
def test_what_is_no_list_of_values_is_named(text, message):
    with pytest.raises(SpecError, match=message):
        values(text)


def test_a_grid_needs_a_key():
    with pytest.raises(SpecError, match=r"--grid 0\.1,0\.2: expected key=value, like optimizer\.lr=0\.1,0\.2"):
        grid.parse_axis("0.1,0.2")


def test_a_table_says_the_same_in_toml():
    assert [value.text for value in grid.table_axis("optimizer.lr", "0.1:0.4:x2").values] == values("0.1:0.4:x2")
    assert [value.text for value in grid.table_axis("model.width", [64, 256]).values] == ["64", "256"]
    assert [value.text for value in grid.table_axis("model.bias", [True, False]).values] == ["true", "false"]
    assert [value.text for value in grid.table_axis("model", [{"name": "mlp", "width": 8}]).values] == ['{"name" = "mlp", "width" = 8}']


def test_a_table_takes_lists_and_texts_alone():
    with pytest.raises(SpecError, match=r"\[sweep\] grid: model\.width = 64: expected a list of values, or a text"):
        grid.table_axis("model.width", 64)
