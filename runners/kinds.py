"""Which runner carries out which kind of experiment."""

from runners.experiments import Flow, Function, LimitingFlow, LinearModel, QuadraticModel, Sde, SelfStabilization, SgdEnsemble, Spec
from runners.session import Runner
from runners.spec import Train


def build(spec: Spec, *, fresh: bool = True) -> Runner:
    """The runner of a spec, compiled and ready at step 0.

    Args:
        spec: What is asked for.
        fresh: Whether the run begins now, and does not go on from a checkpoint.

    Raises:
        EosError: If it cannot be built: parts of the spec do not fit each other, or the data cannot be read.
    """
    # A kind's modules are imported when it is asked for: jax and what stands on it take a second.
    match spec:
        case Flow(flow=SelfStabilization()):
            from runners.self_stabilization import SelfStabilizationRunner

            return SelfStabilizationRunner(spec)
        case Flow(flow=LimitingFlow()):
            from runners.limiting import LimitingFlowRunner

            return LimitingFlowRunner(spec)
        case Flow():
            from runners.flow import FlowRunner

            return FlowRunner(spec)
        case Train():
            from runners.train import TrainRunner

            return TrainRunner(spec, fresh=fresh)
        case LinearModel():
            from runners.linear_model import LinearModelRunner

            return LinearModelRunner(spec)
        case QuadraticModel():
            from runners.quadratic_model import QuadraticModelRunner

            return QuadraticModelRunner(spec)
        case Sde():
            from runners.sde import SdeRunner

            return SdeRunner(spec)
        case SgdEnsemble():
            from runners.sgd_ensemble import SgdEnsembleRunner

            return SgdEnsembleRunner(spec)
        case Function():
            from runners.function import FunctionRunner

            return FunctionRunner(spec)
