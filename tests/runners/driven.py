"""Runners that are taken along by hand, without a session."""

import itertools

from msgspec.structs import replace

from runners import environment, kinds
from runners.records import SharpnessRecord


def built(spec):
    environment.prepare(spec.run.precision)
    return kinds.build(spec)


def run(runner, until=None):
    """Records up to a step, without times."""
    clock = itertools.count(0.0, 0.0).__next__
    found = []
    while True:
        found += runner.measure(clock)
        if runner.step >= (until or runner.steps):
            return [replace(record, seconds=0.0) if isinstance(record, SharpnessRecord) else record for record in found]
        found += runner.advance(clock)


def of(kind, records):
    return [record for record in records if isinstance(record, kind)]
