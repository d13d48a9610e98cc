"""The metrics of images against values worked out by hand, against exact worlds and against clean-fid."""

from __future__ import annotations

import hashlib
import importlib
import warnings
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.distance import cdist

from fewstep.metrics import pairs
from fewstep.metrics.features import INCEPTION, Extractor, extract, inception
from fewstep.metrics.frechet import Moments, frechet, moments, self_checks
from fewstep.metrics.pairs import PrecisionRecall, kid, precision_recall, squared_mmd
from fewstep.metrics.protocol import ImageProtocol, parse

# scipy speaks of an argument that clean-fid passes to it
cleanfid_warns = pytest.mark.filterwarnings("ignore:The `disp` argument is deprecated:DeprecationWarning")


def draw(*shape: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def rotation(dim: int, seed: int) -> np.ndarray:
    return np.linalg.qr(draw(dim, dim, seed=seed))[0]


def covariance(dim: int, seed: int) -> np.ndarray:
    return np.cov(draw(3 * dim, dim, seed=seed), rowvar=False)


def given(covariance: np.ndarray, mean=0.0) -> Moments:
    return Moments(np.full(len(covariance), mean), covariance, 1000)


@pytest.fixture(scope="module")
def cleanfid():
    """clean-fid's own module, which imports torchvision; what it warns of on import is no concern of ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module("fewstep.networks.torchvision_operators")
        return importlib.import_module("cleanfid.fid")


# The Fréchet distance -----------------------------------------------------------------------------------


@pytest.mark.parametrize("zeros", [0, 1, 30], ids="{} zeros".format)
@pytest.mark.parametrize("dim", [31, 200])
def test_commuting_covariances(dim, zeros):
    """In a common basis the distance is |m1 - m2|^2 + sum (sqrt a_i - sqrt b_i)^2, with zeros in a, in b and
    in both."""
    a, b = np.logspace(0, -4, dim), np.linspace(0.2, 3, dim)
    a[dim - zeros :], b[: zeros // 2] = 0, 0
    basis = rotation(dim, seed=1)
    found = frechet(given(basis * a @ basis.T, 0.1), given(basis * b @ basis.T, -0.2))
    assert found == pytest.approx(0.09 * dim + np.square(np.sqrt(a) - np.sqrt(b)).sum(), rel=1e-12)


def test_a_line_against_an_ellipsoid():
    """For C1 = v v^T the root's trace is sqrt(v^T C2 v), whatever C2: no common basis is needed."""
    line, other = draw(50, seed=2), covariance(50, seed=3)
    found = frechet(given(np.outer(line, line)), given(other))
    assert found == pytest.approx(line @ line + np.trace(other) - 2 * np.sqrt(line @ other @ line), rel=1e-12)


def test_a_flat_ball_against_an_ellipsoid():
    """For a projection P = V V^T the root's trace is that of (V^T C2 V)^{1/2}, which has full rank."""
    flat, other = rotation(60, seed=4)[:, :25], covariance(60, seed=5)
    inside = np.sqrt(np.linalg.eigvalsh(flat.T @ other @ flat)).sum()
    assert frechet(given(flat @ flat.T), given(other)) == pytest.approx(
        25 + np.trace(other) - 2 * inside, rel=1e-12
    )


def test_fewer_samples_than_features():
    """The root's trace is the sum of the singular values of X Y^T / (n - 1), X and Y the centred features."""
    x, y = draw(20, 64, seed=6), draw(20, 64, seed=7) * np.logspace(0, -2, 64)
    root = np.linalg.svd((x - x.mean(0)) @ (y - y.mean(0)).T, compute_uv=False).sum() / 19
    expected = (
        np.square(x.mean(0) - y.mean(0)).sum() + x.var(0, ddof=1).sum() + y.var(0, ddof=1).sum() - 2 * root
    )
    assert frechet(moments(x, rank_deficient=True), moments(y, rank_deficient=True)) == pytest.approx(
        expected, rel=1e-12
    )


def test_points_are_apart_by_their_distance_squared():
    zero = np.zeros((3, 3))
    assert frechet(given(zero, 1.0), given(zero, 3.0)) == 12
    assert frechet(given(zero), given(np.eye(3))) == frechet(given(np.eye(3)), given(zero)) == 3


def test_the_distance_is_one_of_euclidean_space():
    x, y = draw(300, 10, seed=8), 1.5 * draw(300, 10, seed=9) @ covariance(10, seed=10) + 0.3
    plain = frechet(moments(x), moments(y))
    turn, shift = rotation(10, seed=11), draw(10, seed=12)
    assert frechet(moments(y), moments(x)) == pytest.approx(plain, rel=1e-12)
    assert frechet(moments(x @ turn + shift), moments(y @ turn + shift)) == pytest.approx(plain, rel=1e-12)
    assert frechet(moments(3 * x), moments(3 * y)) == pytest.approx(9 * plain, rel=1e-12)


def test_equal_moments_are_at_zero():
    found = [frechet(given(covariance(12, seed=k)), given(covariance(12, seed=k))) for k in range(20)]
    assert min(found) == 0
    assert max(found) < 1e-12


def test_samples_approach_the_distance_of_their_distributions():
    """N(0, I) and N(m, diag s^2): |m|^2 + sum (1 - s_i)^2, within the sampling error of 200,000 samples."""
    spread, mean = np.array([0.5, 1.0, 2.0]), np.array([1.0, 0.0, -0.5])
    found = frechet(moments(draw(200_000, 3, seed=13)), moments(draw(200_000, 3, seed=14) * spread + mean))
    assert found == pytest.approx(1.25 + 1.25, abs=0.02)


def test_moments_are_numpys_in_double_precision():
    features = (1000 + draw(500, 8, seed=15)).astype(np.float32)
    found, double = moments(features), features.astype(np.float64)
    np.testing.assert_allclose(found.mean, double.mean(0), rtol=1e-14)
    np.testing.assert_allclose(found.covariance, np.cov(double, rowvar=False), atol=1e-12)
    assert (found.count, found.covariance.dtype) == (500, np.float64)


@cleanfid_warns
@pytest.mark.parametrize("counts", [(900, 700), (97, 97), (900, 40), (40, 30), (96, 96)], ids=str)
def test_the_distance_is_clean_fids(cleanfid, counts):
    """At 96 features of full rank, one of them deficient, both deficient, and by one only."""
    x, y = draw(counts[0], 96, seed=16) * np.logspace(0, -1.5, 96), draw(counts[1], 96, seed=17) + 0.1
    found = frechet(moments(x, rank_deficient=True), moments(y, rank_deficient=True))
    assert found == pytest.approx(cleanfid.fid_from_feats(x, y), rel=1e-6)


def test_moments_need_more_samples_than_features():
    with pytest.raises(
        ValueError, match="10 samples of 10 features have a singular covariance.*rank_deficient=True"
    ):
        moments(draw(10, 10, seed=1))
    assert moments(draw(11, 10, seed=1)).count == 11
    assert np.linalg.matrix_rank(moments(draw(10, 10, seed=1), rank_deficient=True).covariance) == 9


def test_moments_of_different_extractors_do_not_compare():
    with pytest.raises(ValueError, match="moments of 3 and 4 features do not compare"):
        frechet(given(np.eye(3)), given(np.eye(4)))


@pytest.mark.parametrize(
    "mean, cov", [(np.zeros(3), np.eye(4)), (np.zeros((1, 3)), np.eye(3)), (np.zeros(3), np.zeros(3))]
)
def test_moments_of_odd_shapes(mean, cov):
    with pytest.raises(ValueError, match="are not moments of one sample"):
        Moments(mean, cov, 10)


def test_a_covariance_that_is_not_symmetric():
    with pytest.raises(ValueError, match="is not symmetric"):
        given(np.array([[1.0, 0.1], [0.2, 1.0]]))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_moments_that_are_not_finite(bad):
    with pytest.raises(ValueError, match="moments of 1000 samples are not finite"):
        given(np.diag([1.0, bad]))
    with pytest.raises(ValueError, match="moments of 1000 samples are not finite"):
        given(np.eye(2), bad)


MEASURES = {
    "frechet": lambda a, b: (moments(a), moments(b)),
    "kid": kid,
    "precision and recall": precision_recall,
    "self-checks": lambda a, b: self_checks(a, lambda count: draw(count, 2, seed=0), [5]),
}


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_bad_features_are_refused(measure):
    good, holed = draw(20, 2, seed=1), draw(20, 2, seed=2)
    holed[4, 1] = holed[7, 0] = np.nan
    with pytest.raises(ValueError, match=r"2 of 20 rows of .* are not finite \(the first is row 4\)"):
        measure(holed, good)
    with pytest.raises(ValueError, match="has 1 samples and at least [24] are needed"):
        measure(good[:1], good)
    with pytest.raises(ValueError, match=r"must be a matrix \(count, dim\)"):
        measure(good[0], good)


@pytest.mark.parametrize("measure", [kid, precision_recall])
def test_features_of_different_extractors_do_not_compare(measure):
    with pytest.raises(ValueError, match="features of 2 and 3 dimensions do not compare"):
        measure(draw(20, 2, seed=1), draw(20, 3, seed=1))


# KID ----------------------------------------------------------------------------------------------------


def test_kid_by_hand():
    """k(x, y) = (xy + 1)^3 in one dimension; a = (0, 1), b = (1, 2): 1 + 27 - 2 (1 + 1 + 8 + 27) / 4."""
    a, b = np.array([[0.0], [1.0]]), np.array([[1.0], [2.0]])
    assert kid(a, b, subsets=None) == pytest.approx(28 - 37 / 2)
    # in two dimensions the product is divided by two
    assert kid(a.repeat(2, 1), b.repeat(2, 1), subsets=None) == pytest.approx(28 - 37 / 2)


def test_kid_is_unbiased():
    """Over all draws of three samples from P and two from Q, uniform on two points each, it averages to the
    MMD."""
    p, q = np.array([[0.0, 1.0], [2.0, -1.0]]), np.array([[1.0, 0.5], [-1.0, 0.0]])

    def mean_kernel(x, y):
        return np.mean((x @ y.T / 2 + 1) ** 3)

    def over_all_draws(p, q):
        draws = product(product(range(2), repeat=3), product(range(2), repeat=2))
        return np.mean([squared_mmd(p[list(i)], q[list(j)]) for i, j in draws])

    assert over_all_draws(p, p) == pytest.approx(0, abs=1e-12)
    assert over_all_draws(p, q) == pytest.approx(
        mean_kernel(p, p) + mean_kernel(q, q) - 2 * mean_kernel(p, q), rel=1e-12
    )


@pytest.mark.parametrize("counts", [(120, 90), (90, 120), (40, 200)], ids=str)
def test_kid_is_clean_fids(cleanfid, counts):
    """The same subsets of the same sets, drawn with the same seed."""
    x, y = draw(counts[0], 16, seed=1), draw(counts[1], 16, seed=2) + 0.3
    state = np.random.get_state()
    np.random.seed(5)
    expected = cleanfid.kernel_distance(x, y, num_subsets=7, max_subset_size=50)
    np.random.set_state(state)
    assert kid(x, y, subsets=7, subset_size=50, seed=5) == pytest.approx(expected, rel=1e-10)
    assert kid(x, y, subsets=7, subset_size=50, seed=6) != pytest.approx(expected, rel=1e-3)


def test_kid_of_whole_sets_is_clean_fids(cleanfid):
    x, y = draw(60, 5, seed=3), 1.2 * draw(60, 5, seed=4)
    assert kid(x, y, subsets=None) == pytest.approx(cleanfid.kernel_distance(x, y, num_subsets=1), rel=1e-10)


def test_kid_does_not_depend_on_its_blocks(monkeypatch):
    x, y = draw(61, 4, seed=5), draw(45, 4, seed=6)
    whole = kid(x, y, subsets=None)
    monkeypatch.setattr(pairs, "BLOCK", 7)
    assert kid(x, y, subsets=None) == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("subsets, size", [(0, 50), (5, 1)])
def test_kid_needs_subsets(subsets, size):
    with pytest.raises(ValueError, match="at least one subset of at least two samples"):
        kid(draw(20, 2, seed=1), draw(20, 2, seed=2), subsets, size)


# Precision and recall -----------------------------------------------------------------------------------


def line(*points: float) -> np.ndarray:
    return np.array(points, dtype=float)[:, None]


@pytest.mark.parametrize("k, edges", [(1, (-1, 4)), (2, (-2, 5)), (3, (-3, 6))])
def test_precision_at_the_edges_of_the_balls(k, edges):
    """0, 1, 2, 3 with their k-th nearest neighbours cover [-k, 3 + k], the ends included."""
    low, high = edges
    found = precision_recall(line(0, 1, 2, 3), line(low - 0.01, low, high, high + 0.01), k)
    assert found.precision == 0.5


def test_recall_of_half_the_support():
    """The first 500 of 1000 points of a line reach three beyond their last: recall 0.503."""
    data = line(*range(1000))
    assert precision_recall(data, data[:500]) == PrecisionRecall(1.0, 0.503)
    assert precision_recall(data[:500], data) == PrecisionRecall(0.503, 1.0)


def test_a_set_covers_itself_and_none_far_away():
    data = draw(300, 6, seed=1)
    assert precision_recall(data, data) == PrecisionRecall(1.0, 1.0)
    assert precision_recall(data, data + 100) == PrecisionRecall(0.0, 0.0)


def test_a_mode_that_collapsed_covers_its_own_point():
    """Balls of radius zero are points, not nothing."""
    data = draw(40, 6, seed=2)
    assert precision_recall(data, data[[7] * 10]) == PrecisionRecall(1.0, 1 / 40)


@pytest.mark.parametrize("block", [1024, 16])
def test_precision_and_recall_by_brute_force(monkeypatch, block):
    monkeypatch.setattr(pairs, "BLOCK", block)
    data, generated = draw(150, 3, seed=3) + 50, 0.8 * draw(110, 3, seed=4) + 50.4

    def share(points, centres):
        radii = np.sort(cdist(centres, centres), axis=1)[:, 3]
        return np.mean((cdist(points, centres) <= radii).any(1))

    found = precision_recall(data, generated)
    assert found == PrecisionRecall(share(generated, data), share(data, generated))
    assert 0.3 < found.recall < found.precision < 1


def test_precision_needs_a_neighbour():
    with pytest.raises(ValueError, match="k >= 1"):
        precision_recall(draw(9, 2, seed=1), draw(9, 2, seed=2), k=0)


# Features -----------------------------------------------------------------------------------------------


def images(count: int, channels: int = 3, size: int = 12) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, channels, size, size), dtype=np.uint8)


