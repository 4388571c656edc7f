"""The README's Python example runs as printed; the interpreter stands in for the simulator."""

import re
from pathlib import Path

from isa_interpreter import InterpretedDevice

import eftrain.devices.sim

README = Path(__file__).parents[2] / "README.md"


def test_example_runs_and_learns(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(eftrain.devices.sim, "SimDevice", InterpretedDevice)
    (source,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    names = {}
    exec(compile(source, str(README), "exec"), names)
    losses = names["history"].losses
    assert losses[-1] < losses[0] / 2
    assert (tmp_path / "mine.safetensors").is_file()
    assert len(capsys.readouterr().out.splitlines()) == 2
