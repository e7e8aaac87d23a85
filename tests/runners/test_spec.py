"""The spec's types: what is frozen, what is refused, and that JSON keeps every one of them exactly."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runners import spec, spec_file

POSITIVE = st.floats(min_value=1e-300, max_value=1e300)
SIZES = st.integers(min_value=1, max_value=2**62)
RATES = st.one_of(
    POSITIVE,
    st.builds(spec.Warmup, peak=POSITIVE, steps=SIZES, start=st.just(0.0)),
    st.builds(spec.Cosine, peak=POSITIVE, steps=st.integers(100, 2**62), warmup_steps=st.integers(0, 99), final=POSITIVE),
    st.builds(spec.Piecewise, values=st.tuples(POSITIVE, POSITIVE), boundaries=st.tuples(SIZES)),
)
JSON_LIKE = st.recursive(
    st.one_of(st.booleans(), st.integers(-(2**63) + 1, 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=5,
)
DATA = st.one_of(
    st.builds(spec.Digits, standardize=st.sampled_from([True, False, "feature", "channel", "global"])),
    st.builds(spec.Cifar10, dir=st.sampled_from([None, "2024", "données"])),
    st.builds(spec.Csv, path=st.just("x.csv"), target=st.sampled_from([None, "3", ("a", "b")])),
    st.builds(spec.Gaussian, num_features=st.just(2), spectrum=st.tuples(POSITIVE, POSITIVE), noise_std=POSITIVE),
    st.builds(spec.CustomData, target=st.just("package.module:function"), arguments=st.dictionaries(st.text(), JSON_LIKE, max_size=3)),
)
FRACTIONS = st.floats(min_value=0, max_value=1, exclude_max=True)
OPTIMIZERS = st.one_of(
    st.builds(spec.Sgd, lr=RATES, batch_size=st.just("full")),
    st.builds(spec.Nesterov, lr=RATES, momentum=FRACTIONS),
    st.builds(spec.AdamW, lr=RATES, beta1=FRACTIONS, beta2=FRACTIONS, eps=POSITIVE),
    st.builds(spec.CustomOptimizer, target=st.just("a.b:c"), beta1=FRACTIONS, beta2=st.one_of(st.none(), FRACTIONS), eps_root=POSITIVE),
)
SPECS = st.builds(spec.Train, data=DATA, optimizer=OPTIMIZERS, run=st.builds(spec.Run, steps=SIZES, seed=st.integers(0, 2**32 - 1)))


@given(SPECS)
@settings(max_examples=100, deadline=None)
def test_json_gives_back_the_very_same_spec(asked):
    assert spec_file.from_json(spec_file.to_json(asked)) == asked


def test_json_says_every_key_even_where_it_is_the_default():
    resolved = msgspec.json.decode(spec_file.to_json(spec.Train()))

    assert resolved["runner"] == "train"
    assert resolved["optimizer"] == {"name": "sgd", "lr": 0.1, "batch_size": "full", "sampling": "without_replacement", "warm_start": None}
    assert set(resolved["measure"]) == {field.name for field in msgspec.structs.fields(spec.Measure)}


def test_a_spec_cannot_be_changed():
    with pytest.raises(AttributeError, match="immutable"):
        spec.Train().run.steps = 3


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"[1]", r"^spec\.json: expected a spec in JSON \(Expected `object`"),
        (b"{", r"^spec\.json: expected a spec in JSON \(Input data was truncated\)"),
        (b'{"run": {"steps": 0}}', r"^spec\.json: run\.steps = 0: expected an integer >= 1\.$"),
    ],
)
def test_json_that_is_no_spec_is_refused(text, problem):
    with pytest.raises(spec_file.SpecError, match=problem):
        spec_file.from_json(text)