class Classifier(torch.nn.Module):
    """Features of a small network that draws numbers unless it is in eval mode."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(3, 5, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Dropout()
        )

    def forward(self, x):
        return self.layers(x / 255)


def test_features_do_not_depend_on_the_batch():
    extractor = Extractor("small classifier", Classifier())
    found = extract(images(10), extractor, batch=4)
    assert found.values.shape == (10, 500)
    np.testing.assert_allclose(found.values, extract(images(10), extractor, batch=10).values, atol=1e-6)
    assert found.protocol == "small classifier, resize none"


def test_features_are_clean_fids(cleanfid, tmp_path):
    """The same network given to clean-fid, which reads the images from files."""
    extractor, pictures = Extractor("small classifier", Classifier()), images(5)
    found = extract(pictures, extractor)
    for k, picture in enumerate(pictures):
        Image.fromarray(picture.transpose(1, 2, 0)).save(tmp_path / f"{k}.png")
    expected = cleanfid.get_folder_features(
        str(tmp_path),
        extractor.network,
        num_workers=0,
        device="cpu",
        custom_fn_resize=lambda x: x,
        verbose=False,
    )
    np.testing.assert_allclose(found.values, expected, atol=1e-6)


@pytest.mark.parametrize(
    "bad",
    [images(3).astype(np.float32), images(3)[0], images(3, 2), images(0)],
    ids=["type", "shape", "channels", "none"],
)
def test_features_need_eight_bit_images(bad):
    with pytest.raises(ValueError, match="features need uint8 images"):
        extract(bad, Extractor("small classifier", Classifier()))


def test_a_network_that_breaks_is_named():
    with pytest.raises(ValueError, match="2 of 2 rows of the features by broken are not finite"):
        extract(
            images(2),
            Extractor(
                "broken", torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Threshold(1000, float("nan")))
            ),
        )


class StandIn(torch.nn.Module):
    """In place of Inception: `layers` from 299 x 299 to 2048 features, as clean-fid calls it."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.AvgPool2d(50, 11), torch.nn.Flatten(), torch.nn.Linear(3 * 23 * 23, 2048)
        )

    def forward(self, x):
        return self.layers(x)


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / INCEPTION
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(StandIn()).save(str(path))
    return path


