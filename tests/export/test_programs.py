"""Programs from pixels to probabilities: ONNX, torch.export, and one for all tasks."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest
import torch
from export.exported import make_subject, run_without_ness
from factory import VIT, make_images
from safetensors.torch import save_file

from ness_cli import files
from ness_cli.errors import SettingsError, SystemRefusedError
from ness_cli.export.formats.merged import Merged
from ness_cli.export.formats.onnx import Onnx
from ness_cli.export.formats.pt2 import Pt2

MLP = {"name": "mlp", "hidden": [12, 10], "batch_norm": True}
SHAPE = (1, 4, 4)
CHECK = """
import sys, torch
from safetensors.torch import load_file
expected = load_file(sys.argv[2])
images, logits = expected["images"], expected["logits"]
def check(found):
    probabilities, theirs = (torch.as_tensor(each) for each in found)
    ours = logits[: len(theirs)]
    torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(probabilities, ours.softmax(1), rtol=1e-5, atol=1e-5)
"""
PT2 = (
    CHECK
    + """
model = torch.export.load(sys.argv[1]).module()
for n in (1, 3, 6):
    check(model(images[:n]))
"""
)
ONNX = (
    CHECK
    + """
import onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
(given,) = session.get_inputs()
assert given.type == "tensor(uint8)" and given.shape[1:] == [1, 4, 4], given
for n in (1, 3, 6):
    check(session.run(None, {"images": images[:n].numpy()}))
"""
)


def _with_all_tasks(subject):
    images = {info.number: make_images(info.number, 5, seed=3).images for info in subject.tasks}
    return replace(subject, images=images)


def _expected(subject, path):
    tensors = {"images": subject.images[subject.task], "logits": subject.logits(subject.task)}
    save_file(tensors, path)
    return path


@pytest.mark.parametrize(
    "sections",
    [
        {"net": MLP, "norm": {"affine": "per-task"}},
        {"net": {"name": "alexnet", "width": 0.05}, "shape": (3, 32, 32)},
        {"method": {"name": "hat"}},
        {"net": VIT},
    ],
    ids=["mlp", "alexnet", "gates", "prompts"],
)
def test_a_program_has_the_logits_of_the_run_for_any_number_of_images(sections, tmp_path):
    subject = make_subject(1, **sections)
    Pt2().write(subject, tmp_path)
    found = Pt2().logits(subject, tmp_path, 1)
    torch.testing.assert_close(found, subject.logits(1), rtol=1e-5, atol=1e-5)


def test_a_program_runs_where_this_package_is_not(processes, tmp_path):
    subject = make_subject(net=MLP)
    Pt2().write(subject, tmp_path)
    expected = _expected(subject, tmp_path / "expected.st")
    run_without_ness(processes, PT2, tmp_path / "model.pt2", expected)


def test_a_graph_runs_in_onnxruntime(processes, tmp_path):
    for library in Onnx.libraries:
        pytest.importorskip(library)
    subject = make_subject(net=MLP)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONWARNINGS", "ignore")
        Onnx().write(subject, tmp_path)
    found = Onnx().logits(subject, tmp_path, 2)
    torch.testing.assert_close(found, subject.logits(2), rtol=1e-5, atol=1e-5)
    expected = _expected(subject, tmp_path / "expected.st")
    run_without_ness(processes, ONNX, tmp_path / "model.onnx", expected)


def test_versions_that_cannot_write_a_graph_together_are_named(tmp_path, monkeypatch):
    def unable(*_args, **_options):
        raise torch.onnx.OnnxExporterError("no translation of batch norm")

    pytest.importorskip("onnxscript")
    monkeypatch.setattr(torch.onnx, "export", unable)
    with pytest.raises(SystemRefusedError, match=r"torch \d.* with onnxscript \d") as error:
        Onnx().write(make_subject(net=MLP), tmp_path)
    assert "--to pt2" in error.value.remedy


def test_one_image_alone_is_enough_to_export_by(tmp_path):
    subject = make_subject(net=MLP)
    subject = replace(subject, images={2: subject.images[2][:1]})
    Pt2().write(subject, tmp_path)
    found = Pt2().logits(subject, tmp_path, 2)
    torch.testing.assert_close(found, subject.logits(2), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("affine", ["frozen", "per-task"])
def test_a_merged_program_tells_the_tasks_of_mixed_batches_apart(affine, tmp_path):
    subject = _with_all_tasks(make_subject(net=MLP, norm={"affine": affine}, num_tasks=3))
    Merged().write(subject, tmp_path)
    for task_number in subject.images:
        found = Merged().logits(subject, tmp_path, task_number)
        torch.testing.assert_close(found, subject.logits(task_number), rtol=1e-5, atol=1e-5)


def test_gates_of_each_task_are_not_merged(tmp_path):
    with pytest.raises(SettingsError, match="what hat adds"):
        Merged().write(_with_all_tasks(make_subject(method={"name": "hat"})), tmp_path)


@pytest.mark.parametrize("form", [Pt2, Merged])
def test_a_full_disk_is_an_error_and_not_the_end_of_the_process(form, tmp_path, monkeypatch):
    def full(path, chunks, *, durable):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "_write", full)
    with pytest.raises(OSError, match=r"No space left on device; \d+ bytes were to be written"):
        form().write(_with_all_tasks(make_subject(net=MLP)), tmp_path)
    assert list(tmp_path.iterdir()) == []
