"""A job: everything one doorbell runs, as a DRAM map, a program and the bytes to upload."""

from dataclasses import dataclass
from functools import partial

import numpy as np

from eftrain_hdl.isa import DESCRIPTOR_BYTES

from .errors import UserError
from .pack import program
from .pack.fold import fold_pictures
from .pack.parameters import (
    pack_biases,
    pack_norms,
    pack_parameters,
    unpack_biases,
    unpack_norms,
    unpack_parameters,
)
from .pack.tensors import pack_labels, pack_map, unpack_map
from .plan.layout import RECORD_BYTES, ceil_div, label_bytes
from .plan.liveness import share
from .plan.memory import MemoryMap
from .plan.schedule import INPUT, LABELS, LOGITS, MOMENTUM, RECORDS

PROGRAM = "program"

MAX_BATCH = (1 << 16) - 1
"""Images a descriptor can say."""


@dataclass(frozen=True)
class Section:
    """One part of a job: ``fit``, ``evaluate`` or ``predict`` over a named data set.

    Parameters
    ----------
    kind : str
    data : str
        Name of the data set; sections that share it share its memory.
    samples, batch, epochs : int
        A batch larger than the data set is cut down to it.

    Raises
    ------
    UserError
        If a batch is larger than a descriptor can say.
    """

    kind: str
    data: str
    samples: int
    batch: int
    epochs: int = 1

    def __post_init__(self):
        object.__setattr__(self, "batch", min(self.batch, self.samples))
        if self.batch > MAX_BATCH:
            raise UserError(f"Batch size {self.batch} is too large; use at most {MAX_BATCH}.")

    @property
    def batches(self):
        """Batches of one epoch."""
        return ceil_div(self.samples, self.batch)

    @property
    def steps(self):
        """Result records the section writes."""
        return 0 if self.kind == "predict" else self.epochs * self.batches

    @property
    def images_name(self):
        return f"images.{self.data}"

    @property
    def labels_name(self):
        return f"labels.{self.data}.{self.batch}"


def reserve(memory, schedule, sections, steps):
    """Lay out all that sections use but the program.

    Parameters
    ----------
    memory : MemoryMap
        Receives the regions; it may become larger than the device.
    schedule : Schedule
    sections : list of Section
    steps : list of list of LayerPass
        One largest batch of each section; tiles do not matter.
    """
    add = memory.add
    largest = max(section.batch for section in sections)
    training = any(section.kind == "fit" for section in sections)
    used = {
        name
        for layer_passes in (schedule.setup(), *steps)
        for layer_pass in layer_passes
        for name in layer_pass.tensors()
    }
    sizes = schedule.tensors(largest, training)
    sizes = {name: nbytes for name, nbytes in sizes.items() if name in used}
    activations = {name: sizes.pop(name) for name in schedule.activations() & sizes.keys()}
    for name, nbytes in sizes.items():
        add(name, nbytes)
    for number, group in enumerate(share(steps, activations)):
        if len(group) > 1:
            memory.share(f"shared.{number}", group)
        else:
            add(*group.popitem())
    for section in sections:
        add(section.images_name, section.samples * schedule.input_map.image_bytes)
        if section.kind == "predict":
            add(LOGITS, section.samples * schedule.logits_map.image_bytes)
        else:
            add(section.labels_name, section.batches * label_bytes(section.batch))
    add(RECORDS, max(1, sum(section.steps for section in sections)) * RECORD_BYTES)


