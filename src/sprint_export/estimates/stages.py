"""Seconds and memory of every stage of a run, from counted work and a measured machine.

    forward     products / rates  +  bytes / memory or caches  +  CALL x operators
    a stage     prompts or pictures x forward x what it does beside  +  weights it reads  +  graphs it makes
Work is counted (counting.py, jobs.py) and rates are measured (machine.py). What neither says is a handful of constants: how
often a stage passes over its values, and what an operator costs torch and a builder. They were fitted by benchmarks/estimates.py,
which prints estimate and actual side by side (docs/decisions/0031-estimates.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from sprint_export.estimates.counting import Count
from sprint_export.estimates.machine import Machine, Rates
from sprint_export.progress import Step

FLOAT = 4  # bytes
# Passes over the values of weights or of what layers read, each a read and a write at the speed of memory.
LOADING = 3  # weights from the disk: read, checked for NaN, widened
HEARING = 6  # what a record looks at: largest values, sums, histograms
SMOOTHING = 1
CHOOSING = 1  # scales of weights that are tried
ROUNDING = 5  # what a layer reads, and its weight, rounded to eight bits and back
COMPARING = 13  # a graph's weights beside what they are to be: read, rounded anew, restored from the file
WRITING = 8  # a graph's weights: folded, rounded, written, hashed
PRICING = 3  # a graph's weights that are made up: rounded, written
OPENING = 4  # by a runtime: read and folded to float32
# In operators that have nothing to compute (Machine.operator): the rest of what Python and builders do.
CALL = 4  # an operator in a network
EXPORT = 400_000  # a network, whatever its size
CAPTURE = 2500  # an operator that torch captures and translates
REWRITE = 1000  # one of the whole graph: rewritten, checked, written
OPEN = 500  # the same by a runtime that opens it
BUILD = 1800  # the same by a builder of engines
RANGE = 1500  # an observer's choice for one layer
RUNTIME = 0.7  # of torch's seconds, by a runtime that fuses operators
CHECKING_BYTES_S = 1.5e9  # read and hashed
BUILDING_BYTES_S = 2.5e8  # of graph, through TensorRT's builder on one core
# Memory: tensors of the largest size that are held at once, and how much of a network a builder holds.
TENSORS_EXPORTING = 1
TENSORS_STREAMING = 1.5  # as it is stored in 16 bits, and widened
BUILDER_COPIES = 1.3
MOST_HELD = 4e9  # bytes of a network that torch holds whole to draw; larger ones are streamed
LATER = 3e8  # bytes of libraries that come after torch: ONNX, runtimes, the builder


@dataclass(frozen=True)
class Network:
    """One network of a job.

    Args:
        count: of one prompt through it, specialized.
        runs: of it for one prompt of a calibration, over all schedules.
        steps: runs for one picture.
        stock: what the stock module takes of the specialized one's time.
        rows: prompts that pass it together.
        shown: share of a picture that a calibration shows it.
        smoothed: values of weights that smoothing looks at.
        layers: that are rounded.
        captured: operators of it that an export captures; the rest are repetitions.
        graph: bytes of its files, engines apart.
    """

    count: Count
    runs: int = 1
    steps: int = 1
    stock: float = 1.0
    rows: int = 1
    shown: float = 1.0
    smoothed: int = 0
    layers: int = 0
    captured: float = 0.0
    graph: int = 0

    @property
    def share(self) -> float:
        """Of its operators, those of the blocks that are built for a price."""
        return self.captured / self.count.operators if self.count.operators else 0.0


@dataclass(frozen=True)
class Job:
    """What one target's run does. `kept` is by stage what an earlier run, or the target before, has done of it.

    Args:
        networks: by role.
        prompts: that are calibrated on; 0 where nothing is measured.
        pictures: that are validated; 0 where nothing is.
        drawn: pictures of these that the reference has to draw.
        samples: prompts on which networks are compared alone.
        is_fed: torch's rounded networks run on these only, fed what the exported ones were.
        is_rounded: whether layers are quantized.
        priced: engines of each network that are built for their prices, to see which layers pay; 0 where none are.
        references: drawings of the bundle's own reference; 0 where a network is missing.
        built_for: the device that engines are built for; "" where none are.
        target: its name in a run for several, else "".
        kept: stage -> why it takes no time.
    """

    networks: Mapping[str, Network]
    prompts: int = 0
    pictures: int = 0
    drawn: int = 0
    samples: int = 0
    is_fed: bool = False
    is_rounded: bool = False
    priced: int = 0
    references: int = 0
    built_for: str = ""
    target: str = ""
    kept: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Estimate:
    """One stage, or one network's part of it: expected seconds, the most bytes it holds beside libraries, why it is skipped."""

    step: Step
    seconds: float
    memory: float = 0.0
    kept: str = ""


