"""The six models in plain PyTorch, with as many parameters and operations as Keras's."""

import torch
from torch import nn
from torch.nn.functional import max_pool2d, relu


class MnistCnn(nn.Module):
    """The CNN of the main job."""

    def __init__(self) -> None:
        """Make the layers."""
        super().__init__()
        self.conv = nn.Conv2d(1, 32, 3)
        self.dense = nn.Linear(32 * 13 * 13, 64)
        self.out = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        x = max_pool2d(relu(self.conv(x / 255)), 2).flatten(1)
        return self.out(relu(self.dense(x)))


class Bottleneck(nn.Module):
    """A block of ResNet50: the first convolution strides, as in Keras."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        """Make the layers."""
        super().__init__()
        self.main = nn.Sequential(
            *normalized(nn.Conv2d(inputs, width, 1, stride)),
            nn.ReLU(inplace=True),
            *normalized(nn.Conv2d(width, width, 3, padding=1)),
            nn.ReLU(inplace=True),
            *normalized(nn.Conv2d(width, 4 * width, 1)),
        )
        same = stride == 1 and inputs == 4 * width
        shortcut = [] if same else normalized(nn.Conv2d(inputs, 4 * width, 1, stride))
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The sum of both ways."""
        return relu(self.main(x) + self.shortcut(x))


def normalized(conv: nn.Conv2d) -> list[nn.Module]:
    """A convolution and its batch normalization."""
    return [conv, nn.BatchNorm2d(conv.out_channels)]


def resnet50() -> nn.Module:
    """ResNet50."""
    blocks: list[nn.Module] = []
    inputs = 64
    for width, count, stride in [(64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)]:
        for at in range(count):
            blocks.append(Bottleneck(inputs, width, stride if at == 0 else 1))
            inputs = 4 * width
    return nn.Sequential(
        *normalized(nn.Conv2d(3, 64, 7, 2, 3)),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
        *blocks,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2048, 1000),
    )


class Inverted(nn.Module):
    """A block of MobileNetV2."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        """Make the layers."""
        super().__init__()
        width = inputs * expansion
        expand = []
        if expansion > 1:
            expand = [*normalized(nn.Conv2d(inputs, width, 1, bias=False)), nn.ReLU6()]
        depthwise = nn.Conv2d(width, width, 3, stride, 1, groups=width, bias=False)
        self.main = nn.Sequential(
            *expand,
            *normalized(depthwise),
            nn.ReLU6(),
            *normalized(nn.Conv2d(width, outputs, 1, bias=False)),
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The block, with the input added where shapes allow."""
        return x + self.main(x) if self.residual else self.main(x)


def mobilenet_v2() -> nn.Module:
    """MobileNetV2."""
    blocks: list[nn.Module] = []
    inputs = 32
    for expansion, outputs, count, stride in [
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ]:
        for at in range(count):
            blocks.append(Inverted(inputs, outputs, stride if at == 0 else 1, expansion))
            inputs = outputs
    return nn.Sequential(
        *normalized(nn.Conv2d(3, 32, 3, 2, 1, bias=False)),
        nn.ReLU6(),
        *blocks,
        *normalized(nn.Conv2d(320, 1280, 1, bias=False)),
        nn.ReLU6(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(1280, 1000),
    )


class Lstm(nn.Module):
    """A classifier of sequences."""

    def __init__(self) -> None:
        """Make the layers."""
        super().__init__()
        self.lstm = nn.LSTM(32, 128, batch_first=True)
        self.out = nn.Linear(128, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of the last step."""
        return self.out(self.lstm(x)[0][:, -1])


class Transformer(nn.Module):
    """One encoder block, its outputs averaged."""

    def __init__(self) -> None:
        """Make the layers."""
        super().__init__()
        self.attention = nn.MultiheadAttention(128, 4, batch_first=True)
        self.first, self.second = nn.LayerNorm(128), nn.LayerNorm(128)
        self.hidden = nn.Sequential(nn.Linear(128, 512), nn.ReLU(), nn.Linear(512, 128))
        self.out = nn.Linear(128, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        x = self.first(x + self.attention(x, x, x, need_weights=False)[0])
        x = self.second(x + self.hidden(x))
        return self.out(x.mean(1))


def embedding_mlp() -> nn.Module:
    """A click model: 20 ids a row, of 100,000."""
    return nn.Sequential(
        nn.Embedding(100_000, 16),
        nn.Flatten(),
        nn.Linear(320, 256),
        nn.ReLU(),
        nn.Linear(256, 128),
        nn.ReLU(),
        nn.Linear(128, 1),
    )


MODELS = {
    "mnist_cnn": MnistCnn,
    "resnet50": resnet50,
    "mobilenet_v2": mobilenet_v2,
    "lstm": Lstm,
    "transformer": Transformer,
    "embedding_mlp": embedding_mlp,
}