@pytest.fixture
def offline(monkeypatch):
    """Any attempt to download fails the test."""

    def refuse(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setattr("socket.socket.connect", refuse)


@pytest.mark.filterwarnings("ignore:.*torch.jit.load.*:DeprecationWarning")
@pytest.mark.parametrize("channels", [3, 1])
def test_inception_is_clean_fids(stand_in, offline, cleanfid, tmp_path, channels):
    """From the weights at the given path, resized as clean-fid does images in a folder, grey ones too."""
    extractor = inception(stand_in, hashlib.sha256(stand_in.read_bytes()).hexdigest())
    pictures = images(3, channels)
    found = extract(pictures, extractor, batch=2)
    for k, picture in enumerate(pictures):
        Image.fromarray(picture.transpose(1, 2, 0).squeeze()).save(tmp_path / f"{k}.png")
    expected = cleanfid.get_folder_features(
        str(tmp_path), extractor.network, num_workers=0, device="cpu", verbose=False
    )
    np.testing.assert_allclose(found.values, expected, atol=1e-6)
    assert found.values.std() > 0.01
    assert found.protocol.startswith("inception-2015-12-05 (sha256 ")


def test_inception_is_never_downloaded(offline, tmp_path):
    with pytest.raises(
        FileNotFoundError, match="Inception weights .* are not there: download https://.*fewstep never does"
    ):
        inception(tmp_path / INCEPTION)
    assert not list(tmp_path.iterdir())


def test_inception_of_another_checksum_is_not_loaded(stand_in, monkeypatch):
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("the file was loaded"))
    with pytest.raises(ValueError, match="has SHA-256 .* and not f58cb9b6.*: it was not loaded"):
        inception(stand_in)