def estimate_job(job: Job, machine: Machine) -> list[Estimate]:
    """All stages of a job behind loading and specializing, in the order a run goes through them."""
    found = list(_Stages(job, machine).list())
    return [Estimate(each.step, 0.0, 0.0, job.kept[each.step.stage]) if each.step.stage in job.kept else each for each in found]


Measure = Callable[[Network], float]


class _Stages:
    """The formulas, each a line or two."""

    def __init__(self, job: Job, machine: Machine) -> None:
        self.job, self.machine = job, machine

    def list(self) -> Iterator[Estimate]:
        job = self.job
        if job.priced:
            yield from self._each("pricing layers", self._price, lambda each: LATER + BUILDER_COPIES * each.graph * each.share)
        if job.prompts:
            yield from self._each("calibrating", self._calibrate, self._stream)
        if job.is_rounded:
            for role, network in job.networks.items():
                if network.smoothed:
                    yield self._one("smoothing", role, self._pass(network.smoothed * FLOAT, SMOOTHING), self._stream(network))
                yield self._one("choosing ranges", role, self._choose(network), 0.0)
        yield from self._each("exporting", self._export, lambda each: TENSORS_EXPORTING * each.count.largest * FLOAT)
        if job.built_for:
            yield from self._each("building", self._build, lambda each: LATER + BUILDER_COPIES * each.graph)
        if job.references:
            drawing = sum(self._run(each, job.references) for each in job.networks.values())
            yield self._one("drawing", "reference", drawing, max(map(self._open, job.networks.values())))
        if job.pictures:
            yield from self._validate()

    def _validate(self) -> Iterator[Estimate]:
        job, rates = self.job, self.machine.device
        files = sum(each.graph for each in job.networks.values()) * (2 if job.built_for else 1)
        yield self._one("checking files", "", files / CHECKING_BYTES_S, 0.0)
        loading = sum(self._load(each) for each in job.networks.values()) if job.drawn else 0.0
        drawing = sum(self._draw(each, job.drawn, rates) * each.stock for each in job.networks.values())
        yield self._one("PyTorch reference", "", loading + drawing, max(map(self._hold, job.networks.values())))
        exported = list(self._each("exported", lambda each: self._run(each, job.pictures), self._open))
        count = job.samples if job.is_fed else job.pictures
        rounded = list(self._each("torch, rounded", lambda each: self._round(each, count), self._hold))
        blocks = sum(self._load(each) + self._draw(each, 1, rates) + self._run(each, 1) for each in job.networks.values())
        opened = max(map(self._open, job.networks.values()))
        if job.is_fed:  # rounded networks are run block by block, and what they gave is kept
            yield from exported
            yield self._one("comparing blocks", "", blocks + sum(each.seconds for each in rounded), opened)
            yield from (replace(each, seconds=0.0, kept="done while blocks are compared") for each in rounded)
        else:
            blocks += sum(self._round(each, 1) for each in job.networks.values())
            compared = sum(self._run(each, job.samples) for each in job.networks.values())
            yield from (*rounded, *exported)
            yield self._one("comparing blocks", "", blocks, opened)
            yield self._one("comparing", "", compared, opened)
        weights = sum(self._pass(each.count.values * FLOAT, COMPARING) for each in job.networks.values())
        yield self._one("comparing weights", "", weights, 0.0)

    def _each(self, stage: str, seconds: Measure, memory: Measure) -> Iterator[Estimate]:
        for role, network in self.job.networks.items():
            yield self._one(stage, role, seconds(network), memory(network))

    def _one(self, stage: str, role: str, seconds: float, memory: float) -> Estimate:
        return Estimate(Step(stage, role, self.job.target), seconds, memory)

    def _pass(self, size: float, times: float) -> float:
        """Bytes that are read and written so many times, in the processor's memory."""
        return 2 * size * times / self.machine.host.memory

    def _watch(self, network: Network, times: float) -> float:
        """Seconds of so many passes over what layers read for one prompt, where they read it."""
        return 2 * network.count.heard * times / self.machine.device.memory

    def _call(self, operators: float) -> float:
        return operators * self.machine.host.operator

    def _forward(self, network: Network, rates: Rates) -> float:
        """One prompt, once, in torch."""
        count = network.count
        products = count.matmul / rates.matmul + count.conv / rates.conv
        return products + count.moved / rates.memory + count.cached / rates.cache + CALL * count.operators * rates.operator

    def _draw(self, network: Network, pictures: int, rates: Rates) -> float:
        return pictures * network.steps * self._forward(network, rates)

    def _load(self, network: Network) -> float:
        return self._pass(network.count.values * FLOAT, LOADING)

    def _round(self, network: Network, pictures: int) -> float:
        """A network in torch with the exported one's rounding."""
        passes = ROUNDING * self.job.is_rounded
        drawing = self._draw(network, pictures, self.machine.device) + pictures * network.steps * self._watch(network, passes)
        return self._load(network) + self._pass(network.count.values * FLOAT, passes) + drawing

    def _calibrate(self, network: Network) -> float:
        prompts = self.job.prompts
        chunks = -(-prompts // network.rows)
        rates = replace(self.machine.device, matmul=self.machine.device.linear)
        each = self._forward(network, rates) + self._watch(network, HEARING)
        return network.runs * (prompts * network.shown * each + chunks * self._load(network))

    def _choose(self, network: Network) -> float:
        return self._call(network.layers * RANGE) + self._pass(network.count.values * FLOAT, CHOOSING)

    def _export(self, network: Network) -> float:
        weights = self._pass(network.count.values * FLOAT, WRITING) + network.graph / self.machine.disk
        python = EXPORT + CAPTURE * network.captured + REWRITE * network.count.operators
        return self._call(python) + weights

    def _price(self, network: Network) -> float:
        """Engines of few blocks, captured once."""
        weights, graph = network.count.values * network.share * FLOAT, network.graph * network.share
        each = self._call((REWRITE + BUILD) * network.captured) + self._pass(weights, PRICING) + graph / BUILDING_BYTES_S
        return (self._call(EXPORT + CAPTURE * network.captured) + self.job.priced * each) if network.layers else 0.0

    def _build(self, network: Network) -> float:
        writing = network.graph / BUILDING_BYTES_S + network.graph / self.machine.disk
        return self._call(network.count.operators * BUILD) + writing

    def _run(self, network: Network, pictures: int) -> float:
        """A network by the runtime of its target, on the processor."""
        opening = self._pass(network.count.values * FLOAT, OPENING) + self._call(OPEN * network.count.operators)
        return opening + RUNTIME * self._draw(network, pictures, self.machine.host)

    def _stream(self, network: Network) -> float:
        """Activations of a chunk, and the largest weight as it is stored and widened."""
        rows = min(network.rows, self.job.prompts)
        return rows * network.shown * network.count.live + TENSORS_STREAMING * network.count.largest * FLOAT

    def _hold(self, network: Network) -> float:
        """A network in float32, streamed where it is large, and what one picture makes of it."""
        whole, largest = network.count.values * FLOAT, TENSORS_STREAMING * network.count.largest * FLOAT
        return LATER + (whole if whole <= MOST_HELD else largest) + network.count.live

    def _open(self, network: Network) -> float:
        """A network in a runtime: weights as stored, the largest widened, and what one picture makes of it."""
        return LATER + network.graph + TENSORS_STREAMING * network.count.largest * FLOAT + network.count.live
