import pytest

from runners import spec, spec_file
from runners.errors import SpecError


@pytest.fixture
def load(tmp_path):
    """Load a spec with this TOML and these overrides."""

    def load(text, *overrides):
        path = tmp_path / "a.toml"
        path.write_text(text)
        return spec_file.load(path, overrides)

    return load


def test_the_command_line_goes_before_the_file_and_the_file_before_the_default(load):
    loaded = load("[run]\nsteps = 5\nseed = 7\n", "run.steps=9")

    assert (loaded.run.steps, loaded.run.seed, loaded.run.checkpoint_every) == (9, 7, 1000)


def test_the_last_of_two_overrides_of_a_key_counts(load):
    assert load("", "run.steps=9", "run.steps=11").run.steps == 11


@pytest.mark.parametrize(
    ("override", "value"),
    [("0.3", 0.3), ("1", 1.0), ("3e-2", 0.03), (".3", 0.3), ("3.", 3.0), ("1_000", 1000.0)],
)
def test_numbers_are_read_as_toml_and_as_people_write_them(load, override, value):
    assert load("", f"optimizer.lr={override}").optimizer.lr == value


@pytest.mark.parametrize(("text", "value"), [("full", "full"), ('"full"', "full"), ("32", 32)])
def test_a_bare_word_is_text_where_a_number_could_stand_too(load, text, value):
    assert load("", f"optimizer.batch_size={text}").optimizer.batch_size == value


@pytest.mark.parametrize("text", ["2024", "true", "a=b", "[x", "1979-05-27", "with space", "inf"])
def test_a_key_that_holds_text_takes_the_characters_as_they_are(load, text):
    assert load('[data]\nname = "mnist"', f"data.dir={text}").data.dir == text


def test_text_may_stand_in_quotes_as_in_toml(load):
    assert load("", "data.name=npz", 'data.path="x.npz"').data.path == "x.npz"


@pytest.mark.parametrize(("text", "target"), [("3", "3"), ("y", "y"), ('["a", "b"]', ("a", "b"))])
def test_a_key_that_holds_text_or_a_list_takes_both(load, text, target):
    assert load("", "data.name=csv", "data.path=x.csv", f"data.target={text}").data.target == target


def test_booleans_and_lists_are_toml(load):
    loaded = load("", "model.bias=false", "data.name=gaussian", "data.num_features=2", "data.spectrum=[2, 1.5]")

    assert not loaded.model.bias
    assert loaded.data.spectrum == (2.0, 1.5)


def test_a_schedule_is_an_inline_table(load):
    loaded = load("", 'optimizer.lr={kind="cosine", peak=0.3, steps=100}')

    assert loaded.optimizer.lr == spec.Cosine(peak=0.3, steps=100)


def test_a_key_of_a_schedule_can_be_set_alone(load):
    text = '[optimizer]\nlr = {kind = "cosine", peak = 0.3, steps = 100}'

    assert load(text, "optimizer.lr.peak=0.2").optimizer.lr == spec.Cosine(peak=0.2, steps=100)


def test_another_kind_of_schedule_keeps_the_keys_that_both_have(load):
    text = '[optimizer]\nlr = {kind = "cosine", peak = 0.3, steps = 100, warmup_steps = 9}'

    assert load(text, "optimizer.lr.kind=warmup").optimizer.lr == spec.Warmup(peak=0.3, steps=100)


def test_a_key_inside_a_number_is_refused(load):
    with pytest.raises(SpecError, match=r"^--set optimizer\.lr\.peak=0\.2: optimizer\.lr is not a table here\. Set all of it"):
        load("[optimizer]\nlr = 0.1", "optimizer.lr.peak=0.2")


def test_another_kind_of_table_keeps_the_keys_that_both_have(load):
    text = '[optimizer]\nname = "adam"\nlr = 0.01\nbeta1 = 0.5\nbatch_size = 8'

    assert load(text, "optimizer.name=nesterov").optimizer == spec.Nesterov(lr=0.01, batch_size=8)


def test_the_kind_is_picked_first_whatever_the_order(load):
    loaded = load("[optimizer]\nlr = 0.2", "optimizer.momentum=0.5", "optimizer.name=heavy_ball")

    assert loaded.optimizer == spec.HeavyBall(lr=0.2, momentum=0.5)


