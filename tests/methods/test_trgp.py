from __future__ import annotations

import pytest
import torch
from factory import add_task, make_method, make_settings, make_steps, make_task, make_train_step
from torch.nn import functional

from ness_cli.errors import SettingsError
from ness_cli.methods.trgp import most_related
from ness_cli.subspace.layer_view import LayerView
from ness_cli.subspace.scaled import ScaledLayer, scaled_matrix


def _orthonormal(d, r, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(d, r, generator=generator, dtype=torch.float64))[0]


def _method(tasks=2, steps=4, train=None, net=None, shape=(1, 4, 4), **options):
    """A method that has learned some tasks and begun one more."""
    settings = make_settings(
        method={"name": "trgp"},
        train=train or {},
        net=net or {},
        methods={"trgp": {"relevance": 0.0, "scaling_lr": 1.0, **options}},
    )
    method = make_method(settings, shape)
    for number in range(1, tasks + 1):
        add_task(method, number)
        task = make_task(number, shape=shape)
        method.begin_task(task)
        for _ in make_steps(method, task, steps):
            pass
        method.end_task(task)
        method.consolidate(task, lambda _: None)
    add_task(method, tasks + 1)
    task = make_task(tasks + 1, shape=shape)
    method.begin_task(task)
    return method, task


# -- which tasks are related -------------------------------------------------------------------


def test_tasks_are_related_by_the_share_of_the_gradient_in_their_subspace():
    gradient = torch.tensor([[3.0, 0.0, 0.0, 4.0], [0.0, 1.0, 0.0, 0.0]])
    eye = torch.eye(4)
    bases = {1: eye[:, :1], 2: eye[:, 3:], 3: eye[:, 1:2], 4: eye[:, :0]}
    norm = 26**0.5
    for relevance in (0.0, 0.1, 0.5, 0.7, 1.0):
        expected = {1: 3 / norm, 2: 4 / norm, 3: 1 / norm, 4: 0.0}
        related = [n for n in (2, 1, 3, 4) if expected[n] > relevance]
        assert most_related(gradient, bases, relevance) == related
    assert most_related(torch.zeros(2, 4), bases, 0.0) == []


def test_they_are_chosen_by_the_gradient_where_training_starts():
    method, task = _method(tasks=3, relevance=0.3)
    model, batch = method.model, task.train.batch(slice(0, len(task.train)))
    chosen, memory = method._related, method.outputs("build")["memory"]
    columns = {n: method._columns[n] for n in (1, 2, 3)}
    method.end_task(task)
    model.double().eval()
    weights = {name: view.weight for name, view in method.layers.items()}
    for weight in weights.values():
        weight.requires_grad_(True)
    loss = functional.cross_entropy(model(batch.x.double()), batch.y)
    gradients = torch.autograd.grad(loss, list(weights.values()))
    for (name, weight), g in zip(weights.items(), gradients, strict=True):
        projected = {}
        for number, own in columns.items():
            b = memory[f"{name}.M"].double()[:, own[name]]
            projected[number] = float((g.reshape(len(weight), -1) @ b @ b.T).norm() / g.norm())
        order = sorted(projected, key=lambda n: -projected[n])[:2]
        assert chosen.get(name, []) == [n for n in order if projected[n] > 0.3]
    assert any(chosen.values())


def test_a_relevance_of_one_is_gpm():
    models = []
    for name, options in (("trgp", {"relevance": 1.0}), ("gpm", {})):
        settings = make_settings(method={"name": name}, methods={name: options})
        method = make_method(settings)
        for number in (1, 2):
            add_task(method, number)
            task = make_task(number)
            method.begin_task(task)
            for _ in make_steps(method, task, 4):
                pass
            method.end_task(task)
            method.consolidate(task, lambda _: None)
        models.append(method.model.state_dict())
    for key, value in models[0].items():
        assert torch.equal(value, models[1][key]), key


# -- the scaled layer --------------------------------------------------------------------------


