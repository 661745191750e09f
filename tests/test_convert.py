"""Conversion: any FILM, proven against TensorFlow."""

import json
import os
import shutil
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from ov_film.convert import convert
from ov_film.errors import FilmError
from ov_film.library import MODEL_FILES
from ov_film.model import FilmModel
from tests.conftest import ROOT, picture
from tests.film_tensorflow import Film, Sizes, write_saved_model

GENUINE_GRAPH = ROOT.parent / "shared" / "film_style_graph"
CONFIGURATIONS = {
    "small": Sizes(),
    "deep": Sizes(pyramid_levels=6, fusion_pyramid_levels=5, specialized_levels=3, sub_levels=4,
                  flow_convs=(3, 3, 3, 3), flow_filters=(4, 6, 8, 10)),
    "one_fusion_level": Sizes(pyramid_levels=3, fusion_pyramid_levels=1),
    "own_predictors_only": Sizes(pyramid_levels=2, fusion_pyramid_levels=2, specialized_levels=2, sub_levels=2),
    "shared_predictor_only": Sizes(pyramid_levels=2, fusion_pyramid_levels=1, specialized_levels=0, sub_levels=1,
                                   flow_convs=(3,), flow_filters=(4,)),
}


def reference(film: Film, first: np.ndarray, last: np.ndarray, multiple: int) -> dict[str, np.ndarray]:
    """Run the TensorFlow network on edge-padded frames; crop the image."""
    height, width = first.shape[:2]
    padding = ((0, -height % multiple), (0, -width % multiple), (0, 0))
    outputs = film(*(tf.constant(np.pad(frame, padding, mode="edge")[np.newaxis]) for frame in (first, last)))
    return {"image": outputs["image"].numpy()[0, :height, :width],
            "warped": [outputs[name].numpy()[0, :height, :width] for name in ("x0_warped", "x1_warped")],
            "forward": [flow.numpy()[0] for flow in outputs["forward"]],
            "backward": [flow.numpy()[0] for flow in outputs["backward"]]}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_any_configuration_gives_what_tensorflow_gives(name: str, tmp_path: Path) -> None:
    film = write_saved_model(tmp_path / "saved", CONFIGURATIONS[name], seed=len(name))
    manifest = convert(tmp_path / "saved", tmp_path / "model")
    assert manifest.configuration.pyramid_levels == CONFIGURATIONS[name].pyramid_levels
    model = FilmModel.load(tmp_path / "model", device="CPU", precision="f32")
    for height, width in ((64, 96), (37, 81), (1, 1)):
        first, last = picture(height, width, 1), picture(height, width, 2)
        expected = reference(film, first, last, manifest.configuration.multiple)
        details = model.inspect(first, last)
        assert np.abs(model.interpolate(first, last) - expected["image"].clip(0, 1)).max() < 1e-4
        assert np.array_equal(details.midpoint, model.interpolate(first, last))
        for warped, true in zip((details.warped_first, details.warped_last), expected["warped"], strict=True):
            assert np.abs(warped - true).max() < 1e-4
        for direction in ("forward", "backward"):
            flows = getattr(details, f"{direction}_flows")
            for flow, true in zip(flows, expected[direction], strict=True):
                assert np.abs(flow - true[:flow.shape[0], :flow.shape[1]]).max() < 1e-3


def test_large_flows_are_among_what_is_compared(small_film: tuple[Path, Film]) -> None:
    flows = reference(small_film[1], picture(64, 96, 1), picture(64, 96, 2), 8)["forward"]
    assert np.abs(flows[0]).max() > 2


def test_exports_with_other_names_and_order_give_the_same_model(small_film: tuple[Path, Film], small_folder: Path,
                                                                tmp_path: Path) -> None:
    write_saved_model(tmp_path / "other", Sizes(), scope="film_net/", first_fusion_number=13, image_last=True)
    convert(tmp_path / "other", tmp_path / "model")
    first, last = picture(40, 56, 1), picture(40, 56, 2)
    midpoints = [FilmModel.load(folder, "CPU", "f32").interpolate(first, last)
                 for folder in (small_folder, tmp_path / "model")]
    assert np.array_equal(*midpoints)


def test_the_genuine_graph_gives_what_tensorflow_gives(tmp_path: Path) -> None:
    if not GENUINE_GRAPH.is_dir():
        pytest.skip("the genuine FILM graph does not lie in ../shared/film_style_graph")
    sys.path.insert(0, str(GENUINE_GRAPH.parent / "tools"))
    import fill_film_variables

    argv, sys.argv = sys.argv, ["fill", str(tmp_path / "film"), "--seed", "7", "--size", "64", "128"]
    try:
        fill_film_variables.main()
    finally:
        sys.argv = argv
        sys.path.pop(0)
    manifest = convert(tmp_path / "film", tmp_path / "model", verify=True)
    assert manifest.configuration.parameters() == 34_436_667
    assert manifest.parity["openvino"]["max_error"] < 1e-4
    assert manifest.parity["tensorflow"]["max_error"] < 1e-4
    expected = np.load(tmp_path / "film" / "reference.npz")
    details = FilmModel.load(tmp_path / "model", "CPU", "f32").inspect(expected["x0"][0], expected["x1"][0])
    assert np.abs(details.midpoint - expected["image"][0].clip(0, 1)).max() < 1e-4
    for level, flow in enumerate(details.forward_flows):
        assert np.abs(flow - expected[f"forward_flow_pyramid_{level}"][0]).max() < 1e-3


