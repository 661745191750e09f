"""The checkpoint reader, against TensorFlow's own."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from ov_film.checkpoint import read_variables
from ov_film.configuration import TENSOR_NAME
from ov_film.errors import FilmError
from tests.film_tensorflow import Film

EVERYTHING = re.compile(".*", re.DOTALL)
DATA = "variables.data-00000-of-00001"


@pytest.fixture
def variables(small_film: tuple[Path, Film], tmp_path: Path) -> Path:
    """A copy of a checkpoint's folder, to damage."""
    return Path(shutil.copytree(small_film[0] / "variables", tmp_path / "variables"))


def test_every_variable_comes_out_as_tensorflow_wrote_it(small_film: tuple[Path, Film]) -> None:
    read = read_variables(small_film[0] / "variables" / "variables.index", TENSOR_NAME)
    written = {variable.name.removesuffix(":0"): variable.numpy() for variable in small_film[1].variables}
    assert read.keys() == written.keys()
    for name, array in written.items():
        assert np.array_equal(read[name], array)


def test_many_keys_and_large_tensors_are_read(tmp_path: Path) -> None:
    module = tf.Module()
    module.all = [tf.Variable(tf.fill((index % 7 + 1, 3), float(index)), name=f"part_{index:04d}/kernel")
                  for index in range(900)]  # many blocks of the table
    module.scalar = tf.Variable(2.5, name="scalar")
    module.empty = tf.Variable(tf.zeros((0, 4)), name="empty")
    module.large = tf.Variable(tf.random.uniform((512, 1024)), name="large")
    path = tf.train.Checkpoint(model=module).write(str(tmp_path / "checkpoint"))
    read = read_variables(Path(f"{path}.index"), re.compile("part.*|scalar|empty|large"))
    assert len(read) == 903
    for index in range(900):
        assert np.array_equal(read[f"part_{index:04d}/kernel"], np.full((index % 7 + 1, 3), index, np.float32))
    assert read["scalar"].shape == () and read["scalar"] == 2.5
    assert read["empty"].shape == (0, 4)
    assert np.array_equal(read["large"], module.large.numpy())


def test_checkpoints_of_several_data_files_are_read(small_film: tuple[Path, Film], tmp_path: Path) -> None:
    source = str(small_film[0] / "variables" / "variables")
    reader = tf.train.load_checkpoint(source)
    names = sorted(reader.get_variable_to_shape_map())
    parts = []
    for part, chosen in enumerate((names[::2], names[1::2])):
        parts.append(str(tmp_path / f"part{part}"))
        tf.raw_ops.SaveV2(prefix=parts[-1], tensor_names=chosen, shape_and_slices=[""] * len(chosen),
                          tensors=[tf.constant(reader.get_tensor(name)) for name in chosen])
    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=parts, destination_prefix=str(tmp_path / "merged"))
    assert len(list(tmp_path.glob("merged.data-*-of-00002"))) == 2
    read = read_variables(tmp_path / "merged.index", TENSOR_NAME)
    assert read.keys() == read_variables(Path(f"{source}.index"), TENSOR_NAME).keys()


def test_other_variables_are_passed_over(small_film: tuple[Path, Film], tmp_path: Path) -> None:
    module = tf.Module()
    module.film = small_film[1]
    module.steps = tf.Variable(3, dtype=tf.int64, name="steps")
    path = tf.train.Checkpoint(model=module).write(str(tmp_path / "checkpoint"))
    assert len(read_variables(Path(f"{path}.index"), TENSOR_NAME)) == len(small_film[1].variables)
    with pytest.raises(FilmError, match="'steps' is not float32"):
        read_variables(Path(f"{path}.index"), EVERYTHING)


def test_a_missing_data_file_is_named(variables: Path) -> None:
    (variables / DATA).unlink()
    with pytest.raises(FilmError, match=rf"{DATA} can't be read .* fetch the SavedModel again"):
        read_variables(variables / "variables.index", TENSOR_NAME)


def test_a_data_file_cut_short_is_refused(variables: Path) -> None:
    data = (variables / DATA).read_bytes()
    (variables / DATA).write_bytes(data[:len(data) // 2])
    with pytest.raises(FilmError, match="is cut short"):
        read_variables(variables / "variables.index", TENSOR_NAME)


def test_a_flipped_bit_in_a_tensor_is_found(variables: Path) -> None:
    data = bytearray((variables / DATA).read_bytes())
    data[1000] ^= 1
    (variables / DATA).write_bytes(data)
    with pytest.raises(FilmError, match=r"checksum of 'feat_net/.*' is wrong"):
        read_variables(variables / "variables.index", TENSOR_NAME)


@pytest.mark.parametrize("content", [b"", b"garbage", bytes(48), b"\xff" * 4096])
def test_an_index_that_is_none_is_refused(variables: Path, content: bytes) -> None:
    (variables / "variables.index").write_bytes(content)
    with pytest.raises(FilmError, match="is damaged"):
        read_variables(variables / "variables.index", TENSOR_NAME)


def test_every_damaged_byte_of_the_index_is_refused(variables: Path) -> None:
    index = (variables / "variables.index").read_bytes()
    unused = range(len(index) - 48 + 4, len(index) - 8)  # the footer's handles end in padding
    for position in [*range(0, len(index), 41), *range(len(index) - 80, len(index))]:
        if position in unused:
            continue
        damaged = bytearray(index)
        damaged[position] ^= 0x55
        (variables / "variables.index").write_bytes(damaged)
        with pytest.raises(FilmError):
            read_variables(variables / "variables.index", TENSOR_NAME)


def test_every_length_of_a_cut_index_is_refused(variables: Path) -> None:
    index = (variables / "variables.index").read_bytes()
    for length in range(0, len(index), 37):
        (variables / "variables.index").write_bytes(index[:length])
        with pytest.raises(FilmError):
            read_variables(variables / "variables.index", TENSOR_NAME)