LAYERS = [
    torch.nn.Linear(6, 5, bias=False),
    torch.nn.Linear(6, 5),
    torch.nn.Conv2d(2, 5, (1, 3), bias=False),
    torch.nn.Conv2d(2, 6, (1, 3), padding=1, groups=1),
    torch.nn.Conv2d(4, 6, (1, 3), groups=2),
]


@pytest.mark.parametrize("module", LAYERS, ids=lambda m: f"{type(m).__name__}-{m.bias is not None}")
def test_the_layer_computes_with_the_authors_scaled_weight(module):
    """W + W B1 (Q1 - I) B1^T + W B2 (Q2 - I) B2^T, and its gradients, in float64."""
    module = module.double()
    view = LayerView("layer", module, augment_bias=True)
    bases = [_orthonormal(view.dim, 3, 1), _orthonormal(view.dim, 2, 2)]
    w = view.matrix().clone()
    x = (
        torch.randn(4, 6)
        if isinstance(module, torch.nn.Linear)
        else torch.randn(4, module.in_channels, 2, 5)
    )
    x = x.double()
    layer = ScaledLayer(view, bases)
    qs = [torch.randn(b.shape[1], b.shape[1], dtype=torch.float64) for b in bases]
    with torch.no_grad():
        for factor, q in zip(layer.scaling.factors, qs, strict=True):
            factor.copy_(q - torch.eye(len(q)))
    y = module(x)
    goal = torch.randn_like(y)
    (y * goal).sum().backward()
    found = [factor.grad.clone() for factor in layer.scaling.factors]
    factors = layer.factors()
    layer.detach()
    assert not list(module.children())
    assert set(module.state_dict()) <= {"weight", "bias"}
    assert torch.equal(view.matrix(), w)

    qs = [q.requires_grad_(True) for q in qs]
    effective = w
    for b, q in zip(bases, qs, strict=True):
        effective = effective + w @ b @ (q - torch.eye(len(q))) @ b.T
    torch.testing.assert_close(scaled_matrix(w, bases, factors), effective.detach())
    # What the view calls rows, times the effective matrix, is the output at every position.
    plain = torch.stack([view.rows(x[i : i + 1]) for i in range(len(x))])
    if view.groups > 1:
        halves = plain.view(len(x), -1, 2, view.dim)
        parts = effective.view(2, -1, view.dim)
        outputs = torch.einsum("npgd,god->npgo", halves, parts).flatten(2)
    else:
        outputs = plain @ effective.T
    expected = outputs.transpose(1, 2).reshape(y.shape)
    torch.testing.assert_close(y, expected)
    (expected * goal).sum().backward()
    for mine, q in zip(found, qs, strict=True):
        torch.testing.assert_close(mine, q.grad)


@pytest.mark.parametrize("net", [{}, {"biases": True, "bias": "augmented"}, {"heads": "shared"}])
def test_a_step_is_that_of_the_authors_procedure(net):
    """G_eff A^T (I - M M^T) for W and (W B)^T G_eff B for Q, by autograd through the whole sum."""
    method, task = _method(train={"momentum": 0.0, "lr": 0.01}, net=net)
    views = method.layers
    assert len(method._attached) == len(views)
    for _ in make_steps(method, task, 2):  # so that the scalings are no longer I
        pass
    before = {name: view.matrix().clone().double() for name, view in views.items()}
    layers = method._attached
    old = {n: [d.double() for d in layer.factors()] for n, layer in layers.items()}
    effective = {}
    for name, layer in layers.items():
        bases = torch.split(layer.scaling.directions.double(), layer.scaling.widths, dim=1)
        effective[name] = (
            before[name].requires_grad_(True),
            [d.requires_grad_(True) for d in old[name]],
            bases,
        )
    model = method.model
    head = model.head(task.number).weight.detach().double()
    x = task.train.batch(slice(0, 8)).x.double().flatten(1)
    for name, (w, ds, bases) in effective.items():
        total = w + sum(w @ b @ d @ b.T for b, d in zip(bases, ds, strict=True))
        if net.get("biases") and name.startswith("fc"):
            x = torch.relu(x @ total[:, :-1].T + total[:, -1])
        else:
            x = x @ total.T if name == "heads.shared" else torch.relu(x @ total.T)
    logits = x if net.get("heads") == "shared" else x @ head.T
    functional.cross_entropy(logits, task.train.batch(slice(0, 8)).y).backward()
    next(make_steps(method, task, 1))
    memory = method.outputs("build")["memory"]
    for name, (w, ds, _) in effective.items():
        m = memory[f"{name}.M"].double()
        projected = w.grad - w.grad @ m @ m.T
        change = views[name].matrix().double() - w.detach()
        torch.testing.assert_close(change, -0.01 * projected, rtol=1e-3, atol=1e-7)
        for d, now in zip(ds, layers[name].factors(), strict=True):
            moved = now.double() - d.detach()
            torch.testing.assert_close(moved, -0.01 * d.grad, rtol=1e-3, atol=1e-7)


