"""Four devices, which XLA makes of one processor, against one, each in a process of its own."""

import json
import os
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from msgspec.structs import replace

from runners import models, objectives, optimizers
from runners.control import Requests, Signals
from runners.gauges.gauges import GAUGES
from runners.gauges.limiting_flow import LimitingFlowGauge
from runners.log_writer import LogWriter
from runners.measure import operators
from runners.measure.batch_sharpness import batch_sharpness
from runners.measure.critical_sharpness import loss_along
from runners.measure.eigenvalues import Accuracy
from runners.measure.ntk import NtkMeter
from runners.measure.operators import Problem
from runners.objectives import Objective
from runners.programs import Program
from runners.records import SERIES_KINDS
from runners.run_folder import RunFolder
from runners.sitting import open_session
from runners.spec import Adam, Gaussian, Measure, Mlp, Run, Sgd, Train
from runners.train import Loop, State
from tests.runners.measure import dense

COUNT = 4
EVERYTHING = Measure(
    **{
        f"{name}_every": 3 for name in ("sharpness", "ntk", "evaluate", *(gauge.name for gauge in GAUGES if gauge is not LimitingFlowGauge))
    },
    verify_every=0,
    top_k=2,
    smallest=True,
    tolerance=1e-9,
    chunk_size=18,
    hessian_trace_hvps=8,
    density_order=6,
    batch_sharpness_batches=4,
    batch_sharpness_full=True,
)
NEVER = {f"{gauge.name}_every": 0 for gauge in GAUGES}
NOT_DIVISIBLE = Train(
    data=Gaussian(num_train=61, num_test=7, num_features=6, num_outputs=2),
    model=Mlp(width=4, depth=2),
    optimizer=Sgd(lr=0.1, batch_size=16),
    measure=EVERYTHING,
    run=Run(steps=6, checkpoint_every=3, precision="float64"),
)
DIVISIBLE = replace(NOT_DIVISIBLE, data=Gaussian(num_train=64, num_test=8, num_features=6, num_outputs=2))
FROM_PROBES = replace(EVERYTHING, **NEVER | {"gauss_newton_every": 3}, chunk_size="auto", ntk_method="hutchinson")
SPECS = {
    "everything": NOT_DIVISIBLE,
    "full batch, one chunk": replace(DIVISIBLE, optimizer=Sgd(lr=0.1), measure=FROM_PROBES),
    "preconditioned": replace(DIVISIBLE, optimizer=Adam(lr=0.01, batch_size=7), measure=replace(EVERYTHING, **NEVER, ntk_every=0)),
}
SHORT = replace(NOT_DIVISIBLE, optimizer=Sgd(lr=0.1, batch_size=7), measure=Measure(sharpness_every=3, ntk_every=0, chunk_size=18))


def sit(folder, spec):
    """A run in this process, from the newest checkpoint if there is one."""
    folder.path.mkdir(exist_ok=True)
    fresh = not folder.log.exists()
    log, requests = LogWriter(folder.log), Requests(folder.control, from_start=fresh)
    open_session(folder, spec, log=log, signals=Signals(), requests=requests, fresh=fresh).run()
    log.close()


def quick(runs):
    """What a few computations that go through examples give and cost."""
    compute(runs, ("hessian in chunks", "ntk from probes", "update", "evaluation"))


def thorough(runs):
    """That of all; runs of the specs that measure much; a short run, on several devices also one that is resumed."""
    compute(runs, None)
    with dense.double_precision():
        for name, spec in SPECS.items():
            sit(RunFolder(runs / name), spec)
        sit(RunFolder(runs / "whole"), SHORT)
        if jax.device_count() > 1:
            shutil.copytree(runs / "whole", runs / "resumed")
            shutil.rmtree(runs / "resumed" / "checkpoints" / "6")
            sit(RunFolder(runs / "resumed"), SHORT)


def compute(runs, names):
    with dense.double_precision():
        chosen = {name: computation for name, computation in computations().items() if names is None or name in names}
        programs = {name: (Program(function, *arguments), arguments) for name, (function, *arguments) in chosen.items()}
        (runs / "found.json").write_text(json.dumps({name: told(*pair) for name, pair in programs.items()}))


def told(program, arguments):
    """A program's numbers in a row, and its operations on each device as the compiler counts them."""
    values = [np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(program(*arguments))]
    return {"values": np.concatenate(values).tolist(), "operations": program._compiled.result().cost_analysis()["flops"]}


