"""The frameworks that `frameworks` compares jaxnn with: one function each, in a table.

Each takes the same numbers in, by its public API, and gives the same numbers out: weights have
shape (outputs, inputs) here, whatever the framework stores.  A framework is imported only if it
is installed.
"""

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Problem(NamedTuple):
    """A network and a batch; the arrays have the dtype in which to compute."""

    weights: list[np.ndarray]  # (outputs, inputs)
    biases: list[np.ndarray]
    x: np.ndarray
    y: np.ndarray
    activation: str
    learning_rate: float
    steps: int


class Answer(NamedTuple):
    """What a framework made of it; parameters are in the order weight, bias, weight and so on."""

    log_probs: np.ndarray  # (n, classes)
    gradient: list[np.ndarray]  # of the mean cross-entropy, at the start
    steps: list[list[np.ndarray]]  # the parameters after each step of gradient descent


class Peer(NamedTuple):
    """One framework."""

    package: str
    answer: Callable[[Problem], Answer]

    def installed(self) -> bool:
        """Returns whether it can be imported, without importing it."""
        return importlib.util.find_spec(self.package) is not None

    def version(self) -> str:
        """Returns its version, as the package itself says."""
        return importlib.import_module(self.package).__version__


def flax_answer(problem: Problem) -> Answer:
    """Flax (linen), its gradient by JAX and its steps by optax."""
    import flax.linen as nn
    import jax
    import jax.numpy as jnp
    import optax

    activation = getattr(nn, problem.activation)
    widths = [len(bias) for bias in problem.biases]

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            for i, width in enumerate(widths):
                layer = nn.Dense(width, name=str(i), param_dtype=problem.x.dtype)
                x = layer(x if i == 0 else activation(x))
            return x

    network, optimizer = Network(), optax.sgd(problem.learning_rate)
    params: Any = {
        str(i): {"kernel": jnp.asarray(w.T), "bias": jnp.asarray(b)}
        for i, (w, b) in enumerate(zip(problem.weights, problem.biases, strict=True))
    }

    @jax.jit
    def step(params: Any, state: Any) -> Any:
        def loss(params: Any) -> Any:
            logits: Any = network.apply({"params": params}, problem.x)
            rows = optax.softmax_cross_entropy_with_integer_labels(logits, problem.y)
            return rows.mean(), logits

        (_, logits), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        updates, state = optimizer.update(gradient, state)
        return jax.nn.log_softmax(logits), gradient, optax.apply_updates(params, updates), state

    def flat(tree: Any) -> list[np.ndarray]:
        return _pairs((tree[str(i)]["kernel"].T, tree[str(i)]["bias"]) for i in range(len(widths)))

    log_probs, gradient, params, state = step(params, optimizer.init(params))
    steps = [flat(params)]
    for _ in range(problem.steps - 1):
        _, _, params, state = step(params, state)
        steps.append(flat(params))
    return Answer(log_probs=np.asarray(log_probs), gradient=flat(gradient), steps=steps)


def sklearn_answer(problem: Problem) -> Answer:
    """scikit-learn's MLPClassifier; its gradient is what one step of length 1 takes away."""
    from sklearn.neural_network import MLPClassifier

    every: Any = len(problem.x)  # one batch of all rows

    def network(learning_rate: float) -> Any:
        model = MLPClassifier(
            [len(bias) for bias in problem.biases[:-1]],
            activation={"sigmoid": "logistic"}.get(problem.activation, problem.activation),
            solver="sgd", momentum=0.0, alpha=0.0, batch_size=every, shuffle=False,
            learning_rate_init=learning_rate,
        )  # fmt: skip
        # It makes its arrays in a first step; what they hold then is replaced.
        model.partial_fit(problem.x, problem.y, classes=np.arange(len(problem.biases[-1])))
        mine = zip(model.coefs_, model.intercepts_, strict=True)
        for (kernel, bias), w, b in zip(mine, problem.weights, problem.biases, strict=True):
            kernel[...], bias[...] = w.T, b
        return model

    def flat(model: Any) -> list[np.ndarray]:
        return _pairs((k.T, b) for k, b in zip(model.coefs_, model.intercepts_, strict=True))

    model, once = network(problem.learning_rate), network(1.0)
    log_probs, start = model.predict_log_proba(problem.x), flat(model)
    once.partial_fit(problem.x, problem.y)
    steps = []
    for _ in range(problem.steps):
        model.partial_fit(problem.x, problem.y)
        steps.append(flat(model))
    gradient = [before - after for before, after in zip(start, flat(once), strict=True)]
    return Answer(log_probs=log_probs, gradient=gradient, steps=steps)


def torch_answer(problem: Problem) -> Answer:
    """PyTorch: torch.nn.Linear, autograd and torch.optim.SGD."""
    torch = importlib.import_module("torch")
    layers = []
    for w, b in zip(problem.weights, problem.biases, strict=True):
        layer = torch.nn.Linear(*w.shape[::-1], dtype=getattr(torch, str(w.dtype)))
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(w))
            layer.bias.copy_(torch.tensor(b))
        layers.append(layer)
    x, y = torch.tensor(problem.x), torch.tensor(problem.y).long()
    parameters = [p for layer in layers for p in (layer.weight, layer.bias)]
    optimizer = torch.optim.SGD(parameters, lr=problem.learning_rate)

    def logits() -> Any:
        h = layers[0](x)
        for layer in layers[1:]:
            h = layer(getattr(torch, problem.activation)(h))
        return h

    def step() -> Any:
        optimizer.zero_grad()
        outputs = logits()
        torch.nn.functional.cross_entropy(outputs, y).backward()
        gradient = [p.grad.numpy().copy() for p in parameters]
        optimizer.step()
        return torch.log_softmax(outputs, 1).detach().numpy(), gradient

    return _descend(step, lambda: [p.detach().numpy().copy() for p in parameters], problem)


