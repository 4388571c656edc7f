"""What a build of a board's bitstream leaves behind: ``config.json`` beside the bitstream.

The file says which core the bitstream holds, so that a program is never run on another one:

===================== =============================================================================
``board``, ``part``   name in :mod:`eftrain.boards`, and the part as the vendor's tools call it
``array``, ``format`` for example ``"16x16"`` and ``"fp32"``
``clock_hz``          clock of the core
``isa_version``       version of the descriptor format
``gateware_version``  as the VERSION register says it, for example ``"0.1.0"``
``buffers``           ``stream_depth``, ``stationary_depth``, ``accumulator_depth``,
                      ``max_classes``, ``max_outstanding``
``batch_norm``        whether the core has the units for it
``verilog_sha256``    of the core's Verilog text (``eftrain_hdl.verilog.generate(config)``)
``build``             its first 32 bits, 8 hexadecimal digits: what the BUILD register reads as
``memory``            ``base`` and ``size`` in bytes, as the core sees the memory
``serial``            ``{"baud": ...}``, or null where the host is on the chip
``bitstream``         ``file`` (in the same folder) and its ``sha256``, or null if none was built
===================== =============================================================================

Imports nothing but the standard library and what a board has.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

from eftrain_hdl import isa
from eftrain_hdl.config import CoreConfig
from eftrain_hdl.version import VERSION

from .boards import find
from .devices.base import DeviceError
from .errors import UserError

__all__ = ["CONFIG_FILE", "Artefact", "file_sha256"]

CONFIG_FILE = "config.json"

BUFFERS = (
    "stream_depth",
    "stationary_depth",
    "accumulator_depth",
    "max_classes",
    "max_outstanding",
)


def file_sha256(path):
    """Hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class Artefact:
    """The contents of ``config.json``; see the module for the entries.

    Attributes
    ----------
    folder : path or None
        Where it was read from or written to; not part of the file.
    """

    board: str
    part: str
    array: str
    format: str
    clock_hz: int
    isa_version: int
    gateware_version: str
    buffers: dict
    batch_norm: bool
    verilog_sha256: str
    build: str
    memory: dict
    serial: dict | None = None
    bitstream: dict | None = None
    folder: Path | None = field(default=None, compare=False)

    @classmethod
    def describe(cls, board, config, verilog, *, clock_hz=None, baud=None, memory=None):
        """The artefact of a core, still without a bitstream.

        Parameters
        ----------
        board : str or eftrain.boards.Board
        config : CoreConfig
        verilog : str
            ``eftrain_hdl.verilog.generate(config)``, or the hexadecimal SHA-256 of it.
        clock_hz : int, optional
            The board's, if it is not given.
        baud : int, optional
            Of the serial line, for boards that have one.
        memory : tuple, optional
            (base, bytes) as the core sees it; the board's, if it is not given.
        """
        board = find(board) if isinstance(board, str) else board
        digest = verilog if _is_digest(verilog) else hashlib.sha256(verilog.encode()).hexdigest()
        base, size = memory or (board.memory_base, board.memory_size)
        return cls(
            board=board.name,
            part=board.part,
            array=config.array,
            format=config.format,
            clock_hz=int(clock_hz or board.clock_hz),
            isa_version=isa.ISA_VERSION,
            gateware_version=".".join(map(str, VERSION)),
            buffers={name: getattr(config, name) for name in BUFFERS},
            batch_norm=config.batch_norm,
            verilog_sha256=digest,
            build=digest[:8],
            memory={"base": base, "size": size},
            serial={"baud": int(baud)} if baud else None,
        )

    def with_bitstream(self, path):
        """The same with the entry of a bitstream that lies in the artefact's folder."""
        path = Path(path)
        entry = {"file": path.name, "sha256": file_sha256(path)}
        return dataclasses.replace(self, bitstream=entry)

    @property
    def config(self):
        """The core's ``CoreConfig``."""
        return CoreConfig.parse(self.array, self.format, batch_norm=self.batch_norm, **self.buffers)

    @property
    def build_word(self):
        """What the BUILD register of this bitstream reads as."""
        return int(self.build, 16)

    @property
    def bitstream_path(self):
        """Path of the bitstream, or None."""
        return self.folder / self.bitstream["file"] if self.bitstream and self.folder else None

    def as_dict(self):
        """What the file holds."""
        names = (entry.name for entry in dataclasses.fields(self) if entry.name != "folder")
        return {name: getattr(self, name) for name in names}

    def write(self, folder):
        """Write ``config.json`` into ``folder``, which is made if needed; returns the artefact.

        Raises
        ------
        UserError
            If it cannot be written.
        """
        path = Path(folder) / CONFIG_FILE
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(self.as_dict(), indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UserError(f"{path} cannot be written ({reason}); choose another place.") from None
        return dataclasses.replace(self, folder=Path(folder))

    @classmethod
    def read(cls, folder):
        """Read ``folder/config.json`` and check its entries, but not the bitstream.

        Raises
        ------
        UserError
            If the file is missing, is damaged or describes a core that does not exist.
        """
        path = Path(folder) / CONFIG_FILE
        again = "build it again with `eftrain bitstream`"
        try:
            entries = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(
                f"There is no {path}; give a folder that `eftrain bitstream` or `eftrain build` "
                "wrote."
            ) from None
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UserError(f"{path} cannot be read ({reason}); check its permissions.") from None
        except ValueError:
            raise UserError(f"{path} is not a JSON file; {again}.") from None
        wanted = {entry.name for entry in dataclasses.fields(cls)} - {"folder"}
        if not isinstance(entries, dict) or not wanted <= set(entries):
            missing = sorted(wanted - set(entries)) if isinstance(entries, dict) else []
            what = f"has no entry {missing[0]!r}" if missing else "does not describe a bitstream"
            raise UserError(f"{path} {what}; {again}.")
        artefact = cls(**{name: entries[name] for name in wanted}, folder=Path(folder))
        if problem := artefact._problem():
            raise UserError(f"{path} {problem}; {again}.")
        return artefact

    def _problem(self):
        """What is wrong with the entries, or None."""
        kinds = {"clock_hz": int, "isa_version": int, "board": str, "array": str, "format": str}
        kinds |= {"buffers": dict, "memory": dict, "build": str, "verilog_sha256": str}
        for name, kind in kinds.items():
            value = getattr(self, name)
            if not isinstance(value, kind) or isinstance(value, bool):
                return f"has {name} {value!r}"
        if not isinstance(self.batch_norm, bool):
            return f"has batch_norm {self.batch_norm!r}"
        if not _is_digest(self.verilog_sha256) or self.build != self.verilog_sha256[:8]:
            return f"has build {self.build!r}, which does not begin its verilog_sha256"
        if self.clock_hz <= 0:
            return f"has clock_hz {self.clock_hz}"
        if not all(isinstance(self.memory.get(name), int) for name in ("base", "size")):
            return f"has memory {self.memory!r}"
        if self.bitstream is not None and not (
            isinstance(self.bitstream, dict)
            and _is_digest(self.bitstream.get("sha256"))
            and _is_file_name(self.bitstream.get("file"))
        ):
            return f"has bitstream {self.bitstream!r}"
        try:
            find(self.board)
            _ = self.config
        except (ValueError, TypeError) as error:  # UserError is a ValueError.
            return f"describes no core of this package ({str(error).rstrip('.')})"
        return None

    def verify(self):
        """Check that this package can use the artefact and that its bitstream is the one it names.

        Raises
        ------
        UserError
            If it is of another ISA version, or the bitstream is missing or has changed.
        """
        if self.isa_version != isa.ISA_VERSION:
            raise UserError(
                f"The bitstream in {self.folder} has ISA version {self.isa_version} and this "
                f"package speaks {isa.ISA_VERSION}; build it again with `eftrain bitstream "
                f"{self.board}`."
            )
        path = self.bitstream_path
        if path is None:
            return
        if not path.is_file():
            raise UserError(
                f"There is no {path}, which {CONFIG_FILE} names; build it again with `eftrain "
                f"bitstream {self.board}`."
            )
        if file_sha256(path) != self.bitstream["sha256"]:
            raise UserError(
                f"{path} is not the bitstream that {CONFIG_FILE} describes (other SHA-256); copy "
                "the folder again, or build it again."
            )

    def check_device(self, device):
        """Raise ``DeviceError`` unless the device holds the core that this artefact describes."""
        found = device.read_register(isa.REGISTER["BUILD"].address)
        if found != self.build_word:
            raise DeviceError(
                f"{device.name} holds another bitstream: its BUILD register reads {found:08x} and "
                f"the program was made for {self.build}; load the bitstream of this folder."
            )


def _is_digest(value):
    digits = set("0123456789abcdef")
    return isinstance(value, str) and len(value) == 64 and set(value) <= digits


def _is_file_name(value):
    return isinstance(value, str) and value not in ("", ".", "..") and Path(value).name == value