def test_an_archive_converts_like_its_folder(small_archive: Path, small_folder: Path, tmp_path: Path) -> None:
    convert(small_archive, tmp_path / "model")
    for name in ("fine_encoder.bin", "fusion.bin"):
        assert (tmp_path / "model" / name).read_bytes() == (small_folder / name).read_bytes()


def test_film_json_says_what_was_proven(small_film: tuple[Path, Film], tmp_path: Path) -> None:
    convert(small_film[0], tmp_path / "model", verify=True)
    fields = json.loads((tmp_path / "model" / "film.json").read_text())
    assert fields["format"] == 2
    assert fields["configuration"]["feature_filters"] == [4, 8, 16]
    for name in ("openvino", "tensorflow"):
        assert 0 <= fields["parity"][name]["max_error"] < 1e-4
    assert set(fields["checksums"]) == set(MODEL_FILES)


def test_a_graph_that_is_not_what_its_tensors_say_is_refused(tmp_path: Path) -> None:
    write_saved_model(tmp_path / "saved", Sizes(), gain_in_graph=1.05)
    with pytest.raises(FilmError, match=r"differs from OpenVINO's own conversion by .* 0\.001 is allowed"):
        convert(tmp_path / "saved", tmp_path / "model")
    assert os.listdir(tmp_path) == ["saved"]


def test_a_saved_model_of_another_network_is_refused(tmp_path: Path) -> None:
    module = tf.Module()
    module.kernel = tf.Variable(tf.ones((3, 3, 3, 3)), name="other/kernel")
    module.serve = tf.function(lambda x: tf.nn.conv2d(x, module.kernel, 1, "SAME"),
                               input_signature=[tf.TensorSpec([1, 8, 8, 3])])
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures=module.serve)
    with pytest.raises(FilmError, match="no variables of a FILM"):
        convert(tmp_path / "saved", tmp_path / "model")


@pytest.mark.parametrize("damage", [lambda graph: graph[:len(graph) // 2], lambda graph: b"", lambda graph: b"no" * 99])
def test_a_damaged_graph_is_refused(small_film: tuple[Path, Film], tmp_path: Path,
                                    damage: Callable[[bytes], bytes]) -> None:
    folder = Path(shutil.copytree(small_film[0], tmp_path / "saved"))
    (folder / "saved_model.pb").write_bytes(damage((folder / "saved_model.pb").read_bytes()))
    with pytest.raises(FilmError, match=r"OpenVINO can't run SavedModel .*saved \("):
        convert(folder, tmp_path / "model")
    assert os.listdir(tmp_path) == ["saved"]


def test_a_failed_conversion_keeps_the_old_model(small_film: tuple[Path, Film], tmp_path: Path) -> None:
    convert(small_film[0], tmp_path / "model")
    before = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    write_saved_model(tmp_path / "wrong", Sizes(), gain_in_graph=1.05)
    with pytest.raises(FilmError):
        convert(tmp_path / "wrong", tmp_path / "model")
    assert {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()} == before
    assert sorted(os.listdir(tmp_path)) == ["model", "wrong"]


def test_a_conversion_replaces_an_old_model_whole(small_film: tuple[Path, Film], tmp_path: Path) -> None:
    convert(small_film[0], tmp_path / "model")
    (tmp_path / "model" / "left_over").touch()
    convert(small_film[0], tmp_path / "model")
    assert not (tmp_path / "model" / "left_over").exists()


def test_a_folder_of_something_else_is_never_replaced(small_film: tuple[Path, Film], tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").touch()
    with pytest.raises(FilmError, match="photos exists and is no model folder"):
        convert(small_film[0], tmp_path / "photos")
    assert (tmp_path / "photos" / "one.jpg").exists()


def test_tensors_by_name_convert_without_a_graph(small_film: tuple[Path, Film], tmp_path: Path) -> None:
    arrays = {variable.name.removesuffix(":0"): variable.numpy() for variable in small_film[1].variables}
    np.savez(tmp_path / "film.npz", pyramid_levels=4, **arrays)
    manifest = convert(tmp_path / "film.npz", tmp_path / "model", weights="f16")
    assert manifest.parity == {}
    first, last = picture(32, 40, 1), picture(32, 40, 2)
    midpoint = FilmModel.load(tmp_path / "model", "CPU", "f32").interpolate(first, last)
    expected = reference(small_film[1], first, last, 8)["image"].clip(0, 1)
    assert 0 < np.abs(midpoint - expected).max() < 0.05  # f16 weights are near, not equal


def test_verifying_tensors_without_a_graph_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FilmError, match="without a graph"):
        convert(tmp_path / "film.npz", tmp_path / "model", verify=True)


def test_tensorflow_missing_for_verify_is_said(small_film: tuple[Path, Film], tmp_path: Path,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(FilmError, match="pip install tensorflow"):
        convert(small_film[0], tmp_path / "model", verify=True)


def test_an_archive_with_the_saved_model_in_a_folder_is_found(small_film: tuple[Path, Film], tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "film.tar.gz", "w:gz") as tar:
        tar.add(small_film[0], arcname="film/1")
    convert(tmp_path / "film.tar.gz", tmp_path / "model")
    assert (tmp_path / "model" / "film.json").is_file()