def tensorflow_answer(problem: Problem) -> Answer:
    """TensorFlow: variables, a gradient tape and assignments."""
    tf = importlib.import_module("tensorflow")
    kernels = [tf.Variable(w.T) for w in problem.weights]
    biases = [tf.Variable(b) for b in problem.biases]
    parameters = [p for pair in zip(kernels, biases, strict=True) for p in pair]

    def step() -> Any:
        with tf.GradientTape() as tape:
            h = problem.x @ kernels[0] + biases[0]
            for kernel, bias in zip(kernels[1:], biases[1:], strict=True):
                h = getattr(tf.nn, problem.activation)(h) @ kernel + bias
            rows = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=problem.y, logits=h)
            loss = tf.reduce_mean(rows)
        gradient = tape.gradient(loss, parameters)
        for p, g in zip(parameters, gradient, strict=True):
            p.assign_sub(problem.learning_rate * g)
        return tf.nn.log_softmax(h).numpy(), _upright(g.numpy() for g in gradient)

    return _descend(step, lambda: _upright(p.numpy() for p in parameters), problem)


def paddle_answer(problem: Problem) -> Answer:
    """PaddlePaddle: tensors, autograd and paddle.optimizer.SGD."""
    paddle = importlib.import_module("paddle")
    tensor = lambda array: paddle.to_tensor(array, stop_gradient=False)
    parameters = [
        p
        for w, b in zip(problem.weights, problem.biases, strict=True)
        for p in (tensor(np.ascontiguousarray(w.T)), tensor(b))
    ]
    x, y = paddle.to_tensor(problem.x), paddle.to_tensor(problem.y.astype(np.int64))
    optimizer = paddle.optimizer.SGD(problem.learning_rate, parameters=parameters)
    activation = getattr(paddle.nn.functional, problem.activation)

    def step() -> Any:
        h = x
        for i in range(0, len(parameters), 2):
            h = paddle.matmul(h if i == 0 else activation(h), parameters[i]) + parameters[i + 1]
        paddle.nn.functional.cross_entropy(h, y).backward()
        gradient = _upright(p.grad.numpy() for p in parameters)
        optimizer.step()
        optimizer.clear_grad()
        return paddle.nn.functional.log_softmax(h).numpy(), gradient

    return _descend(step, lambda: _upright(p.numpy() for p in parameters), problem)


def mindspore_answer(problem: Problem) -> Answer:
    """MindSpore: tensors and mindspore.value_and_grad."""
    ms = importlib.import_module("mindspore")
    ops = ms.ops
    parameters = [
        ms.Parameter(ms.Tensor(np.ascontiguousarray(array)), name=f"p{i}")
        for i, array in enumerate(
            a for w, b in zip(problem.weights, problem.biases, strict=True) for a in (w.T, b)
        )
    ]
    x, y = ms.Tensor(problem.x), ms.Tensor(problem.y)

    def loss() -> Any:
        h = x
        for i in range(0, len(parameters), 2):
            h = h if i == 0 else getattr(ops, problem.activation)(h)
            h = ops.matmul(h, parameters[i]) + parameters[i + 1]
        log_probs = h - ops.logsumexp(h, 1, True)  # its log_softmax computes in float32
        return -ops.gather_elements(log_probs, 1, y[:, None]).mean(), log_probs

    descend = ms.value_and_grad(loss, None, parameters, has_aux=True)

    def step() -> Any:
        (_, log_probs), gradient = descend()
        for p, g in zip(parameters, gradient, strict=True):
            p.set_data(p - problem.learning_rate * g)
        return log_probs.asnumpy(), _upright(g.asnumpy() for g in gradient)

    return _descend(step, lambda: _upright(p.asnumpy() for p in parameters), problem)


def _descend(step: Callable[[], Any], parameters: Callable[[], Any], problem: Problem) -> Answer:
    """Returns the answer of a framework whose `step` changes its parameters in place."""
    log_probs, gradient = step()
    steps = [parameters()]
    for _ in range(problem.steps - 1):
        step()
        steps.append(parameters())
    return Answer(log_probs=log_probs, gradient=gradient, steps=steps)


def _pairs(layers: Any) -> list[np.ndarray]:
    return [np.array(array) for pair in layers for array in pair]


def _upright(arrays: Any) -> list[np.ndarray]:
    """Returns copies in which kernels of shape (inputs, outputs) are turned."""
    return [np.array(a.T if a.ndim == 2 else a) for a in arrays]


PEERS: dict[str, Peer] = {
    "PyTorch": Peer("torch", torch_answer),
    "TensorFlow": Peer("tensorflow", tensorflow_answer),
    "PaddlePaddle": Peer("paddle", paddle_answer),
    "MindSpore": Peer("mindspore", mindspore_answer),
    "flax": Peer("flax", flax_answer),
    "scikit-learn": Peer("sklearn", sklearn_answer),
}