def computations():
    """By name: a function and its arguments, each of 61 examples."""
    model = models.build(Mlp(width=4, depth=2), input_shape=(6,), num_outputs=2, seed=0, dtype="float64")
    objective, draw = Objective("cross_entropy", 0.1), np.random.default_rng(0)
    params, x, y, v = model.params, draw.standard_normal((61, 6)), draw.integers(0, 2, 61), draw.standard_normal(model.num_params)
    whole, chunked = (Problem(model.apply, objective, size) for size in (61, 18))
    table, key, one = Sgd(lr=0.1, batch_size=30), jax.random.key(0), jnp.ones(())
    loop = Loop(model, objective, optimizers.build(table), table)
    batches = {"batch_size": 7, "num_batches": 3, "with_replacement": True, "with_full_hessian": True}

    def scaled(params, x):
        return model.apply(jax.tree.map(lambda leaf: 2 * leaf, params), x)

    def ntk(method, problem):
        options = {"num_probes": 2, "num_eigenvalues": 0, "accuracy": Accuracy(1e-3, 10), "with_norms": method == "exact"}
        meter = NtkMeter(problem, params, x=x, method=method, **options)
        return (lambda params, x, key: meter._measure(params, x, meter.start, key)), params, x, key

    def update(params, x, y):
        return loop._update(State(params, loop.optimizer.transformation.init(params), followed=None, lr=None), x, y, 0)

    return {
        "hessian": (lambda params, x, y, v: operators.hessian(whole, params, x=x, y=y)[1](v), params, x, y, v),
        "hessian in chunks": (lambda params, x, y, v: operators.hessian(chunked, params, x=x, y=y)[1](v), params, x, y, v),
        "gauss_newton": (lambda params, x, v: operators.gauss_newton(whole, params, x=x)(v), params, x, v),
        "gauss_newton in chunks": (lambda params, x, v: operators.gauss_newton(chunked, params, x=x)(v), params, x, v),
        "gradient": (lambda params, x, y: operators.gradient(chunked, params, x=x, y=y), params, x, y),
        "loss along": (lambda params, x, y, v: loss_along(chunked, params, v, x=x, y=y)(one), params, x, y, v),
        "batches": (lambda params, x, y, key: batch_sharpness(chunked, params, x=x, y=y, key=key, **batches), params, x, y, key),
        "ntk": ntk("exact", whole),
        "ntk from probes": ntk("hutchinson", whole),
        "ntk of groups": ntk("hutchinson", Problem(scaled, objective, 18)),
        "update": (update, params, x, y),
        "evaluation": (lambda params, x, y: objectives._chunk_sums(objective, model.apply, params, x, y), params, x, y),
    }


def on_one_and_several(function, tmp_path_factory):
    """Folders with what the function leaves on one device and on several."""
    folders = [tmp_path_factory.mktemp("devices") for _ in range(2)]
    processes = [started(function, folder, count) for folder, count in zip(folders, (1, COUNT), strict=True)]
    for process in processes:
        complaint = process.communicate()[1]
        assert process.returncode == 0, complaint
    return folders


def started(function, folder, count):
    environ = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={count}"}
    code = f"import pathlib; from tests.runners import test_devices; test_devices.{function.__name__}(pathlib.Path({str(folder)!r}))"
    return subprocess.Popen([sys.executable, "-c", code], env=environ, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    return on_one_and_several(quick, tmp_path_factory)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    return on_one_and_several(thorough, tmp_path_factory)


@pytest.fixture(params=["few", pytest.param("both", marks=pytest.mark.slow)])
def computed(request):
    """What was computed on one device and on several, by name."""
    return [json.loads((runs / "found.json").read_text()) for runs in request.getfixturevalue(request.param)]


def lines(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def measured(folder):
    """Every record but for times, in one pytree."""
    found = [line for line in lines(folder) if line["kind"] in SERIES_KINDS]
    return [{key: value for key, value in line.items() if key not in ("time", "seconds")} for line in found]


def close(several, one):
    """Whether all numbers of these records agree to rounding, and all else is equal; but for what solves left, which rounding changes."""
    several, one = (
        [{key: value for key, value in record.items() if not is_left_over(key)} for record in records] for records in (several, one)
    )
    assert jax.tree.structure(several) == jax.tree.structure(one)
    pairs = list(zip(jax.tree.leaves(several), jax.tree.leaves(one), strict=True))
    assert [pair for pair in pairs if not isinstance(pair[1], float) and pair[0] != pair[1]] == []
    found, wanted = np.array([pair for pair in pairs if isinstance(pair[1], float)]).T
    np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-12)


def is_left_over(key):
    return key.endswith(("error", "errors", "residual", "num_hvps"))


def test_what_goes_through_examples_gives_the_same_on_several_devices(computed):
    one, several = computed

    for name, found in one.items():
        wanted = np.asarray(found["values"])
        np.testing.assert_allclose(several[name]["values"], wanted, rtol=0, atol=dense.ROUNDING * np.linalg.norm(wanted), err_msg=name)


def test_each_device_does_its_share_of_the_work(computed):
    one, several = computed

    # The compiler counts a loop's body once, and groups of examples are shared out whole, turns of a loop.
    shares = {name: several[name]["operations"] / one[name]["operations"] for name in one if name != "ntk of groups"}

    # A quarter of the examples, rounded up, and what each device does for itself, such as drawing random numbers.
    assert {name: share for name, share in shares.items() if not 0.25 < share < 0.5} == {}


@pytest.mark.slow
def test_a_run_on_several_devices_leaves_the_log_of_one(both):
    one, several = (measured(runs / "whole") for runs in both)

    close(several, one)


@pytest.mark.slow
def test_a_run_on_several_devices_resumes_bit_for_bit(both):
    whole, resumed = (measured(both[1] / name) for name in ("whole", "resumed"))

    assert [line["step"] for line in lines(both[1] / "resumed") if line.get("event") == "resumed"] == [3]
    assert resumed == whole


@pytest.mark.slow
def test_the_header_says_how_many_devices_compute(both):
    assert [lines(runs / "whole")[0]["device"] for runs in both] == ["cpu", f"{COUNT} x cpu"]


@pytest.mark.slow
def test_the_number_of_devices_shows_in_no_quantity(both):
    one, several = both

    compared = [line for name in SPECS for line in measured(one / name)]
    assert {line["kind"] for line in compared} == {*SERIES_KINDS} - {"flow", "prediction", "limiting_flow", "tails"}
    assert {line["method"] for line in compared if line["kind"] == "ntk"} == {"exact, by layer", "hutchinson per example, by layer"}
    for name in SPECS:
        close(measured(several / name), measured(one / name))
