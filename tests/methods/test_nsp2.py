from __future__ import annotations

import pytest
import torch
from factory import (
    VIT,
    VIT_SHAPE,
    add_task,
    learn,
    make_method,
    make_settings,
    make_task,
    make_train_step,
)
from torch.nn import functional

from ness_cli.errors import NumericalError, SettingsError
from ness_cli.methods.nsp2 import relaxed_projector
from ness_cli.optim.make import make_optimizer
from ness_cli.settings.sections import TrainSettings
from ness_cli.subspace.spectrum import spectrum
from ness_cli.subspace.threshold import knee


def _method(train=None, prompts=4, patch=4, heads="per-task", **options):
    arguments = {**VIT["arguments"], "patch_size": patch}
    settings = make_settings(
        method={"name": "nsp2"},
        net={**VIT, "arguments": arguments, "prompts": prompts, "heads": heads},
        train={"optimizer": "adam", "lr": 0.01} | (train or {}),
        methods={"nsp2": options},
    )
    method = make_method(settings, VIT_SHAPE)
    add_task(method, 1)
    return method


def _task(number, **kwargs):
    return make_task(number, shape=VIT_SHAPE, **kwargs)


def _learned(method, number, steps=4):
    if number > 1:
        add_task(method, number)
    return learn(method, _task(number), steps)


def _tokens_into_attention(method, x):
    """Return what goes into the attention of every block, prompts last, ``[n, length, width]``."""
    found, handles = [], []
    for block in method.prompts.blocks:
        hook = block.attention.register_forward_pre_hook(lambda _, args: found.append(args[0]))
        handles.append(hook)
    with torch.no_grad(), method.task_view(1) as model:
        model(x)
    for handle in handles:
        handle.remove()
    return found


def _rows(method, position, x):
    """Return the rows of both conditions of a block, one by one as the paper has them, float64."""
    block, tokens = method.prompts.blocks[position], method.prompts.tokens[position].detach()
    count, width = tokens.shape
    weight, bias = block.in_proj.weight.detach().double(), block.in_proj.bias.detach().double()
    own = width // block.num_heads
    gamma = block.norm.weight.detach().double()
    centred = tokens.double() - tokens.double().mean(dim=1, keepdim=True)
    deviation = centred.square().mean(dim=1).sqrt()
    affinity, aggregation = [], []
    for image in _tokens_into_attention(method, x)[position].double():
        for head in range(block.num_heads):
            at = slice(head * own, (head + 1) * own)
            w_q, w_k = weight[:width][at], weight[width : 2 * width][at]
            q = image @ w_q.T + bias[:width][at]
            k = image @ w_k.T + bias[width : 2 * width][at]
            weights = torch.softmax(q @ k.T / own**0.5, dim=1)
            affinity.append(q[:-count] @ w_k * gamma)
            aggregation.append(weights[:-count, -count:] / deviation)
    return torch.cat(affinity), torch.cat(aggregation)


def test_covariances_are_those_of_queries_times_keys_and_of_attention_to_prompts():
    method = _method()
    with torch.no_grad():  # a layer norm that has learned
        for block in method.prompts.blocks:
            block.norm.weight.uniform_(0.5, 2)
    first = _learned(method, 1)
    expected = {}
    for position, block in enumerate(method.prompts.blocks):
        of_task = _rows(method, position, first.train.batch(slice(None)).x)
        expected[block.name] = [rows.T @ rows for rows in of_task]
    second = _learned(method, 2, steps=0)
    found = method.outputs("build")["covariance"]
    for position, block in enumerate(method.prompts.blocks):
        of_task = _rows(method, position, second.train.batch(slice(None)).x)
        for kind, earlier, rows in zip(
            ("affinity", "aggregation"), expected[block.name], of_task, strict=True
        ):
            c = earlier + rows.T @ rows
            scale = float(c.abs().max())
            torch.testing.assert_close(
                found[f"{block.name}.{kind}"], c, rtol=1e-4, atol=1e-5 * scale
            )


def _null(covariance):
    values, vectors = torch.linalg.eigh(covariance)
    return vectors[:, values < 1e-8 * values[-1]]


