import subprocess
import sys

import pytest

from runners import spec, spec_file
from runners.errors import ExitCode, SpecError


@pytest.fixture
def read(tmp_path):
    """Read a spec with this TOML."""

    def read(text):
        path = tmp_path / "a.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return spec_file.read(path)

    return read


def test_an_empty_file_is_the_default_spec(read):
    assert read("") == spec.Train()


def test_a_file_with_a_byte_order_mark_is_read(read):
    assert read("﻿[run]\nsteps = 5").run.steps == 5


def test_tables_without_a_name_take_the_default_kind(read):
    loaded = read("[data]\nnum_train = 9\n[model]\nwidth = 3\n[objective]\nweight_decay = 1\n[optimizer]\nlr = 1")

    assert loaded.data == spec.Digits(num_train=9)
    assert loaded.model == spec.Mlp(width=3)
    assert loaded.objective == spec.Mse(weight_decay=1.0)
    assert loaded.optimizer == spec.Sgd(lr=1.0)


def test_an_import_path_as_name_is_a_users_function_or_class(read):
    loaded = read('[data]\nname = "pkg.mod:make"\n[data.arguments]\nn = 3\n[model]\nname = "mod:Net"')

    assert loaded.data == spec.CustomData(target="pkg.mod:make", arguments={"n": 3})
    assert loaded.model == spec.CustomModel(target="mod:Net")


