"""Pictures: what stands where, their colours and numbers, what they refuse; paths between noises."""

from __future__ import annotations

import io
import itertools
import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from PIL import Image

from fewstep.evaluation.plots import images
from fewstep.evaluation.plots.curves import curves, quality_against, training_curves
from fewstep.evaluation.plots.images import data_strip, grid, interpolations
from fewstep.evaluation.plots.picture import NUMBERS, stroke
from fewstep.evaluation.plots.samples import densities
from fewstep.flows.slerp import slerp

TIME, COUNT = "seconds per image, batch 1", 8


def flat(levels, channels: int = 1, side: int = 8) -> np.ndarray:
    """One image of one level each."""
    return (
        np.ones((1, channels, side, side), dtype=np.float32)
        * np.array(levels, dtype=np.float32)[:, None, None, None]
    )


def quarters(*levels: float) -> np.ndarray:
    """A grey image of four levels, by rows: (1, 1, 8, 8)."""
    return np.kron(np.array(levels).reshape(1, 1, 2, 2), np.ones((4, 4)))


def blocks(picture) -> dict[str, np.ndarray]:
    """The drawn blocks by "row, column", (height, width, 3), uint8."""
    return {axis.get_label(): np.asarray(axis.images[0].get_array()) for axis in picture.figure.axes}