def test_a_key_that_only_the_old_kind_has_is_refused_when_the_command_line_sets_it(load):
    with pytest.raises(
        SpecError, match=r"^--set optimizer\.beta1 is not a known key\. It belongs to optimizer\.name = adam, adamw or custom\.$"
    ):
        load('[optimizer]\nname = "adam"', "optimizer.name=sgd", "optimizer.beta1=0.5")


def test_a_misspelt_key_of_the_old_kind_is_not_dropped_in_silence(load):
    with pytest.raises(SpecError, match=r"a\.toml: optimizer\.betta1 is not a known key"):
        load('[optimizer]\nname = "adam"\nbetta1 = 0.5', "optimizer.name=sgd")


@pytest.mark.parametrize(
    "text", ["", '[model]\nname = "cnn"\nwidth = 4', '[model]\nname = "a:B"', '[model]\nname = "custom"\ntarget = "a:B"']
)
def test_an_import_path_names_a_users_model(load, text):
    assert load(text, "model.name=pkg.mod:Net").model == spec.CustomModel(target="pkg.mod:Net")


def test_an_import_path_names_a_users_optimizer_and_keeps_the_keys_of_every_optimizer(load):
    text = '[optimizer]\nname = "adam"\nlr = 0.2\nbatch_size = 8'

    assert load(text, "optimizer.name=optax:lion").optimizer == spec.CustomOptimizer(target="optax:lion", lr=0.2, batch_size=8)


def test_another_function_keeps_the_arguments(load):
    text = '[data]\nname = "a:f"\narguments = {n = 3}\nnum_train = 5'

    assert load(text, "data.name=a:g").data == spec.CustomData(target="a:g", arguments={"n": 3}, num_train=5)


def test_arguments_of_users_code_can_be_set_one_by_one(load):
    loaded = load('[data]\nname = "a:f"', "data.arguments.n=3", "data.arguments.kind=round", "data.arguments.deep.er=[1]")

    assert loaded.data.arguments == {"n": 3, "kind": "round", "deep": {"er": [1]}}


@pytest.mark.parametrize("argument", ["optimizer.lr", "=3", ".lr=3", "optimizer.=3", "", "="])
def test_an_override_without_key_or_value_is_refused(load, argument):
    with pytest.raises(SpecError, match=r"^--set .*: expected key=value, like optimizer\.lr=0\.1\.$"):
        load("", argument)


@pytest.mark.parametrize("value", ["[1", '{kind="cosine"', '"open'])
def test_a_value_that_is_begun_as_toml_and_is_none_is_refused(load, value):
    with pytest.raises(SpecError, match=r"^--set optimizer\.lr=.*: the value is not TOML \("):
        load("", f"optimizer.lr={value}")


@pytest.mark.parametrize(
    ("argument", "problem"),
    [
        ("optimizer.lr=-0.1", r"^--set optimizer\.lr = -0\.1: expected a number > 0\.$"),
        ("optimizer.lr=0.3.4", r'^--set optimizer\.lr = "0\.3\.4": expected a number > 0 or a table'),
        ("optimizer.learning_rte=1", r"^--set optimizer\.learning_rte is not a known key\. Did you mean 'lr'\?$"),
        ("optimizr.lr=1", r"^--set optimizr is not a known key\. Did you mean 'optimizer'\?$"),
        ("lr=1", r"^--set lr is not a known key\. Did you mean optimizer\.lr\?$"),
        ("optimizer=adam", r'^--set optimizer = "adam": expected a table\. To choose its kind set optimizer\.name\.$'),
        ("model.bias=True", r'^--set model\.bias = "True": expected true or false\.$'),
        ("optimizer.lr=nan", r"^--set optimizer\.lr = nan: expected a finite number\.$"),
        ("data.name=npz", r'^--set data\.path is missing, which "npz" needs: expected text\.$'),
        ('run.steps=1\nrun.seed=2', r'^--set run\.steps = "1\\nrun\.seed=2": expected an integer >= 1\.$'),
    ],
)  # fmt: skip
def test_what_is_wrong_with_an_override_is_said_of_the_command_line(load, argument, problem):
    with pytest.raises(SpecError, match=problem):
        load("[run]\nsteps = 5", argument)


def test_what_is_wrong_with_the_file_is_said_of_the_file_beside_an_override(load):
    with pytest.raises(SpecError, match=r"a\.toml: run\.seed = -1: expected an integer >= 0 and < 4294967296\.$"):
        load("[run]\nseed = -1", "run.steps=5")


def test_an_override_mends_what_is_wrong_in_the_file(load):
    assert load("[run]\nsteps = 0", "run.steps=5").run.steps == 5