def test_steps_inside_both_null_spaces_that_keep_deviations_leave_old_outputs_alone():
    # One patch and the class token, two heads: 4 rows an image. Width 16 and 6 prompts leave room.
    method = _method(prompts=6, patch=8)
    method.model.double()
    with torch.no_grad():
        for block in method.prompts.blocks:
            block.norm.weight.uniform_(0.5, 2)
    method.model.register_forward_pre_hook(lambda _, args: (args[0].double(),))
    task = _task(1, n=1)
    method.consolidate(task, lambda _: None)
    covariances = method.outputs("build")["covariance"]
    x = task.train.batch(slice(None)).x
    with torch.no_grad(), method.task_view(1) as model:
        before = model(x)

        def changed(steps):
            for tokens, step in zip(method.prompts.tokens, steps, strict=True):
                tokens.add_(1e-4 * step)
            found = float((model(x) - before).norm())
            for tokens, step in zip(method.prompts.tokens, steps, strict=True):
                tokens.sub_(1e-4 * step)
            return found

        inside, beside = [], []
        for block, tokens in zip(method.prompts.blocks, method.prompts.tokens, strict=True):
            right = _null(covariances[f"{block.name}.affinity"])
            left = _null(covariances[f"{block.name}.aggregation"])
            assert right.shape[1] == 12
            assert left.shape[1] == 2
            # Means and, to first order, deviations stay: orthogonal to ones and to every prompt.
            kept = torch.cat([torch.ones(1, 16).double(), tokens], dim=0)
            _, _, vh = torch.linalg.svd(kept @ right)
            free = right @ vh[len(kept) :].T
            step = left @ torch.randn(2, free.shape[1], dtype=torch.float64) @ free.T
            inside.append(step / step.norm())
            other = torch.randn_like(step)
            beside.append(other / other.norm())
        # What is left is of second order in the step.
        assert changed(inside) < 1e-3 * changed(beside)


