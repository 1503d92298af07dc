"""The course: the chapters of the gallery in the order of the lecture, and who belongs where."""

from collections.abc import Iterable
from typing import NamedTuple


class Chapter(NamedTuple):
    """A part of the course; `names` are experiments, in order."""

    title: str
    chinese: str
    text: str
    chinese_text: str
    names: tuple[str, ...]


CHAPTERS = (
    Chapter(
        "Neurons",
        "神经元",
        "From the neuron of McCulloch and Pitts (1943) to Rosenblatt's perceptron, the XOR that "
        "stopped it, and Hopfield's memory: what one layer can learn, and what it cannot.",
        "从 MCP 神经元到感知机、异或问题与 Hopfield 联想记忆：单层网络的能与不能。",
        ("gates", "perceptron_margin", "xor", "hopfield_capacity"),
    ),
    Chapter(
        "Densities",
        "分布估计",
        "Learning as the estimation of a density: mixtures of Gaussians fitted by EM, and kernels "
        "put on every sample, which are a mixture too.",
        "生成式学习：用 EM 算法估计混合高斯模型，以及作为其特例的核密度估计。",
        ("gmm_em_movie", "gmm_applications", "kde_bandwidth", "kde_debiased", "kde_as_mixture"),
    ),
    Chapter(
        "Backpropagation",
        "反向传播",
        "Gradients by the conservation of differentials, layer after layer; why they vanish in "
        "deep sigmoid networks, and the two ways out: ReLU and pretraining.",
        "由微分守恒法则逐层推导梯度;梯度为何消失，以及 ReLU 与预训练两条出路。",
        ("backprop_check", "vanishing_gradients", "dbn_pretraining"),
    ),
    Chapter(
        "Learning",
        "网络的学习",
        "How descent goes: nine optimizers, full batches against random ones, a network watched "
        "while it learns, and the width that approximates any function.",
        "优化器、批量大小、训练过程可视化与万能逼近定理。",
        ("optimizers", "population", "batch_size", "training_movie", "universal_approximation"),
    ),
    Chapter(
        "Overfitting",
        "过拟合",
        "A network that can express everything also learns the noise. Early stopping, a penalty "
        "on the weights and dropout hold it back.",
        "表达能力过强会拟合噪声：早停、正则项与 Dropout 三种缓解策略。",
        ("overfitting", "early_stopping", "l2", "dropout", "regularised_digits"),
    ),
    Chapter(
        "Frameworks and families",
        "开源框架与网络家族",
        "Convolutional and recurrent networks through the same trainer, and the same network "
        "computed by other frameworks.",
        "卷积与循环网络使用同一训练器;同一网络在不同开源框架中的对照。",
        ("families", "frameworks"),
    ),
    Chapter(
        "Everything together",
        "综合",
        "Densities and networks joined: a network whose output is a mixture, and both on one set "
        "of handwritten digits.",
        "分布估计与神经网络的结合：输出为混合分布的网络，以及两者在同一手写数字数据集上的综合运用。",
        ("mixture_density", "tour"),
    ),
    Chapter(
        "Scale",
        "规模",
        "What the same programs would take on many accelerators, with all assumptions stated.",
        "同样的程序在更多加速器上的用时与费用推算，假设全部写明。",
        ("projection",),
    ),
)
MORE = Chapter("More", "更多", "What the lecture does not ask.", "讲义之外的内容。", ())


def course(names: Iterable[str]) -> list[Chapter]:
    """Returns the chapters with those of `names` that there are; others go into `MORE`."""
    there = dict.fromkeys(names)
    known = {name for chapter in CHAPTERS for name in chapter.names}
    chapters = [
        chapter._replace(names=tuple(name for name in chapter.names if name in there))
        for chapter in CHAPTERS
    ]
    chapters.append(MORE._replace(names=tuple(name for name in there if name not in known)))
    return [chapter for chapter in chapters if chapter.names]