def test_a_task_is_seen_with_its_own_scaling_and_old_tasks_stay_what_they_were():
    method, task = _method(tasks=3, threshold=1.0, threshold_increase=0.0)
    x = {n: make_task(n).train.batch(slice(0, 5)).x for n in (1, 2, 3)}
    with torch.no_grad():
        plain = method.layers["fc1"].matrix().clone()
        method.end_task(task)
        outputs = {}
        for number in (1, 2, 3):
            with method.task_view(number) as model:
                outputs[number] = model(x[number])
                is_plain = torch.equal(method.layers["fc1"].matrix(), plain)
                assert is_plain == (number == 1)
            assert torch.equal(method.layers["fc1"].matrix(), plain)
    # Everything that earlier inputs use is protected, so later training leaves their outputs.
    method.begin_task(task)
    for _ in make_steps(method, task, 4):
        pass
    method.end_task(task)
    for number, before in outputs.items():
        with torch.no_grad(), method.task_view(number) as model:
            torch.testing.assert_close(model(x[number]), before, rtol=1e-3, atol=1e-4)


def test_training_sees_its_own_scaling_and_evaluation_the_same_to_rounding():
    method, task = _method(train={"lr": 0.01})
    x = task.train.batch(slice(0, 8)).x
    for _ in make_steps(method, task, 3):
        pass
    with torch.no_grad(), method.task_view(task.number) as model:
        in_training = model(x)
    method.end_task(task)
    with torch.no_grad(), method.task_view(task.number) as model:
        torch.testing.assert_close(model(x), in_training, rtol=1e-4, atol=1e-5)
    assert method.outputs("train")["scaling"]


def test_at_most_so_many_tasks_are_scaled_and_only_in_the_layers_asked_for():
    method, task = _method(tasks=3, most_related=1, scaled_layers=["fc2"])
    method.end_task(task)
    keys = method.outputs("train")["scaling"]
    assert [key.split(".")[0] for key in keys] == ["fc2"]
    plain, _ = _method(tasks=2, most_related=0)
    assert plain._attached == {}
    assert (method.options.needs_task(), plain.options.needs_task()) == (True, False)


def test_a_pattern_that_matches_no_layer_is_refused():
    settings = make_settings(
        method={"name": "trgp"}, methods={"trgp": {"scaled_layers": ["fc1", "conv*"]}}
    )
    with pytest.raises(SettingsError, match=r"methods\.trgp\.scaled_layers: no layer matches 'co"):
        make_method(settings).check_options()


def test_a_task_of_one_image_is_learned():
    settings = make_settings(method={"name": "trgp"}, methods={"trgp": {"relevance": 0.0}})
    method = make_method(settings)
    for number in (1, 2, 3):
        add_task(method, number)
        task = make_task(number, n=1)
        method.begin_task(task)
        method.gradients(make_train_step(method, task.train))
        method.end_task(task)
        method.consolidate(task, lambda _: None)
    assert all(torch.isfinite(m).all() for m in method.outputs("build")["memory"].values())