def test_the_home_folder_is_expanded_and_nothing_else(read, monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("EOS_DATA", "/data")

    assert read('[data]\nname = "mnist"\ndir = "~/sets"').data.dir == "/home/someone/sets"
    assert read('[data]\nname = "npz"\npath = "$EOS_DATA/~x.npz"').data.path == "$EOS_DATA/~x.npz"
    assert read('[data]\nname = "csv"\npath = "../x.csv"').data.path == "../x.csv"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        # unknown keys
        ("[optimizer]\nlearning_rte = 3", "optimizer.learning_rte is not a known key. Did you mean 'lr'?"),
        ("[optimizer]\nlearning_rate = 3", "optimizer.learning_rate is not a known key. Did you mean 'lr'?"),
        ("[optimizer]\nbatch = 3", "optimizer.batch is not a known key. Did you mean 'batch_size'?"),
        ("[model]\nhidden_size = 3", "model.hidden_size is not a known key. Did you mean 'width'?"),
        ("[measure]\nsharpnes_evry = 3", "measure.sharpnes_evry is not a known key. Did you mean 'sharpness_every'?"),
        ("[run]\nepochs = 3", "run.epochs is not a known key. Did you mean 'steps'?"),
        ("[run]\nlr = 3", "run.lr is not a known key. Did you mean optimizer.lr?"),
        ("[run]\nlearning_rate = 3", "run.learning_rate is not a known key. Did you mean optimizer.lr?"),
        ("[optimizer]\nweight_decay = 3", "optimizer.weight_decay is not a known key. Did you mean objective.weight_decay?"),
        ("lr = 3", "lr is not a known key. Did you mean optimizer.lr?"),
        ("stepz = 3", "stepz is not a known key. Did you mean run.steps?"),
        ("[run]\nlearning_rte = 3", "run.learning_rte is not a known key. Did you mean optimizer.lr?"),
        (
            "[optimizer]\nmomentum = 0.5",
            "optimizer.momentum is not a known key. It belongs to optimizer.name = heavy_ball, nesterov, ema_momentum or muon.",
        ),
        ("[optimiser]\nlr = 3", "optimiser is not a known key. Did you mean 'optimizer'?"),
        ("[training]\nlr = 3", "training is not a known key. Did you mean 'run'?"),
        ('"$schema" = "x"', "$schema is not a known key. Expected one of: data, model, objective, optimizer, measure, run."),
        (
            "[run]\n'a.b' = 3",
            "run.a.b is not a known key. Expected one of: steps, seed, init_seed, data_seed, order_seed, precision, "
            "checkpoint_every, divergence_factor.",
        ),
        ('[optimizer]\nlr = {kind = "warmup", peak = 1, step = 3}', "optimizer.lr.step is not a known key. Did you mean 'steps'?"),
        # unknown kinds and words
        (
            '[data]\nname = "digts"',
            'data.name = "digts": expected "digits", "digits-features", "cifar10", "mnist", "fashion-mnist", "npz", "csv", "text", '
            '"chebyshev", '
            '"gaussian" or "package.module:attribute". Did you mean \'digits\'?',
        ),
        (
            '[optimizer]\nname = "gd"',
            'optimizer.name = "gd": expected "sgd", "heavy_ball", "nesterov", "ema_momentum", "adam", "adamw", '
            '"rmsprop", "normalized_gd", "sign_descent", "sam", "muon" or "package.module:attribute". Did you mean \'sgd\'?',
        ),
        ('[objective]\nname = "ce"', 'objective.name = "ce": expected "mse" or "cross_entropy". Did you mean \'cross_entropy\'?'),
        ('[objective]\nname = "MSE"', 'objective.name = "MSE": expected "mse" or "cross_entropy". Did you mean \'mse\'?'),
        ('[objective]\nname = "zzz"', 'objective.name = "zzz": expected "mse" or "cross_entropy".'),
        ("[objective]\nname = 3", 'objective.name = 3: expected "mse" or "cross_entropy".'),
        ('[objective]\nname = "a:b"', 'objective.name = "a:b": expected "mse" or "cross_entropy".'),
        (
            '[model]\nname = "my-net:Net"',
            'model.name = "my-net:Net": expected "linear", "mlp", "residual-mlp", "cnn", "simple-cnn", '
            '"residual-cnn", "vgg11", "vit", "transformer" or "package.module:attribute".',
        ),
        ('[model]\nname = "custom"\ntarget = "Net"', 'model.target = "Net": expected text like "package.module:attribute".'),
        (
            '[model]\nactivation = "tahn"',
            'model.activation = "tahn": expected "elu", "gelu", "identity", "relu", "softplus" or "tanh". Did you mean \'tanh\'?',
        ),
        (
            '[optimizer]\nlr = {kind = "cosin", peak = 1}',
            'optimizer.lr.kind = "cosin": expected "warmup", "cosine", "piecewise" or "edge". Did you mean \'cosine\'?',
        ),
        ("[optimizer]\nlr = {peak = 1}", 'optimizer.lr.kind is missing: expected "warmup", "cosine", "piecewise" or "edge".'),
        (
            'runner = "trian"',
            'runner = "trian": expected "train", "linear-model", "quadratic-model", "flow", "function", "sde" or "sgd-ensemble". '
            "Did you mean 'train'?",
        ),
        # wrong types
        ('[run]\nsteps = "many"', 'run.steps = "many": expected an integer >= 1.'),
        ("[run]\nsteps = 1.5", "run.steps = 1.5: expected an integer >= 1."),
        ("[run]\nsteps = true", "run.steps = true: expected an integer >= 1."),
        ("[model]\nbias = 1", "model.bias = 1: expected true or false."),
        (
            '[optimizer]\nlr = "fast"',
            'optimizer.lr = "fast": expected a number > 0 or a table with kind = "warmup", "cosine", "piecewise" or "edge".',
        ),
        ('data = "digits"', 'data = "digits": expected a table. To choose its kind set data.name.'),
        ("run = 3", "run = 3: expected a table."),
        ('[data]\nname = "a:b"\narguments = 3', "data.arguments = 3: expected a table."),
        ('[data]\nname = "gaussian"\nspectrum = [1, "a"]', 'data.spectrum[1] = "a": expected a number >= 0.'),
        ('[data]\nname = "npz"', 'data.path is missing, which "npz" needs: expected text.'),
        # out of range
        ("[optimizer]\nlr = 0", "optimizer.lr = 0: expected a number > 0."),
        ("[optimizer]\nlr = -0.1", "optimizer.lr = -0.1: expected a number > 0."),
        ('[optimizer]\nlr = {kind = "warmup", peak = -1, steps = 3}', "optimizer.lr.peak = -1: expected a number > 0."),
        ('[optimizer]\nname = "heavy_ball"\nmomentum = 1.0', "optimizer.momentum = 1.0: expected a number >= 0 and < 1."),
        ('[optimizer]\nname = "nesterov"\nmomentum = -0.1', "optimizer.momentum = -0.1: expected a number >= 0 and < 1."),
        ("[optimizer]\nbatch_size = 0", "optimizer.batch_size = 0: expected an integer >= 1."),
        ("[run]\nsteps = 0", "run.steps = 0: expected an integer >= 1."),
        ("[run]\nsteps = 99999999999999999999", "run.steps = 99999999999999999999: expected an integer of 64 bits."),
        (
            '[optimizer]\nlr = {kind = "piecewise", values = [], boundaries = []}',
            "optimizer.lr.values = []: expected a list of at least 1, each a number > 0.",
        ),
        # numbers that are not finite, and dates
        ("[optimizer]\nlr = inf", "optimizer.lr = inf: expected a finite number."),
        ("[optimizer]\nlr = nan", "optimizer.lr = nan: expected a finite number."),
        ("[run]\ndivergence_factor = inf", "run.divergence_factor = inf: expected a finite number."),
        ('[data]\nname = "gaussian"\nspectrum = [1, -inf]', "data.spectrum[1] = -inf: expected a finite number."),
        ('[data]\nname = "a:b"\narguments = {x = [{y = nan}]}', "data.arguments.x[0].y = nan: expected a finite number."),
        (
            '[data]\nname = "a:b"\narguments = {d = 1979-05-27}',
            "data.arguments.d = 1979-05-27: expected no date or time; write it in quotes to make it text.",
        ),
        # keys that contradict each other
        ("[data]\nnum_train = 10\n[optimizer]\nbatch_size = 11", "optimizer.batch_size = 11: expected at most data.num_train = 10."),
        ("[data]\nnum_train = 10\n[measure]\nnum_examples = 11", "measure.num_examples = 11: expected at most data.num_train = 10."),
        ('[data]\nname = "chebyshev"\n[optimizer]\nbatch_size = 21', "optimizer.batch_size = 21: expected at most data.num_points = 20."),
        ('[data]\nname = "gaussian"\n[optimizer]\nbatch_size = 201', "optimizer.batch_size = 201: expected at most data.num_train = 200."),
        ('[data]\nname = "gaussian"\nspectrum = [1, 2]', "data.spectrum = [1.0, 2.0]: expected data.num_features = 50 eigenvalues, not 2."),
        (
            '[data]\nname = "chebyshev"\n[objective]\nname = "cross_entropy"',
            'objective.name = "cross_entropy": needs class labels, and data.name = "chebyshev" has real targets. Use "mse".',
        ),
        (
            '[data]\nname = "csv"\npath = "x"\ntask = "regression"\n[objective]\nname = "cross_entropy"',
            'objective.name = "cross_entropy": needs class labels, and data.name = "csv" has real targets. Use "mse".',
        ),
        (
            '[data]\nname = "gaussian"\n[model]\nname = "cnn"',
            'model.name = "cnn": needs images, and data.name = "gaussian" has none. Use "mlp" or "linear".',
        ),
        (
            '[data]\nname = "mnist"\n[model]\nname = "vgg11"',
            'model.name = "vgg11": needs images with sides in multiples of 32, and those of data.name = "mnist" are smaller. Use "cnn".',
        ),
        (
            '[data]\nname = "text"\npath = "x"\n[model]\nname = "vit"',
            'model.name = "vit": takes numbers, and data.name = "text" has characters. Use "transformer".',
        ),
        (
            '[model]\nname = "transformer"',
            'model.name = "transformer": takes characters, and data.name = "digits" has none. Set data.name = "text".',
        ),
        (
            '[model]\nname = "simple-cnn"',
            'model.name = "simple-cnn": needs larger images than the 8x8 of data.name = "digits". Use "cnn".',
        ),
        (
            '[data]\nname = "text"\npath = "x"\nstandardize = true\n[model]\nname = "transformer"',
            "data.standardize = true: expected false: characters are no quantities.",
        ),
        ('[model]\nname = "vit"\nheads = 3', "model.heads = 3: expected a number that divides model.width = 64."),
        (
            '[data]\nname = "mnist"\n[model]\nname = "residual-cnn"\nskip = false\nparametrization = "mup"\ndepth_exponent = 0.5',
            "model.depth_exponent = 0.5: the model has no residual branches. Set model.skip = true.",
        ),
        *(
            (f"[optimizer]\n{optimizer}\n[measure]\n{measure}", message)
            for optimizer, measure, message in (
                (
                    'lr = { kind = "edge", of = "sharpness", initial = 0.1 }',
                    "sharpness_every = 0",
                    "measure.sharpness_every = 0: optimizer.lr follows the sharpness, which has to be measured. Set it to 10.",
                ),
                (
                    'lr = { kind = "edge", of = "noise_kernel", initial = 0.1 }',
                    "",
                    "optimizer.lr follows K: expected batches, as the full batch has no noise.",
                ),
                (
                    'name = "muon"\nlr = { kind = "edge", of = "sharpness", initial = 0.1 }',
                    "",
                    "optimizer.lr follows the sharpness: no edge of it is known for this optimizer. Use a schedule.",
                ),
                (
                    'lr = { kind = "edge", of = "sharpness", initial = 0.1, max = 0.05 }',
                    "",
                    "optimizer.lr.initial = 0.1: expected a number from min = 0.0 to max = 0.05.",
                ),
                (
                    'batch_size = 4\nlr = { kind = "edge", of = "nearest", initial = 0.1 }',
                    "sharpness_every = 20",
                    "measure.ntk_every = 50: expected a multiple of measure.sharpness_every = 20, "
                    "as optimizer.lr takes both at the same step.",
                ),
                (
                    'batch_size = { kind = "edge", initial = 4 }',
                    "ntk_every = 0",
                    "measure.ntk_every = 0: optimizer.batch_size follows K, which has to be measured. Set it to 50.",
                ),
                (
                    'name = "muon"\nbatch_size = { kind = "edge", initial = 4 }',
                    "",
                    "optimizer.batch_size follows K, which is known for sgd, heavy_ball, nesterov, ema_momentum, adam, adamw and "
                    "rmsprop only.",
                ),
                (
                    'name = "adam"\nbatch_size = { kind = "edge", initial = 4 }\n[objective]\nweight_decay = 0.1',
                    "",
                    "optimizer.batch_size follows K, which is not known for adam with objective.weight_decay. Set that to 0.",
                ),
                (
                    'batch_size = { kind = "edge", initial = 4, max = 2 }',
                    "",
                    "optimizer.batch_size.max = 2: expected at least initial = 4.",
                ),
                (
                    'batch_size = { kind = "edge", initial = 4 }\nsampling = "epochs"',
                    "",
                    'optimizer.sampling = "epochs": expected another way to draw, as an epoch\'s batches are of one size.',
                ),
                (
                    'lr = { kind = "edge", of = "noise_kernel", initial = 0.1 }\nbatch_size = { kind = "edge", initial = 4 }',
                    "",
                    'optimizer.lr.of = "noise_kernel": the batch size follows K already. Let lr follow the sharpness.',
                ),
            )
        ),
        (
            "[measure]\nlimiting_flow_every = 5",
            'measure.limiting_flow_every = 5: it is for optimizer.name = "normalized_gd" and objective.transform = "sqrt". Set it to 0.',
        ),
        (
            '[optimizer]\nname = "normalized_gd"\n[measure]\nlimiting_flow_every = 5',
            'measure.limiting_flow_every = 5: expected run.precision = "float64", as distances are small. Set it to 0.',
        ),
        (
            "[optimizer]\nbatch_size = 8\n[measure]\nsharpness_every = 1\nsolve_every = 9",
            "measure.solve_every = 9: the sharpness is followed in the update, whose gradient has to be that of all examples. Set it to 1.",
        ),
        (
            "[measure]\nsharpness_every = 1\nsolve_every = 9\nnum_examples = 50",
            "measure.solve_every = 9: the sharpness is followed in the update, whose gradient is that of all examples. Set it to 1.",
        ),
        (
            '[optimizer]\nname = "adam"\n[measure]\nsharpness_every = 1\nsolve_every = 9',
            "measure.solve_every = 9: the preconditioned sharpness is not followed. Set it to 1.",
        ),
        (
            '[optimizer]\nname = "adam"\n[measure]\nmean_square_every = 5',
            "measure.mean_square_every = 5: the edge is known for plain SGD without weight decay only. Set it to 0.",
        ),
        (
            '[objective]\nname = "mse"\nweight_decay = 0.1\n[measure]\nmean_square_every = 5',
            "measure.mean_square_every = 5: the edge is known for plain SGD without weight decay only. Set it to 0.",
        ),
        (
            '[objective]\ntransform = "sqrt"\n[measure]\nmean_square_every = 5',
            "measure.mean_square_every = 5: the edge is known for plain SGD without weight decay only. Set it to 0.",
        ),
        (
            '[objective]\ntransform = "sqrt"\n[optimizer]\nname = "adam"',
            'objective.transform = "sqrt": it is for plain gradient descent with the full batch, not adam. Set optimizer.name = "sgd".',
        ),
        (
            '[objective]\ntransform = "sqrt"\n[optimizer]\nbatch_size = 8',
            'objective.transform = "sqrt": it is for plain gradient descent with the full batch, not 8 examples. '
            'Set optimizer.batch_size = "full".',
        ),
        (
            "[measure]\ntail_gauge = true",
            "measure.tail_gauge = true: it is for plain SGD in batches on least squares, and the full batch has no noise. Set it to false.",
        ),
        (
            '[optimizer]\nname = "adam"\nbatch_size = 8\n[measure]\ntail_gauge = true',
            "measure.tail_gauge = true: it is for plain SGD in batches on least squares, not adam. Set it to false.",
        ),
        (
            '[objective]\nname = "cross_entropy"\n[optimizer]\nbatch_size = 8\n[measure]\ntail_gauge = true',
            "measure.tail_gauge = true: it is for plain SGD in batches on least squares, not cross_entropy. Set it to false.",
        ),
        (
            "[objective]\nweight_decay = 0.1\n[optimizer]\nbatch_size = 8\n[measure]\ntail_gauge = true",
            "measure.tail_gauge = true: it is for plain SGD in batches on least squares, without weight decay. Set it to false.",
        ),
        (
            "[optimizer]\nbatch_size = 8\n[measure]\ntail_gauge = true\nntk_every = 0",
            "measure.ntk_every = 0: measure.tail_gauge takes K and the largest eigenvalue that it comes with. Set it to 50.",
        ),
        (
            "[optimizer]\nbatch_size = 8\n[measure]\ntail_gauge = true\nntk_eigenvalues = 0",
            'measure.ntk_eigenvalues = 0: measure.tail_gauge takes K and the largest eigenvalue that it comes with. Set it to "auto".',
        ),
        (
            "[objective]\nminimum = 0.5",
            'objective.minimum = 0.5: it counts with objective.transform = "sqrt" only. Remove it.',
        ),
        (
            '[optimizer]\nname = "adam"\n[measure]\nstableness_every = 5',
            "measure.stableness_every = 5: it is for gradient descent and normalized_gd with the full batch, not adam. Set it to 0.",
        ),
        (
            "[optimizer]\nbatch_size = 8\n[measure]\nstableness_every = 5",
            "measure.stableness_every = 5: it is for gradient descent and normalized_gd with the full batch, not 8 examples. Set it to 0.",
        ),
        (
            "[measure]\nstableness_every = 5\nnum_examples = 8",
            "measure.stableness_every = 5: it is for gradient descent and normalized_gd with the full batch, of which "
            'measure.num_examples = 8 are not all. Set measure.num_examples = "all".',
        ),
        (
            '[optimizer]\nlr = {kind = "cosine", peak = 1, steps = 3, warmup_steps = 3}',
            "optimizer.lr.warmup_steps = 3: expected less than optimizer.lr.steps = 3.",
        ),
        (
            '[optimizer]\nlr = {kind = "piecewise", values = [1, 2, 1], boundaries = [4, 4]}',
            "optimizer.lr.boundaries = [4, 4]: expected increasing steps.",
        ),
        (
            '[optimizer]\nlr = {kind = "piecewise", values = [1, 2], boundaries = []}',
            "optimizer.lr.values = [1.0, 2.0]: expected one value more than there are boundaries (0).",
        ),
    ],
)
def test_a_spec_that_is_not_valid_is_refused_with_file_key_value_and_expectation(tmp_path, read, text, problem):
    with pytest.raises(SpecError, match=r"a\.toml: ") as caught:
        read(text)

    assert str(caught.value) == f"{tmp_path / 'a.toml'}: {problem}"
    assert caught.value.exit_code == ExitCode.USAGE