class Job:
    """Plan and program of one doorbell.

    Parameters
    ----------
    schedule : Schedule
    sections : list of Section
        Run in this order. A ``predict`` section stands alone, because it uses the result pointer
        for logits.
    base, size : int
        Device memory that may be used, in bytes.

    Attributes
    ----------
    memory : MemoryMap
    descriptors : int
        Length of the program.
    steps : int
        Result records it writes.
    dense_macs : int
        Multiply-adds of all passes, counted without skipping padding.

    Raises
    ------
    UserError
        If a layer does not fit the buffers, or the run does not fit the memory.
    """

    def __init__(self, schedule, sections, base, size):
        assert len(sections) == 1 or all(s.kind != "predict" for s in sections)
        self.schedule = schedule
        self.sections = sections
        self.memory = MemoryMap(base, size)
        self.steps = sum(section.steps for section in sections)
        self.dense_macs = 0
        self._passes = {}
        steps = [self._steps(section, section.batch) for section in sections]
        reserve(self.memory, schedule, sections, steps)
        self.memory.check()  # First, because addresses past the memory may not fit a descriptor.
        blob = program.assemble(self._items())
        self.descriptors = len(blob) // DESCRIPTOR_BYTES
        self.memory.add(PROGRAM, len(blob))
        self.memory.check()
        self._program = blob

    def _steps(self, section, images):
        """The passes of one batch."""
        if (section.kind, images) not in self._passes:
            schedule = self.schedule
            self._passes[section.kind, images] = {
                "fit": schedule.training_step,
                "evaluate": schedule.evaluation_step,
                "predict": lambda images: schedule.forward(images, output=LOGITS),
            }[section.kind](images)
        return self._passes[section.kind, images]

    def _items(self):
        addresses = self.memory.addresses()
        return [item for section in self.sections for item in self._section(section, addresses)]

    def _section(self, section, addresses):
        schedule, predicting = self.schedule, section.kind == "predict"
        local = {INPUT: addresses[section.images_name]}
        pointers = {INPUT: program.INPUT_POINTER}
        if predicting:
            pointers[LOGITS] = program.RESULT_POINTER
        else:
            local[LABELS] = addresses[section.labels_name]
            pointers |= {LABELS: program.LABEL_POINTER, RECORDS: program.RESULT_POINTER}
        slots = program.Slots(addresses | local, pointers)
        repeats = {section.batch: section.samples // section.batch}

        def step(images):
            layer_passes = self._steps(section, images)
            macs = sum(layer_pass.macs for layer_pass in layer_passes)
            self.dense_macs += macs * section.epochs * repeats.get(images, 1)
            return [program.Step(layer_pass, slots) for layer_pass in layer_passes]

        advance = program.Advance(
            input=section.batch * schedule.input_map.image_bytes,
            labels=0 if predicting else label_bytes(section.batch),
            results=section.batch * schedule.logits_map.image_bytes if predicting else RECORD_BYTES,
        )
        setup = [] if section.kind == "fit" else schedule.setup()
        return [
            *(program.Step(layer_pass, slots) for layer_pass in setup),
            *program.epochs(section.epochs, section.samples, section.batch, advance, step),
        ]

    @property
    def program(self):
        """The descriptors, as bytes."""
        return self._program

    def uploads(self, parameters, momentum, datasets):
        """What to write before the doorbell: iterator of ``(address, bytes)``.

        Parameters
        ----------
        parameters, momentum : dict
            Name to fp32 array.
        datasets : dict
            Name to ``(x [N, C, H, W] or [N, F], labels [N] or None)``.
        """
        schedule, regions = self.schedule, self.memory.regions
        packed = pack_parameters(schedule.stages, parameters)
        if any(name.startswith(MOMENTUM) for name in regions):
            moving = pack_parameters(schedule.stages, momentum)
            moving = {MOMENTUM + name: data for name, data in moving.items()}
            packed |= {name: data for name, data in moving.items() if name in regions}
        packed |= pack_biases(schedule.stages, parameters, momentum)
        packed |= pack_norms(schedule.stages, parameters, momentum)
        group = schedule.config.group
        for section in self.sections:
            x, labels = datasets[section.data]
            pictures = x.reshape(len(x), *schedule.picture_shape)
            if schedule.input_fold:
                pictures = fold_pictures(pictures, schedule.input_fold)
            packed[section.images_name] = pack_map(pictures, group).tobytes()
            if section.kind != "predict":
                packed[section.labels_name] = pack_labels(labels, section.batch)
        for name in [RECORDS, *schedule.zeroed()]:
            if name in regions:
                packed[name] = bytes(regions[name].nbytes)
        packed[PROGRAM] = self._program
        for name, data in packed.items():
            assert len(data) == regions[name].nbytes, name
            yield regions[name].address, data

    def run(self, driver, parameters, momentum, datasets, on_record=None):
        """Upload, ring the doorbell once, and wait. Returns the driver's ``Outcome``."""
        driver.require(self.schedule.config)
        self._uploaded, self._momentum = parameters, momentum
        for address, data in self.uploads(parameters, momentum, datasets):
            driver.write(address, data)
        return driver.run(
            self.memory.address(PROGRAM),
            self.descriptors,
            window=(self.memory.base, self.memory.limit),
            records=(self.memory.address(RECORDS), self.steps),
            on_record=on_record,
        )

    def parameters(self, driver):
        """The network's parameters and running statistics, ``{name: array}``.

        Those that were trained, and all statistics, are read back; frozen ones are as uploaded.
        """
        stages, read = self.schedule.stages, partial(self._read, driver)
        norms, _ = unpack_norms(stages, read, self._uploaded)
        biases, _ = unpack_biases(stages, read)
        return self._uploaded | unpack_parameters(stages, read) | biases | norms

    def momentum(self, driver):
        """Read the momentum back, of frozen parameters as uploaded; empty if the job has none."""
        if not self.schedule.optimizer.momentum:
            return {}
        stages, read = self.schedule.stages, partial(self._read, driver)
        _, norms = unpack_norms(stages, read, self._uploaded)
        _, biases = unpack_biases(stages, read)
        weights = unpack_parameters(stages, lambda name: read(MOMENTUM + name))
        return self._momentum | weights | biases | norms

    def logits(self, driver):
        """Scores of a ``predict`` job, fp32 ``[N, classes]``."""
        data = self._read(driver, LOGITS)
        logits_map = self.schedule.logits_map
        array = unpack_map(data, self.sections[0].samples, logits_map.shape, logits_map.group)
        return np.ascontiguousarray(array[:, :, 0, 0])

    def _read(self, driver, name):
        region = self.memory.regions[name]
        return driver.read(region.address, region.nbytes)