def test_the_null_space_begins_where_the_spectrum_bends_most():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(8, 8, generator=generator, dtype=torch.float64)
    basis = torch.linalg.qr(noise).Q
    values = torch.tensor([9, 8, 7, 0.5, 0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    found = spectrum(basis @ values.diag() @ basis.T, layer="x")
    null, eye = basis[:, 3:], torch.eye(8, dtype=torch.float64)
    projector = relaxed_projector(found, knee(found.sigma, 1.0), 1.0, is_scaled=False)
    torch.testing.assert_close(projector, null @ null.T)
    scaled = null @ null.T / torch.linalg.matrix_norm(null @ null.T)
    torch.testing.assert_close(
        relaxed_projector(found, knee(found.sigma, 1.0), 0.9, is_scaled=True),
        0.9 * scaled + 0.1 * eye,
    )
    torch.testing.assert_close(relaxed_projector(found, 1.0, 0.0, is_scaled=False), eye)


@pytest.mark.parametrize("is_scaled", [False, True])
def test_without_room_a_step_is_shortened_and_without_use_it_is_free(is_scaled):
    used = spectrum(torch.ones(1, 1), layer="x")
    found = relaxed_projector(used, knee(used.sigma, 1.0), 0.75, is_scaled=is_scaled)
    torch.testing.assert_close(found, torch.tensor([[0.25]], dtype=torch.float64))
    unused = spectrum(torch.zeros(4, 4), layer="x")
    expected = torch.eye(4, dtype=torch.float64) / (2 if is_scaled else 1)
    torch.testing.assert_close(
        relaxed_projector(unused, knee(unused.sigma, 1.0), 1.0, is_scaled=is_scaled), expected
    )


def _null_projector(c, eta):
    """Return eta N + (1 - eta) I with N by the authors' procedure for short spectra, float64."""
    u, values, _ = torch.linalg.svd(c)
    bends = [values[i - 1] - 2 * values[i] + values[i + 1] for i in range(1, len(values) - 1)]
    start = 1 + max(range(len(bends)), key=lambda i: float(bends[i]))
    null = u[:, start:]
    return eta * null @ null.T + (1 - eta) * torch.eye(len(c), dtype=c.dtype)


def test_adams_step_is_multiplied_by_both_projectors():
    method = _method(eta=0.9, prompt_lr_factor=2.0)
    _learned(method, 1)
    add_task(method, 2)
    method.model.double()
    task = _task(2)
    method.begin_task(task)
    covariances = method.outputs("build")["covariance"]
    optimizer = make_optimizer(method.parameter_groups(task), method.train)
    step = make_train_step(method, task.train, slice(0, 2))
    starts = [tokens.detach().clone() for tokens in method.prompts.tokens]
    generator = torch.Generator().manual_seed(1)
    moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in starts]
    for count in (1, 2, 3):
        for parameter in method.trainable().values():
            parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        gradients = [tokens.grad.clone() for tokens in method.prompts.tokens]
        method.apply(step, optimizer)
        for i, (block, g) in enumerate(zip(method.prompts.blocks, gradients, strict=True)):
            first, second = moments[i]
            first.mul_(0.9).add_(0.1 * g)
            second.mul_(0.999).add_(0.001 * g.square())
            change = first / (1 - 0.9**count) / ((second / (1 - 0.999**count)).sqrt() + 1e-8)
            left = _null_projector(covariances[f"{block.name}.aggregation"], 0.9)
            right = _null_projector(covariances[f"{block.name}.affinity"], 0.9)
            starts[i] = starts[i] - 0.02 * left @ change @ right
            torch.testing.assert_close(method.prompts.tokens[i].detach(), starts[i])


def test_sam_goes_uphill_where_prompts_may_move():
    method = _method(eta=0.9)
    _learned(method, 1)
    add_task(method, 2)
    method.model.double()
    method.begin_task(_task(2))
    covariances = method.outputs("build")["covariance"]
    generator = torch.Generator().manual_seed(1)
    for parameter in method.trainable().values():
        parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    for block, tokens in zip(method.prompts.blocks, method.prompts.tokens, strict=True):
        left = _null_projector(covariances[f"{block.name}.aggregation"], 0.9)
        right = _null_projector(covariances[f"{block.name}.affinity"], 0.9)
        found = method.ascent_direction(tokens)
        torch.testing.assert_close(found, left @ tokens.grad @ right)
    head = method.model.head(2).weight
    assert torch.equal(method.ascent_direction(head), head.grad)


def test_the_penalty_is_the_way_of_means_and_deviations():
    method = _method(drift_weight=3.0)
    assert method.penalty(None) is None
    _learned(method, 1)
    add_task(method, 2)
    method.begin_task(_task(2))
    assert method.penalty(None).item() == 0.0
    expected = 0.0
    with torch.no_grad():
        for tokens in method.prompts.tokens:
            before = tokens.clone().double().numpy()
            tokens.add_(torch.randn_like(tokens))
            after = tokens.double().numpy()
            expected += abs(after.mean(1) - before.mean(1)).mean()
            expected += abs(after.std(1) - before.std(1)).mean()
    assert method.penalty(None).item() == pytest.approx(3 * expected, rel=1e-5)


def test_the_temperature_divides_the_logits():
    method = _method(temperature=5.0)
    task = _task(1)
    method.begin_task(task)
    step = make_train_step(method, task.train)
    expected = functional.cross_entropy(step.logits() / 5, step.batch.y)
    torch.testing.assert_close(method.loss(step), expected)


@pytest.mark.parametrize("backbone", ["first-task", "frozen"])
def test_after_the_first_task_prompts_and_head_train_and_nothing_else(backbone):
    method = _method(backbone=backbone)
    moved = []
    for number in (1, 2):
        before = {n: p.detach().clone() for n, p in method.model.named_parameters()}
        _learned(method, number)
        now = dict(method.model.named_parameters())
        moved.append({n for n, p in before.items() if not torch.equal(p, now[n])})
    prompts = {"backbone.prompts.tokens.0", "backbone.prompts.tokens.1"}
    assert moved[1] == prompts
    assert moved[0] >= prompts | {"heads.1.weight"}
    has_trunk = "backbone.model.encoder.layers.encoder_layer_0.self_attention.in_proj.weight"
    assert (has_trunk in moved[0]) == (backbone == "first-task")


def test_networks_without_prompts_and_shared_heads_are_refused_with_a_remedy():
    mlp = make_method(make_settings(method={"name": "nsp2"}))
    with pytest.raises(SettingsError, match="nsp2 learns the prompts") as error:
        mlp.check_options()
    assert "net.prompts=4" in error.value.remedy
    _method().check_options()
    method = _method(heads="shared")
    with pytest.raises(SettingsError, match=r"net\.heads"):
        method.check_options()


def test_one_image_is_no_error_and_nan_is_one_that_names_the_block():
    method = _method()
    method.consolidate(_task(1, n=1), lambda _: None)
    assert all(torch.isfinite(c).all() for c in method.outputs("build")["covariance"].values())
    with torch.no_grad():
        method.prompts.tokens[1].fill_(float("nan"))
    with pytest.raises(NumericalError, match="encoder_layer_1"):
        method.consolidate(_task(1), lambda _: None)


def test_null_spaces_may_hold_a_share_of_the_energy_instead():
    method = _method(threshold="energy", eps1=0.02)
    task = _task(1)
    rows = method.consolidate(task, lambda _: None)
    for row, block in zip(rows, method.prompts.blocks, strict=True):
        values = torch.linalg.eigvalsh(
            method.outputs("build")["covariance"][f"{block.name}.affinity"]
        )
        held = values.cumsum(0) / values.sum()
        assert row.rank == int((held <= 0.02).sum()) > 0
        assert row.energy_percent <= 2
        assert row.rule == "energy 0.02"


def test_it_asks_for_adam():
    options = _method().options
    assert options.adjustments(TrainSettings()) == {"optimizer": "adam", "lr": 1e-3}
    assert options.adjustments(TrainSettings(optimizer="adamw")) == {}