def test_inception_goes_by_its_published_name(tmp_path):
    with pytest.raises(ValueError, match="a file named inception-2015-12-05.pt, not weights.pt: rename it"):
        inception(tmp_path / "weights.pt")


# The evaluation protocol --------------------------------------------------------------------------------

PROTOCOL = ImageProtocol(
    "FID", "inception (sha256 f58cb9b6)", "train", 50_000, "png", "clean", "sha256 00ff", "EMA 0.9999", (0, 1)
)
CHANGES = {
    "metric": "KID, 100 subsets of 1000",
    "extractor": "small classifier",
    "split": "test",
    "samples": 10_000,
    "format": "uint8",
    "resize": "none",
    "reference": "sha256 00fe",
    "weights": "last",
    "seeds": (0, 2),
}


def test_a_protocol_is_read_back_from_its_text():
    assert str(PROTOCOL).startswith(
        "metric=FID; extractor=inception (sha256 f58cb9b6); split=train; samples=50000; "
    )
    for field, value in CHANGES.items():
        changed = replace(PROTOCOL, **{field: value})
        assert parse(str(changed)) == changed
        assert str(changed) != str(PROTOCOL)


@pytest.mark.parametrize(
    "field, value",
    [("split", ""), ("resize", "a; b"), ("samples", 1), ("seeds", ()), ("seeds", [0]), ("weights", " x")],
)
def test_a_protocol_says_all(field, value):
    with pytest.raises(ValueError, match=f"the protocol's '{field}'"):
        replace(PROTOCOL, **{field: value})


