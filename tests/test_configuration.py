"""Reading a configuration off tensors, and refusing what is no FILM."""

from pathlib import Path

import numpy as np
import pytest

from ov_film.configuration import FilmConfiguration, FilmTensors, canonical_names, expected_shapes, read_configuration
from ov_film.errors import FilmError

RELEASED = FilmConfiguration(7, (64, 128, 256, 512), (32, 64, 128, 256), (3, 3, 3, 3), (64, 128, 256, 512))
SMALL = FilmConfiguration(4, (4, 8), (4, 6), (2, 3), (4, 6))
LITE = FilmConfiguration(4, (4, 8), (), (), (4, 6, 8), image_levels=1, projections=(3, 5, 7), blends=True)


def tensors_of(configuration: FilmConfiguration) -> FilmTensors:
    return {name: np.zeros(shape, np.float32) for name, shape in expected_shapes(configuration).items()}


@pytest.mark.parametrize("configuration", [RELEASED, SMALL, LITE])
def test_a_configuration_is_read_off_its_own_tensors(configuration: FilmConfiguration) -> None:
    assert read_configuration(tensors_of(configuration), configuration.pyramid_levels) == configuration


def test_the_released_network_has_its_known_numbers() -> None:
    shapes = expected_shapes(RELEASED)
    assert (len(shapes), RELEASED.parameters(), RELEASED.multiple) == (82, 34_436_667, 64)
    assert shapes["fusion/conv2d_10/kernel"] == (3, 3, 2442, 512)


@pytest.mark.parametrize("configuration", [RELEASED, LITE])
def test_a_configuration_survives_json(configuration: FilmConfiguration) -> None:
    assert FilmConfiguration.from_json(configuration.as_json()) == configuration


def test_a_configuration_stored_before_there_were_image_levels_is_the_released_kind() -> None:
    fields = RELEASED.as_json()
    del fields["image_levels"], fields["projections"], fields["blends"], fields["searches"]
    assert FilmConfiguration.from_json(fields) == RELEASED


def test_a_network_that_matches_has_no_flow_predictors_and_image_levels_have_no_features_in_fusion() -> None:
    shapes = expected_shapes(LITE)
    assert LITE.matches and not [name for name in shapes if name.startswith("predict_flow/")]
    assert shapes["match/gather/kernel"] == (1, 1, 2 * 25 * 17, 128)
    assert shapes["fusion/conv2d_1/kernel"] == (3, 3, 2 * (3 + 2) + 4, 4)
    assert shapes["fusion/conv2d_9/kernel"] == (1, 1, 4, 5)


@pytest.mark.parametrize("pyramid_levels", [4, 7])
def test_a_network_that_matches_has_the_levels_that_it_fuses(pyramid_levels: int) -> None:
    assert read_configuration(tensors_of(LITE), pyramid_levels) == LITE
    assert LITE.multiple == 8


def test_a_network_with_no_way_to_find_flow_is_refused() -> None:
    tensors = {name: array for name, array in tensors_of(SMALL).items() if not name.startswith("predict_flow/")}
    with pytest.raises(FilmError, match="has no flow predictor"):
        read_configuration(tensors, 4)


def test_fusion_that_reads_no_features_at_any_fine_level_is_refused() -> None:
    configuration = FilmConfiguration(4, (4,), (), (), (4, 4, 4), image_levels=3, projections=(2,))
    with pytest.raises(FilmError, match="projects the features of 1 levels from level 3 on, where fusion would read 1"):
        read_configuration(tensors_of(configuration), 7)


def test_a_missing_tensor_is_named() -> None:
    tensors = tensors_of(SMALL)
    del tensors["fusion/conv2d_4/bias"]
    with pytest.raises(FilmError, match=r"fusion/conv2d_4/bias has shape none where a FILM like this has \(6,\)"):
        read_configuration(tensors, 4)


def test_a_tensor_of_another_shape_is_named() -> None:
    tensors = tensors_of(SMALL)
    tensors["predict_flow/flow_predictor_0/conv_1/kernel"] = np.zeros((3, 3, 5, 4), np.float32)
    with pytest.raises(FilmError, match=r"conv_1/kernel has shape \(3, 3, 5, 4\) where .* \(3, 3, 4, 4\)"):
        read_configuration(tensors, 4)


def test_a_surplus_tensor_is_named() -> None:
    tensors = tensors_of(SMALL)
    tensors["predict_flow/flow_predictor_7/conv_0/bias"] = np.zeros(4, np.float32)
    with pytest.raises(FilmError, match=r"flow_predictor_7/conv_0/bias is none of a FILM like this"):
        read_configuration(tensors, 4)


def test_no_tensors_are_no_film() -> None:
    with pytest.raises(FilmError, match="is no FILM"):
        read_configuration({}, 7)


def test_a_single_pyramid_level_is_refused() -> None:
    configuration = FilmConfiguration(1, (4,), (4,), (3,), ())
    with pytest.raises(FilmError, match="has 1 pyramid level where a FILM has at least 2"):
        read_configuration(tensors_of(configuration), 1)


def test_too_few_pyramid_levels_are_refused() -> None:
    with pytest.raises(FilmError, match="more than 2 pyramid levels can have"):
        read_configuration(tensors_of(SMALL), 2)


def test_fusion_is_counted_from_zero_and_scopes_are_dropped() -> None:
    tensors = tensors_of(SMALL)
    renamed = {f"film_net/{name}": array for name, array in tensors.items() if not name.startswith("fusion")}
    for number in range(7):
        for part in ("kernel", "bias"):
            name = f"fusion/conv2d_{number}/{part}" if number else f"fusion/conv2d/{part}"
            renamed[f"film_net/fusion/conv2d_{number + 26}/{part}"] = tensors[name]
    assert canonical_names(renamed).keys() == tensors.keys()


def test_the_coarsest_of_many_own_predictors_counts_as_the_shared_one() -> None:
    deep = FilmConfiguration(12, (4,), (4,) * 12, (1,) * 12, (4,))
    tensors = tensors_of(deep)
    own = {name.replace("predictor_shared", "predictor_11"): array for name, array in tensors.items()}
    assert canonical_names(own).keys() == tensors.keys()


def test_the_same_tensor_twice_is_refused() -> None:
    name = "feat_net/sub_extractor/cfeat_conv_0/bias"
    with pytest.raises(FilmError, match="cfeat_conv_0/bias twice"):
        canonical_names({name: np.zeros(4, np.float32), f"copy/{name}": np.zeros(4, np.float32)})


def test_the_bundled_model_is_a_film_of_sixteen_filters() -> None:
    from ov_film.library import find_models, read_manifest

    bundled = read_manifest(find_models([Path("nowhere")])["film_lite"]).configuration
    assert bundled.feature_filters == (16, 32, 64, 128) and bundled.image_levels == 1 and bundled.matches
    assert bundled.parameters() == 3_185_299