def test_a_long_value_is_cut_in_the_message(read):
    with pytest.raises(SpecError, match=r'model\.activation = "x{56}\.\.\.: expected') as caught:
        read(f'[model]\nactivation = "{"x" * 500}"')

    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("text", "place", "line"),
    [
        ("[run]\nsteps 3\n", "2:7", "steps 3"),
        ("[run\n", "1:5", "[run"),
        ("[run]\nsteps = 3\nsteps = 4", "3:10", "steps = 4"),
        ("[run]\nsteps =", "2:8", "steps ="),
        ('a = """x', "1:9", 'a = """x'),
    ],
)
def test_malformed_toml_is_refused_with_line_column_and_the_line(read, text, place, line):
    with pytest.raises(SpecError, match=rf"a\.toml:{place}: not TOML: ") as caught:
        read(text)

    assert str(caught.value).splitlines()[1] == f"    {line}"


def test_a_file_that_is_not_utf8_is_refused_with_its_line(read):
    with pytest.raises(SpecError, match=r"a\.toml:2: not UTF-8 \(byte 8\), expected a spec in TOML\."):
        read(b"[run]\n# \xff")


def test_a_missing_file_is_refused_with_the_presets_and_the_nearest(tmp_path, monkeypatch):
    monkeypatch.setattr(spec_file, "CONFIGS", tmp_path)
    (tmp_path / "digits-gd.toml").write_text("")

    for name in ("digits-dg", "digits-gd.toml", "./digits-gd.toml"):
        with pytest.raises(SpecError, match=r": no such spec file or preset\. Did you mean 'digits-gd'\? Presets: digits-gd\.$"):
            spec_file.read(name)
    with pytest.raises(SpecError, match=r"^zzz\.toml: no such spec file or preset\. Presets: digits-gd\.$"):
        spec_file.read("zzz.toml")


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(SpecError, match="this is a folder, expected a spec file"):
        spec_file.read(tmp_path)