@pytest.mark.parametrize(
    "text",
    ["", "KL, 50 bins", str(PROTOCOL) + "; more=1", str(PROTOCOL).replace("50000", "many"), f"{PROTOCOL} "],
)
def test_another_text_is_no_protocol(text):
    with pytest.raises(ValueError, match="is not the protocol of a number about images"):
        parse(text)


# Self-checks --------------------------------------------------------------------------------------------


def test_the_self_checks_where_all_is_known():
    """Data N(0, I), noise N(2, 9 I): 8 a dimension between them, and a bias of 2 d / n + d (d + 1) / (2 n) to
    first order."""
    dim, sizes = 5, [250, 500, 1000]
    found = self_checks(
        draw(20_000, dim, seed=1), lambda count: 3 * draw(count, dim, seed=2) + 2, sizes, repeats=40
    )
    assert list(found.columns) == ["check", "samples", "repeat", "fid"]
    assert found.groupby("check", sort=False).size().to_dict() == {
        "split in two": 40,
        "noise": 1,
        "bias": 120,
    }
    mean = found.groupby(["check", "samples"]).fid.mean()
    assert mean["noise", 20_000] == pytest.approx(dim * (2**2 + (3 - 1) ** 2), rel=0.02)
    for size in sizes:
        assert mean["bias", size] == pytest.approx((2 * dim + dim * (dim + 1) / 2) / size, rel=0.15)
    assert mean["split in two", 10_000] == pytest.approx(25 / 10_000, rel=0.25)


def test_the_parts_of_the_self_checks_are_disjoint_and_differ():
    """Of features that are all different, two halves share none: a distance of zero would mean that they
    do."""
    found = self_checks(draw(40, 3, seed=1), lambda count: draw(count, 3, seed=2), [10, 20], repeats=3)
    assert (found.fid > 1e-3).all()
    assert found.fid.round(12).nunique() == 3 + 1 + 3  # parts of half the data are the split in two once more


def test_self_checks_need_data_for_two_parts():
    with pytest.raises(ValueError, match="two disjoint parts of 30 samples need 60 and there are 40"):
        self_checks(draw(40, 3, seed=1), lambda count: draw(count, 3, seed=2), [30])
    with pytest.raises(ValueError, match="3 samples of 3 features have a singular covariance"):
        self_checks(draw(40, 3, seed=1), lambda count: draw(count, 3, seed=2), [3])
