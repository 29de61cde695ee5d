"""A Linear by oneDNN gives what torch's own gives, to float32's last digits, for every layout that a network hands it."""

from __future__ import annotations

import copy

import pytest
import torch

from sprint_export.linear_kernels import OneDnnLinear, use_onednn


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("shape", [(3, 96), (2, 5, 96), (1, 2, 5, 96)])
def test_its_product_is_torchs(shape: tuple[int, ...], has_bias: bool) -> None:
    torch.manual_seed(0)
    stock, x = torch.nn.Linear(96, 40, bias=has_bias), torch.randn(shape)
    fast = copy.deepcopy(stock)
    use_onednn(fast)
    assert isinstance(fast, OneDnnLinear)
    turned = x.transpose(-1, -2).contiguous().transpose(-1, -2)  # as a convolution leaves it
    with torch.no_grad():
        wanted = stock.double()(x.double()).float()
        for given in (x, turned):
            deviation = float((fast(given) - wanted).abs().max() / wanted.abs().max())
            print(f"deviates by {deviation:.1e}, at most 1e-6")
            assert deviation <= 1e-6


def test_other_modules_stay_as_they_are() -> None:
    class Own(torch.nn.Linear):
        pass

    for module in (Own(4, 4), torch.nn.Conv2d(4, 4, 1)):
        before = type(module)
        use_onednn(module)
        assert type(module) is before


def test_a_build_without_onednn_computes_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    module = torch.nn.Linear(4, 4)
    use_onednn(module)
    assert type(module) is torch.nn.Linear
