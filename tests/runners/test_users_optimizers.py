"""A user's optax chain as the optimizer: the run of the built-in that it equals, and what is said of one that cannot be used."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from msgspec.structs import replace

from runners import optimizers, spec, thresholds
from runners.errors import SpecError
from runners.records import SharpnessRecord
from runners.train import TrainRunner

BETA1, BETA2, EPS = 0.8, 0.95, 1e-6
SCHEDULE = spec.Cosine(peak=0.01, steps=12, warmup_steps=3, final=0.001)
ASKED = spec.Train(
    data=spec.Digits(num_train=40, num_test=0),
    model=spec.Linear(),
    measure=spec.Measure(sharpness_every=4, ntk_every=0, evaluate_every=0),
    run=spec.Run(steps=12),
)
PARAMS = {"kernel": np.ones((3, 2), np.float32), "bias": np.ones(2, np.float32)}


def adam_like(lr, b1, *, b2, eps):
    return optax.chain(optax.scale_by_adam(b1, b2, eps), optax.scale_by_learning_rate(lr))


def rms_like(lr, *, decay):
    return optax.chain(optax.scale_by_rms(decay, eps=EPS, eps_in_sqrt=False), optax.scale_by_learning_rate(lr))


def two_adams(lr):
    return optax.chain(optax.scale_by_adam(), optax.scale_by_adam(), optax.scale_by_learning_rate(lr))


def keeps_a_key(lr):
    def init(params):
        return jax.random.key(0)

    return optax.GradientTransformation(init, lambda updates, state, params: (updates, state))


def grows(lr):
    def update(updates, state, params):
        return updates, jnp.concatenate([state, state])

    return optax.GradientTransformation(lambda params: jnp.zeros(1), update)


def flattens(lr):
    return optax.stateless(lambda updates, params: jax.tree.map(jnp.ravel, updates))


def custom(function, *, arguments=None, **keys):
    target = function if isinstance(function, str) else f"{__name__}:{function.__name__}"
    return spec.CustomOptimizer(target=target, arguments=arguments or {}, **keys)


def told(runner, *, until=ASKED.run.steps):
    """What a run tells from here on, but for the times, which no two runs share."""
    ticks, records = itertools.count(), []
    while runner.step < until:
        records += [*runner.measure(lambda: next(ticks) * 1.0), *runner.advance(lambda: next(ticks) * 1.0)]
    records += runner.measure(lambda: next(ticks) * 1.0)
    return [replace(record, time=0.0, **({"seconds": 0.0} if isinstance(record, SharpnessRecord) else {})) for record in records]


ADAM_LIKE = custom(adam_like, arguments={"b1": BETA1, "b2": BETA2, "eps": EPS}, lr=SCHEDULE, beta1=BETA1, beta2=BETA2, eps=EPS)


ADAM = spec.Adam(lr=SCHEDULE, beta1=BETA1, beta2=BETA2, eps=EPS)


def test_a_chain_that_equals_adam_has_its_run_its_preconditioned_sharpness_and_its_edge_and_resumes_bit_for_bit():
    runner = TrainRunner(replace(ASKED, optimizer=ADAM_LIKE))
    before = told(runner, until=8)
    state = jax.tree.map(np.array, runner.state())
    after = told(runner)
    runner.restore(state, step=8, first_loss=runner.first_loss)
    resumed = told(runner)

    built_in = told(TrainRunner(replace(ASKED, optimizer=ADAM)))

    assert resumed == after
    assert [*before, *after] == built_in
    assert [record.ratio > 0 for record in built_in if isinstance(record, SharpnessRecord) and record.step] == [True] * 3


@pytest.mark.parametrize(
    ("users", "built_in"),
    [
        (ADAM_LIKE, ADAM),
        (custom("optax:adamw", lr=SCHEDULE, beta1=0.9, beta2=0.999), spec.AdamW(lr=SCHEDULE)),
        (custom(rms_like, arguments={"decay": 0.9}, lr=0.01, eps=EPS), spec.RmsProp(lr=0.01, decay=0.9, eps=EPS)),
        (custom("optax:sgd", arguments={"momentum": 0.5}, lr=SCHEDULE), spec.HeavyBall(lr=SCHEDULE, momentum=0.5)),
    ],
)
def test_a_chain_that_equals_a_built_in_optimizer_has_its_updates_and_its_preconditioner_bit_for_bit(users, built_in):
    one, other = made(users), optimizers.build(built_in)

    (change, state), (wanted, built_in_state) = (updated(each, 3.0, 1.0, -2.0) for each in (one, other))
    found, expected = (change, one.preconditioner(state, 3)), (wanted, other.preconditioner(built_in_state, 3))

    assert jax.tree.map(np.array_equal, found, expected) == jax.tree.map(lambda leaf: True, found)
    assert one.uses_preconditioner == other.uses_preconditioner


def made(table):
    return optimizers.build(table, jax.tree.map(jnp.asarray, PARAMS))


def updated(optimizer, *factors):
    """The last change and the state after gradients that are so many times the parameters, which are ones."""
    state = optimizer.transformation.init(PARAMS)
    for factor in factors:
        change, state = optimizer.transformation.update(jax.tree.map(lambda leaf, f=factor: f * leaf, PARAMS), state, PARAMS)
    return change, state


@pytest.mark.parametrize(
    ("table", "momentum"),
    [
        (custom("optax:adam", arguments={"b1": 0.5, "b2": 0.5, "eps": 0.1}, beta1=0.5, beta2=0.5, eps=0.1), 0.5),
        (custom("optax:adabelief", arguments={"b1": 0.5, "b2": 0.5, "eps": 0.1}, beta1=0.5, beta2=0.5, eps=0.1), 0.5),
        (custom("optax:rmsprop", arguments={"decay": 0.5, "eps": 0.3}, eps_root=0.3), 0.0),
        (custom("optax:rmsprop", arguments={"decay": 0.5, "bias_correction": True}, beta2=0.5, eps_root=1e-8), 0.0),
        (custom("optax:adagrad", eps_root=1e-7), 0.0),
        (custom("optax:amsgrad", arguments={"b1": 0.0, "b2": 0.5}), 0.0),
    ],
)
def test_the_preconditioner_is_what_the_chain_divided_by_in_its_last_update(table, momentum):
    optimizer = made(replace(table, lr=0.5))

    change, state = updated(optimizer, 3.0, 1.0)

    # m = (1 - b) (3 b + 1) for these gradients. The small eps that is not stated is below the rounding.
    diagonal = optimizer.preconditioner(state, 2)
    assert optimizer.uses_preconditioner
    for name in PARAMS:
        np.testing.assert_allclose(change[name], -0.5 * (1 - momentum) * (3 * momentum + 1) / diagonal[name], rtol=1e-6)


def test_before_the_first_update_there_is_no_preconditioner():
    optimizer = made(ADAM_LIKE)

    assert optimizer.preconditioner(optimizer.transformation.init(PARAMS), 0) is None


@pytest.mark.parametrize(
    "table",
    [
        custom("optax:lion"),
        custom("optax:adafactor"),
        custom("optax:novograd"),
        custom(two_adams),
        custom("optax:adamax", second_moment="none"),
    ],
)
def test_a_chain_without_one_second_moment_for_each_parameter_has_no_preconditioner(table):
    optimizer = made(table)

    assert not optimizer.uses_preconditioner
    assert optimizer.preconditioner(updated(optimizer, 3.0, 1.0)[1], 2) is None


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (custom("optax:no_such"), r'optimizer.name = "optax:no_such": .* is not there in'),
        (custom("optax:adam", arguments={"beta": 1}), r"optax:adam raised TypeError when it was made: .*'beta'"),
        (custom("builtins:repr"), r"builtins:repr made a str, expected an optax.GradientTransformation\."),
        (custom("optax:polyak_sgd"), r"optax:polyak_sgd raised TypeError in an update: .*'value'"),
        (custom(flattens), r"flattens changes the parameters by .*'kernel': \(6,\).*, expected their own shapes: .*\(3, 2\)"),
        (custom(keeps_a_key), r"keeps_a_key has a state that cannot be kept: expected arrays of numbers"),
        (custom(grows), r"grows has a state that cannot be kept"),
        (custom("optax:adam", second_moment="v"), r'second_moment = "v": the state of optax:adam has 0 fields of that name'),
        (custom(two_adams, second_moment="nu"), r'second_moment = "nu": the state of .*two_adams has 2 fields'),
    ],
)
def test_what_is_wrong_with_a_users_chain_is_said(table, message):
    with pytest.raises(SpecError, match=message):
        made(table)


def test_a_chain_that_states_its_momentum_has_adams_edge_and_no_other_has_any():
    assert thresholds.threshold(custom("optax:adam", beta1=0.9), 0.1) == thresholds.adam(0.1, 0.9)
    assert thresholds.threshold(custom("optax:adam", beta1=0.0), 0.1) == thresholds.gradient_descent(0.1)
    assert thresholds.threshold(custom("optax:adam"), 0.1) is None
    assert thresholds.formula(custom("optax:adam", beta1=0.9)) == thresholds.formula(spec.Adam())
    assert thresholds.formula(custom("optax:adam")) is None
