"""A run's model in somebody's program: the accuracies of the run, from nothing but its folder."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_runs import TINY, make_run, prepared
from typer.testing import CliRunner

import ness_cli
from ness_cli.cli.app import app
from ness_cli.errors import InputError, UnreadableError


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("used") / "run", "net.batch_norm=true")


def test_logits_are_those_of_the_views_of_all_tasks(run):
    model = ness_cli.load(run)
    images = prepared(run, 2).images
    assert not model.training
    assert model.classes == tuple("0123456789"[:4])
    assert model.class_tasks == (1, 1, 2, 2)
    views = []
    for task_number in (1, 2):
        with torch.no_grad(), model.view(task_number) as network:
            views.append(network(model.images.normalised(images, task_number)))
    assert torch.equal(model(images), torch.cat(views, dim=1))
    assert torch.equal(ness_cli.load(run, 2)(images), views[1])


def test_the_heads_that_answer_are_parameters_from_the_start(run):
    both, second = ness_cli.load(run), ness_cli.load(run, 2)
    for model, heads in ((both, {"1", "2"}), (second, {"2"})):
        names = {name for name, _ in model.named_parameters()}
        assert {n.split(".")[2] for n in names if n.startswith("network.heads.")} == heads
    images = prepared(run, 1).images
    with torch.inference_mode():
        both(images)
    with both.view(1) as network:
        network(both.images.normalised(images, 1)).sum().backward()
    assert network.head(1).weight.grad is not None
    both.load_state_dict({name: torch.ones_like(t) for name, t in both.state_dict().items()})
    assert both.network.head(1).weight.eq(1).all()


def test_a_prediction_has_the_softmax_of_the_logits(run):
    model = ness_cli.load(run, device="cpu")
    images = prepared(run, 1).images[:7]
    probabilities = model(images).double().softmax(dim=1)
    for row, found in zip(probabilities, model.predict(images, top=3, batch_size=2), strict=True):
        assert len(found.top) == 3
        assert [each.confidence for each in found.top] == pytest.approx(
            row.sort().values[-3:].flip(0)
        )
        assert (found.label, found.task) == (found.top[0].label, found.top[0].task)
        assert model.classes[int(row.argmax())] == found.label
    assert model.predict([]) == []


def test_images_of_any_kind_become_those_of_the_run(run, tmp_path):
    model = ness_cli.load(run)
    pixels = prepared(run, 1).images[0]
    picture = Image.fromarray(pixels[0].numpy())
    picture.save(tmp_path / "a.png")
    same = [tmp_path / "a.png", str(tmp_path / "a.png"), picture, pixels[0].numpy(), pixels]
    for image in [*same, picture.convert("RGB"), np.stack([pixels[0].numpy()] * 3, axis=2)]:
        assert torch.equal(model.preprocess(image), pixels)
    assert model.preprocess(picture.resize((31, 20))).shape == (1, 8, 8)
    (found,) = model.predict([tmp_path / "a.png"])
    assert found == model.predict(pixels[None])[0]


@pytest.mark.parametrize(
    ("image", "error"),
    [
        (np.zeros((8, 8), np.float32), InputError),
        (np.zeros((8, 8, 2), np.uint8), InputError),
        (torch.full((1, 8, 8), torch.nan), InputError),
        (np.zeros((0, 8), np.uint8), InputError),
        ("no-such-file.png", UnreadableError),
        (__file__, UnreadableError),
    ],
)
def test_what_is_no_image_is_refused(image, error, run):
    with pytest.raises(error):
        ness_cli.load(run).preprocess(image)


def test_what_is_not_there_is_named_with_the_way_to_it(run, tmp_path):
    prepared = tmp_path / "prepared"
    CliRunner().invoke(app, ["prepare", "--out", str(prepared), *TINY])
    with pytest.raises(InputError, match="no task is trained yet") as refused:
        ness_cli.load(prepared)
    assert refused.value.remedy == f"run: ness train-task {prepared}"
    with pytest.raises(InputError, match="task: 3 is not between 1 and 2"):
        ness_cli.load(run, 3)
    with pytest.raises(InputError, match="task: 2 is not between 1 and 1"):
        ness_cli.load(run, 2, after=1)
    with pytest.raises(InputError):
        ness_cli.load(tmp_path / "nowhere")


def test_loading_leaves_the_process_as_it_was(run):
    torch.set_deterministic_debug_mode("default")
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    ness_cli.load(run)
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_deterministic_debug_mode() == 0


def test_the_package_itself_is_light():
    program = "import sys, ness_cli; assert not {'torch', 'numpy', 'pydantic'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=600)


def test_results_are_read_without_torch(run):
    program = (
        "import sys, ness_cli; found = ness_cli.read_results(sys.argv[1]);"
        "assert 0 <= found.task_incremental.acc <= 100; assert found.num_done == 2;"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program, str(run)], check=True, timeout=600)