def centres(block: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """The colour in the middle of every tile, (rows * columns, 3)."""
    height, width = ((size + images.GAP) // n for size, n in zip(block.shape, (rows, columns)))
    return np.array(
        [block[i * height + height // 2, j * width + width // 2] for i in range(rows) for j in range(columns)]
    )


def words(picture) -> list[str]:
    return [text.get_text() for text in picture.figure.texts]


def test_numbers_are_the_quadrants_of_the_first_three_images_in_order():
    first, second, third = quarters(-1, -0.5, 0.25, 0.75), quarters(1, 0, 0, 0), quarters(0, 0, 0, -1)
    samples = np.concatenate([first, second, third, quarters(0.9, 0.9, 0.9, 0.9)])
    expected = [-1, -0.5, 0.25, 0.75, 1, 0, 0, 0, 0, 0, 0, -1]
    picture = grid({"LMD": {"N = 2": samples}}, "a title")
    assert picture.numbers == {"LMD, N = 2": expected} and picture.title == "a title"
    assert interpolations({"LMD": samples}, "").numbers == {"LMD": expected}
    assert data_strip(samples, "").numbers == {"images": expected}
    assert json.loads(json.dumps(picture.numbers)) == picture.numbers


def test_numbers_are_those_of_what_is_drawn():
    """Clipped, over all channels, to two digits; a middle row belongs to the upper half."""
    assert grid({"a": {"N = 1": flat([5.0, -7.0])}}, "").numbers["a, N = 1"] == [1.0] * 4 + [-1.0] * 4
    colour = np.zeros((1, 3, 8, 8))
    colour[:, 1] = 1
    assert grid({"a": {"N = 1": colour}}, "").numbers["a, N = 1"] == [0.33] * 4
    odd = np.zeros((1, 1, 3, 3))
    odd[..., 2, 2] = 1
    assert grid({"a": {"N = 1": odd}}, "").numbers["a, N = 1"] == [0, 0, 0, 1.0]


def test_tiles_stand_in_reading_order():
    levels = np.linspace(-1, 1, COUNT)
    (block,) = blocks(grid({"a": {"N = 1": flat([*levels, 0.0], channels=3)}}, "")).values()
    assert (centres(block, 2, 4) == (255 * (levels + 1) / 2).round()[:, None]).all()
    (block,) = blocks(data_strip(flat(levels, channels=3), "", across=2)).values()
    assert (centres(block, 4, 2) == (255 * (levels + 1) / 2).round()[:, None]).all()
    (block,) = blocks(interpolations({"a": flat(levels, channels=3)}, "")).values()
    assert (centres(block, 1, 8) == (255 * (levels + 1) / 2).round()[:, None]).all()


def test_an_image_keeps_its_rows_columns_and_channels():
    image = np.arange(3 * 4 * 6).reshape(1, 3, 4, 6) / 71 * 2 - 1
    (block,) = blocks(data_strip(image, "", across=1)).values()
    scale = block.shape[0] // 4
    assert block.shape == (4 * scale, 6 * scale, 3)
    assert (block[::scale, ::scale] == (255 * (image[0].transpose(1, 2, 0) + 1) / 2).round()).all()
    assert (block == block[::scale, ::scale].repeat(scale, 0).repeat(scale, 1)).all(), "pixels stay sharp"


def test_grey_images_are_dark_on_light_and_gaps_are_white():
    (block,) = blocks(grid({"a": {"N = 1": flat([-1.0, 1.0, -1.0, 1.0])}}, "", count=4)).values()
    light, dark = centres(block, 2, 2)[:2].mean(1)
    assert 220 < light < 255 and dark < 50
    middle = block.shape[0] // 2
    assert (block[middle - 1 : middle + 1] == 255).all() and (block[:, block.shape[1] // 2] == 255).all()


def test_columns_are_sorted_by_number_and_a_method_may_lack_some():
    one = flat([0.0])
    picture = grid({"SI": {"N = 16": one, "N = 2": one}, "LMD": {"N = 1": one, "N = 2": one}, "none": {}}, "")
    assert (
        set(blocks(picture))
        == {"SI, N = 16", "SI, N = 2", "LMD, N = 1", "LMD, N = 2"}
        == set(picture.numbers)
    )
    assert words(picture) == ["N = 1", "N = 2", "N = 16", "SI", "LMD"]
    left = {axis.get_label(): axis.get_position().x0 for axis in picture.figure.axes}
    assert left["LMD, N = 1"] < left["LMD, N = 2"] == left["SI, N = 2"] < left["SI, N = 16"]
    top = {axis.get_label(): axis.get_position().y1 for axis in picture.figure.axes}
    assert top["SI, N = 2"] == top["SI, N = 16"] > top["LMD, N = 1"] == top["LMD, N = 2"]
    places = {text.get_text(): text.get_position() for text in picture.figure.texts}
    for axis in picture.figure.axes:
        (method, column), box = axis.get_label().split(", "), axis.get_position()
        assert (
            places[column][0] == pytest.approx((box.x0 + box.x1) / 2) and places[column][1] > top["SI, N = 2"]
        )
        assert places[method][1] == pytest.approx((box.y0 + box.y1) / 2) and places[method][0] < 0


def test_fewer_images_than_asked_leave_the_rest_white():
    (block,) = blocks(grid({"a": {"N = 1": flat([1.0] * 6)}}, "")).values()
    assert (centres(block, 2, 4)[:6].mean(1) < 50).all() and (centres(block, 2, 4)[6:] == 255).all()


@pytest.mark.parametrize("count, across", [(1, 1), (2, 2), (4, 2), (5, 5), (8, 4), (9, 3), (12, 4), (16, 4)])
def test_a_block_is_filled_and_not_higher_than_wide(count, across):
    (block,) = blocks(grid({"a": {"N = 1": flat([1.0] * count)}}, "", count=count)).values()
    assert (centres(block, count // across, across).mean(1) < 50).all() and block.shape[1] >= block.shape[0]


def test_the_file_holds_every_pixel_of_a_block():
    rng = np.random.default_rng(0)
    panels = {
        "a": {"N = 1": rng.choice([-1.0, 1.0], (8, 1, 8, 8))},
        "a longer name": {"N = 2": rng.choice([-1.0, 1.0], (8, 1, 8, 8))},
    }
    picture = grid(panels, "")
    sheet = np.asarray(Image.open(io.BytesIO(picture.png())).convert("L")).astype(int) < 128
    for name, block in blocks(picture).items():
        wanted = block.mean(2) < 128
        every = np.lib.stride_tricks.sliding_window_view(sheet, wanted.shape)
        # most places differ in their first row already
        likely = np.argwhere((every[:, :, 0] == wanted[0]).all(2))
        assert any((every[i, j] == wanted).all() for i, j in likely), name


@pytest.mark.parametrize("side, channels", [(8, 1), (16, 3), (32, 3), (64, 3)])
def test_sheets_stay_of_a_size_to_read(side, channels):
    methods, steps = [f"method {k}" for k in range(6)], [1, 2, 4, 8, 16, 64]
    picture = grid({m: {f"N = {n}": flat([0.0] * 8, channels, side) for n in steps} for m in methods}, "")
    width = 100 * picture.figure.get_figwidth()
    assert 900 < width < 1800 and all(block.shape[0] >= 2 * 35 for block in blocks(picture).values())


@pytest.mark.parametrize(
    "samples, sentence",
    [
        (
            np.zeros((5, 2)),
            r"LMD, N = 1: images have shape \(count, 1 or 3, height, width\) with one at least, not \(5, 2\)",
        ),
        (np.zeros((5, 8, 8)), r"not \(5, 8, 8\)"),
        (np.zeros((5, 2, 8, 8)), r"not \(5, 2, 8, 8\)"),
        (np.zeros((0, 1, 8, 8)), r"not \(0, 1, 8, 8\)"),
        (np.zeros((5, 1, 8, 8), dtype=np.uint8), r"LMD, N = 1: images are floats in \[-1, 1\], not uint8"),
        (flat([0.0, np.nan, 0.0, np.inf]), r"LMD, N = 1: 2 of 4 images are not finite"),
    ],
)
def test_what_is_no_image_is_refused(samples, sentence):
    with pytest.raises(ValueError, match=sentence):
        grid({"LMD": {"N = 1": samples}}, "")
    with pytest.raises(ValueError, match=sentence):
        interpolations({"LMD, N = 1": samples}, "")
    with pytest.raises(ValueError, match=sentence):
        data_strip(samples, "LMD, N = 1")


def test_a_picture_of_nothing_is_refused():
    with pytest.raises(ValueError, match="a grid shows one image at least"):
        grid({"LMD": {}}, "")
    with pytest.raises(ValueError, match="a grid shows one image at least"):
        grid({"LMD": {"N = 1": flat([0.0])}}, "", count=0)
    with pytest.raises(ValueError, match="one strip at least"):
        interpolations({}, "")


def test_strips_have_their_labels_and_one_row_each():
    picture = interpolations({"LSD, N = 1": flat([0.0] * 11), "ESD, N = 1": flat([0.0] * 11)}, "")
    assert words(picture) == ["LSD, N = 1", "ESD, N = 1"]
    first, second = (axis.get_position() for axis in picture.figure.axes)
    assert first.y0 > second.y1 and first.x0 == second.x0 == 0
    assert all(block.shape[1] > 10 * block.shape[0] for block in blocks(picture).values())


def cells(metric: str, method: str, values: dict[int, float]) -> list[dict]:
    return [
        {"method": method, "metric": metric, "nfe": n, "value": v, "sd": np.nan if n == 1 else 0.1}
        for n, v in values.items()
    ]


def test_quality_is_set_beside_the_cost_of_the_same_cell():
    rows = (
        cells("FID", "SI", {4: 20.0, 1: 90.0})
        + cells("FID", "exact", {64: 1.0})
        + cells("FID", "LMD", {1: 7.00004, 2: 5.0, 4: 4.0})
    )
    rows += (
        cells(TIME, "LMD", {2: 0.02, 1: 0.01})
        + cells(TIME, "SI", {1: 0.005, 4: 0.02})
        + cells("KID", "SI", {1: 3.0})
    )
    picture = quality_against(pd.DataFrame(rows), TIME, "FID", "a title")
    assert picture.numbers == {"SI": [[1, 90.0], [4, 20.0]], "LMD": [[1, 7.0], [2, 5.0]]}, (
        "sorted by calls, no seconds"
    )
    (axis,) = picture.figure.axes
    drawn = {(text.get_text(), *map(float, text.xy)) for text in axis.texts}
    assert drawn == {("1", 0.005, 90.0), ("4", 0.02, 20.0), ("1", 0.01, 7.00004), ("2", 0.02, 5.0)}
    assert (axis.get_xscale(), axis.get_yscale(), axis.get_xlabel(), axis.get_ylabel()) == (
        "log",
        "log",
        TIME,
        "FID",
    )
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["SI", "LMD"]
    assert picture.png()


def test_cost_without_quality_and_doubled_cells_are_refused():
    rows = cells("FID", "SI", {1: 90.0}) + cells(TIME, "SI", {2: 0.1})
    with pytest.raises(ValueError, match=f"no method has both '{TIME}' and 'FID'"):
        quality_against(pd.DataFrame(rows), TIME, "FID", "")
    with pytest.raises(ValueError, match="SI has more than one 'FID' at 1 network calls"):
        quality_against(pd.DataFrame(rows + rows[:1]), TIME, "FID", "")


def noises(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(torch.randn(2, *shape, generator=torch.Generator().manual_seed(3)))


def between(a: torch.Tensor, b: torch.Tensor) -> float:
    return math.acos(float((a * b).sum() / a.norm() / b.norm()))


def test_a_path_has_its_ends_and_goes_by_equal_angles_and_even_norms():
    a, b = (end.double() for end in noises(3, 16, 16))
    b *= 1.5
    path = slerp(a, b, 7)
    assert path.shape == (7, 3, 16, 16) and path.dtype == a.dtype
    assert torch.equal(path[0], a) and torch.equal(path[-1], b)
    angles = [between(p, q) for p, q in zip(path, path[1:])]
    assert angles == pytest.approx([between(a, b) / 6] * 6)
    assert [float(p.norm()) for p in path] == pytest.approx(np.linspace(float(a.norm()), float(b.norm()), 7))


def test_halfway_is_a_typical_noise_where_the_straight_line_is_not():
    a, b = noises(1, 32, 32)
    halfway = slerp(a, b, 3)[1]
    assert float(halfway.norm()) == pytest.approx(32, rel=0.05)
    assert float(((a + b) / 2).norm()) < 0.8 * 32
    expected = (a / a.norm() + b / b.norm()) / (a / a.norm() + b / b.norm()).norm()
    assert torch.allclose(halfway / halfway.norm(), expected, atol=1e-6)


def test_ends_are_exact_in_single_precision_and_arrays_are_taken_too():
    a, b = noises(1, 8, 8)
    path = slerp(a.numpy(), b.numpy(), 2)
    assert path.dtype == torch.float32 and torch.equal(path, torch.stack([a, b]))


def test_parallel_ends_are_joined_by_the_straight_line():
    a, _ = noises(1, 8, 8)
    for end in (a, 2 * a, a * (1 + 1e-6), torch.zeros_like(a)):
        path = slerp(a, end, 5)
        assert torch.equal(path[-1], end) and path.isfinite().all()
        assert torch.allclose(path[2], (a + end) / 2, atol=1e-6)


def test_a_path_of_one_step_of_two_shapes_or_of_opposite_ends_is_refused():
    a, b = noises(1, 8, 8)
    with pytest.raises(ValueError, match="2 steps or more, not 1"):
        slerp(a, b, 1)
    with pytest.raises(ValueError, match=r"of one shape, not \(1, 8, 8\) and \(8, 8\)"):
        slerp(a, b[0], 5)
    with pytest.raises(ValueError, match="opposite"):
        slerp(a, -a, 5)


# what stands in one picture: the labels of params.yaml
TOGETHER = (
    ("SI", "LMD", "EMD", "FMM", "PFMM"),
    ("LSD", "ESD", "PSD-M", "PSD-U", "MeanFlow"),
    ("SI", "SCFlow", "consistency only", "2-rectified flow", "rectified and distilled", "LMD", "LSD"),
    ("SCFlow", "consistency only", "truncated", *(f"truncated + {p}" for p in ("reflow", "adversarial"))),
    ("SI", "InstaFlow", "SCFlow"),
)
# Machado, Oliveira and Fernandes (2009): linear RGB as it is seen, and without red's or green's receptors
SEEN = (
    np.eye(3),
    np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]),
    np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]),
)


def oklab(colour: str, seen: np.ndarray) -> np.ndarray:
    """A colour in a space where distances are those that are seen: Ottosson's OKLab, in hundredths."""
    level = np.array(to_rgb(colour))
    linear = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
    cones = [[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.6300]]
    mixed = [[0.2105, 0.7936, -0.0041], [1.9780, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]]
    return 100 * np.array(mixed) @ np.cbrt(np.array(cones) @ (seen @ linear).clip(0, 1))


@pytest.mark.parametrize("labels", TOGETHER)
def test_methods_of_a_picture_are_told_apart_by_the_colour_blind_too(labels):
    for one, other in itertools.combinations([stroke(label)["color"] for label in labels], 2):
        for seen in SEEN:
            assert np.linalg.norm(oklab(one, seen) - oklab(other, seen)) > 10, (one, other)


def test_a_method_has_one_colour_and_no_other_has_it(root):
    tables = [pd.read_csv(path) for path in (root / "results").glob("*/tables/*.csv")]
    labels = set(pd.concat(tables).method) | {label for row in TOGETHER for label in row} | {"SI, guided-1.5"}
    labels |= {f"a method of one's own {k}" for k in range(10)} | {"LMD, eta 0.1", "LMD, eta 0.5"}
    looks = {label: stroke(label) for label in labels}
    assert len({look["color"] for look in looks.values()}) == len(labels)
    assert looks["SI, heun"]["ls"] != looks["SI, adaptive"]["ls"] != looks["SI"]["ls"] == "-"
    assert {label: stroke(label) for label in reversed(sorted(labels))} == looks
    assert stroke("2-Rectified Flow") == stroke("2-rectified flow")


def run(start: float, end: float, points: int = 600) -> dict[str, np.ndarray]:
    """A training whose loss goes evenly from one power of ten to another."""
    return dict.fromkeys(("loss", "gradient_norm"), np.logspace(start, end, points))


def colours_of(sheet: np.ndarray, least: int = 20) -> set[tuple[int, ...]]:
    """The colours of `least` pixels or more: fewer are edges, mixed of a line and white."""
    found, counts = np.unique(sheet.reshape(-1, 3), axis=0, return_counts=True)
    return set(map(tuple, found[counts >= least].tolist()))


def within(axis, sheet: np.ndarray) -> np.ndarray:
    """The pixels of a drawn figure that lie between the axes of one panel."""
    left, low, right, high = axis.get_window_extent().extents.round().astype(int)
    return sheet[::-1][low + 3 : high - 3, left + 3 : right - 3]


def test_the_colours_of_curves_are_those_of_the_legend():
    methods = ("LSD", "ESD", "ESD, shared settings", "PSD-M", "PSD-U", "MeanFlow")
    logs = {method: [run(0, -1 - 0.2 * k)] for k, method in enumerate(methods)}
    logs["ESD, shared settings"] = [run(0, 21), run(0, 18)]
    picture = training_curves(logs, "training")
    saved = np.asarray(Image.open(io.BytesIO(picture.png())))
    assert saved.ndim == 3, "no palette, which makes two colours one"
    figure = picture.figure
    figure.set_dpi(100)
    FigureCanvasAgg(figure).draw()
    sheet = np.asarray(figure.canvas.buffer_rgba())[..., :3]
    legend = figure.axes[1].get_legend()
    handles = dict(zip((text.get_text() for text in legend.get_texts()), legend.get_lines()))
    assert tuple(handles) == methods
    colours = {
        label: tuple(round(255 * c) for c in to_rgb(line.get_color())) for label, line in handles.items()
    }
    assert len(set(colours.values())) == len(methods)
    assert set(colours.values()) <= colours_of(saved), "the file has the legend's colours"
    for column in (0, 1):
        for row, named in ((0, set(methods) - {"ESD, shared settings"}), (1, {"ESD, shared settings"})):
            axis = figure.axes[2 * row + column]
            assert {line.get_label() for line in axis.lines} == named
            assert all(line.get_color() == handles[line.get_label()].get_color() for line in axis.lines)
            pixels = colours_of(within(axis, sheet))
            assert {label for label, colour in colours.items() if colour in pixels} == named


def test_a_run_that_diverges_is_drawn_apart():
    def apart(**logs) -> list[list[str]]:
        axes = training_curves(logs, "").figure.axes
        return [[line.get_label() for line in axis.lines] for axis in axes]

    falls, rises = run(0, -3), run(0, 21)
    assert apart(SI=[falls], ESD=[falls, rises]) == [["SI", "ESD"]] * 2 + [["ESD"]] * 2
    broken = {name: np.r_[values[:-1], np.nan] for name, values in falls.items()}
    assert apart(SI=[falls], ESD=[broken]) == [["SI"]] * 2 + [["ESD"]] * 2
    # a loss that is larger by its nature, one that falls far, and a training without others to hide
    assert apart(SI=[run(-4, -5)], LMD=[run(-4, -5)], EMD=[run(1, 0)]) == [["SI", "LMD", "EMD"]] * 2
    assert apart(SI=[run(3, -3)], LMD=[falls]) == [["SI", "LMD"]] * 2
    assert apart(ESD=[rises]) == apart(ESD=[broken]) == [["ESD"]] * 2
    (first, _, below, _) = training_curves({"SI": [falls], "ESD": [rises]}, "").figure.axes
    assert below.get_title() == "diverged: ESD" and first.get_ylim()[1] < 10 < 1e20 < below.get_ylim()[1]


@pytest.mark.parametrize(
    "low, high", [(0.748, 0.92), (4.1, 4.9), (200, 2500), (0.002, 0.07), (1, 1e21), (1e-7, 9)]
)
def test_logarithmic_axes_have_numbers_that_can_be_read(low, high):
    rows = cells("FID", "SI", {1: high, 2: (low * high) ** 0.5, 4: low})
    picture = curves(pd.DataFrame(rows).assign(sd=0.0), "FID", "")
    (axis,) = picture.figure.axes
    apart(picture, axis.yaxis)
    shown = [label.get_text() for label in axis.get_yticklabels()]
    assert 3 <= len(shown) <= 8 and len(set(shown)) == len(shown) and max(map(len, shown)) <= 10


def apart(picture, side) -> None:
    """No two numbers of an axis touch."""
    renderer = FigureCanvasAgg(picture.figure).get_renderer()
    boxes = [label.get_window_extent(renderer) for label in side.get_ticklabels()]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


def test_numbers_of_calls_do_not_run_into_each_other_and_no_legend_hides_a_line():
    rows = cells("FID", "SI", {n: 100 / n for n in (1, 2, 4, 8, 16, 32, 80)})
    rows += cells("FID", "SI, adaptive", {14: 8.0, 15: 7.5, 20: 6.0, 22: 5.5}) + cells(
        "FID", "LMD", {16: 3.0}
    )
    picture = curves(pd.DataFrame(rows), "FID", "", floor=1.0)
    (axis,) = picture.figure.axes
    assert picture.png()
    apart(picture, axis.xaxis)
    assert {"1", "2", "4", "8", "16", "32", "80"} <= {label.get_text() for label in axis.get_xticklabels()}
    assert axis.get_legend().get_window_extent().x0 > axis.get_window_extent().x1
    logs = {method: [run(0, -1)] for method in ("SI", "LMD")}
    figure = training_curves(logs, "").figure
    assert figure.axes[1].get_legend().get_window_extent().x0 > figure.axes[1].get_window_extent().x1


def test_panels_that_follow_one_another_leave_none_empty():
    points = np.random.default_rng(0).uniform(-1, 1, (100, 2))
    rows = {
        "SI": {f"N = {n}": points for n in (1, 4, 16, 80)},
        "LMD": {f"N = {n}": points for n in (1, 2, 4)},
        "exact": {"N = 80": points},
    }
    axes = densities(rows, "", across=4).figure.axes
    assert [axis.get_title() for axis in axes[:5]] == [
        "SI, N = 1",
        "SI, N = 4",
        "SI, N = 16",
        "SI, N = 80",
        "LMD, N = 1",
    ]
    assert len(axes) == 8 and all(axis.images for axis in axes)
    assert densities(rows, "").numbers == densities(rows, "", across=4).numbers
    assert [bool(axis.images) for axis in densities(rows, "").figure.axes].count(True) == 8


def test_a_picture_says_in_words_what_it_shows_and_keeps_its_numbers_beside():
    picture = training_curves({"SI": [run(0, -1)], "ESD": [run(0, 21)]}, "a title")
    data, metadata = picture._repr_mimebundle_()
    assert set(data) == {"image/png", "text/plain", NUMBERS} and data[NUMBERS] == picture.numbers
    alt = metadata["image/png"]["alt"]
    assert alt == picture.alt and all(word in alt for word in ("a title", "loss", "SI", "diverged: ESD"))
    assert "SI; LMD" in grid({m: {"N = 1": flat([0.0])} for m in ("SI", "LMD")}, "").alt
