"""Pickles of arrays: read as pickle itself reads them, and unable to run anything."""

import os
import pickle
import subprocess
import warnings

import numpy as np
import pytest
from data_files import python2_pickle, sentence

from eftrain.data.inert_pickle import load_pickle
from eftrain.errors import UserError

ARRAY = np.random.default_rng(0).integers(0, 256, (4, 700), np.uint8)
CONTENT = {"data": ARRAY, "labels": [3, 1, 0, 255], "label_names": [b"ant", b"bee"], "text": b"t"}


def refused(path):
    with pytest.raises(UserError) as error:
        load_pickle(path)
    return sentence(error).removeprefix(f"{path} ")


def assert_content(found):
    assert found.keys() == CONTENT.keys()
    assert np.array_equal(found["data"], ARRAY) and found["data"].dtype == np.uint8
    assert {**found, "data": 0} == {**CONTENT, "data": 0}


def test_files_of_python_2(tmp_path):
    path = tmp_path / "batch"
    path.write_bytes(python2_pickle(CONTENT))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy.core is old.
        theirs = pickle.loads(path.read_bytes(), encoding="bytes")
    assert np.array_equal(theirs[b"data"], ARRAY) and theirs[b"labels"] == CONTENT["labels"]
    assert_content(load_pickle(path))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("keys", [str, str.encode])
def test_files_of_python_3(tmp_path, protocol, keys):
    content = {keys(key): value for key, value in CONTENT.items()}
    (tmp_path / "batch").write_bytes(pickle.dumps(content, protocol))
    assert_content(load_pickle(tmp_path / "batch"))


@pytest.mark.parametrize("protocol", [2, 5])
def test_arrays_in_columns(tmp_path, protocol):
    content = {"data": np.asfortranarray(ARRAY)}
    (tmp_path / "batch").write_bytes(pickle.dumps(content, protocol))
    assert np.array_equal(load_pickle(tmp_path / "batch")["data"], ARRAY)


class Calls:
    """Asks the reader of the pickle to call a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize(("call", "name"), [
    (lambda mark: Calls(os.mkdir, mark), f"{os.mkdir.__module__}.mkdir"),
    (lambda mark: Calls(subprocess.check_call, ["mkdir", mark]), "check_call"),
    (lambda mark: Calls(eval, f"__import__('os').mkdir({mark!r})"), "eval"),
    (lambda mark: Calls(np.save, mark, ARRAY), "save"),
    (lambda mark: {"data": Calls(ARRAY.tofile, mark)}, "getattr"),
])  # fmt: skip
def test_nothing_is_run(tmp_path, protocol, call, name):
    mark = str(tmp_path / "mark")
    (tmp_path / "batch").write_bytes(pickle.dumps(call(mark), protocol))
    text = refused(tmp_path / "batch")
    assert text.startswith("asks to run ") and name in text.split(",")[0], text
    assert text.endswith("do not trust it, and get the file from its original place.")
    assert os.listdir(tmp_path) == ["batch"]


def test_a_name_cannot_steer_the_terminal(tmp_path):
    content = b"\x80\x04\x8c\x06a\x1b[2J\n\x8c\xff" + b"n" * 255 + b"\x93."
    (tmp_path / "batch").write_bytes(content)
    assert refused(tmp_path / "batch").startswith(f"asks to run a\\x1b[2J\\n.{'n' * 69}, which")


def test_the_trap_works(tmp_path):
    """So that the test above can fail: pickle itself falls into it."""
    mark = tmp_path / "mark"
    pickle.loads(pickle.dumps(Calls(os.mkdir, str(mark))))
    assert mark.is_dir()


@pytest.mark.parametrize("size", [0, 1, 50, 1000, 2990])
def test_truncated(tmp_path, size):
    whole = python2_pickle(CONTENT)
    assert size < len(whole)
    (tmp_path / "batch").write_bytes(whole[:size])
    assert refused(tmp_path / "batch").startswith("ends too early or is no pickle (")


@pytest.mark.parametrize(("content", "words"), [
    (pickle.dumps([1]), "holds no dict of arrays"),
    (b"<!DOCTYPE html>", "ends too early or is no pickle"),
    (pickle.dumps({"data": np.zeros(3)}), "is damaged"),
    (pickle.dumps({"data": np.array([None])}), "is damaged"),
    (python2_pickle(CONTENT).replace(b"J\x04\0\0\0", b"J\x05\0\0\0"), "is damaged"),
    (python2_pickle({"a": 1}).replace(b"K\x01", b"cnumpy\nndarray\nK\x01b"), "is damaged"),
    (python2_pickle({"a": 1}).replace(b"K\x01", b"c_codecs\nencode\n}b"), "is damaged"),
])  # fmt: skip
def test_other_content(tmp_path, content, words):
    (tmp_path / "batch").write_bytes(content)
    assert refused(tmp_path / "batch").startswith(words)


def test_missing_file(tmp_path):
    assert refused(tmp_path / "batch").startswith("cannot be read (no such file or directory)")