def test_a_file_that_the_system_does_not_give_is_refused_with_the_systems_reason(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(SpecError, match=r"file/a\.toml: the file cannot be read \(Not a directory\)"):
        spec_file.read(tmp_path / "file" / "a.toml")


def test_a_bare_name_is_a_preset_whatever_the_working_folder_holds(tmp_path, monkeypatch):
    monkeypatch.setattr(spec_file, "CONFIGS", tmp_path / "configs")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "small.toml").write_text("[run]\nsteps = 5")
    (tmp_path / "small").mkdir()
    (tmp_path / "own").write_text("[run]\nsteps = 7")
    monkeypatch.chdir(tmp_path)

    assert spec_file.read("small").run.steps == 5
    assert spec_file.read("own").run.steps == 7


def test_a_preset_says_its_claim_command_and_expectation(tmp_path, monkeypatch):
    monkeypatch.setattr(spec_file, "CONFIGS", tmp_path)
    opening = ["# Claim:  it sharpens", "#         to 2/lr.", "# Run:    eos run a", "# Expect: 2: at once,", "#         then more."]
    (tmp_path / "a.toml").write_text("\n".join([*opening, "", "# not this", "[run]"]))

    (preset,) = spec_file.presets()

    assert preset == spec_file.Preset(
        name="a", path=tmp_path / "a.toml", claim="it sharpens to 2/lr.", command="eos run a", expect="2: at once, then more."
    )


def test_every_spec_in_configs_is_valid():
    paths = sorted(spec_file.CONFIGS.rglob("*.toml"))

    loaded = [spec_file.read(path) for path in paths]

    assert len(loaded) == len(paths)


def test_every_preset_opens_with_claim_command_and_expectation():
    for preset in spec_file.presets():
        assert preset.claim, preset.name
        assert preset.expect, preset.name
        assert preset.command.startswith(f"eos run {preset.name}")


def test_reading_a_spec_imports_neither_jax_nor_numpy():
    program = "import sys, runners.spec_file; sys.exit(bool({'jax', 'numpy', 'textual', 'rich'} & set(sys.modules)))"

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_run_keeps_the_absolute_path_of_its_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec = spec_file.load("cifar10-cnn", ["data.dir=images"])

    assert spec_file.with_absolute_paths(spec).data.dir == str(tmp_path / "images")
