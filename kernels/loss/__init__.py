"""Cross-entropy, alone and fused with the output layer so that the logits are never whole in memory."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.backends import autocast_dtype, choose, without_autocast
from kernels.checks import check_float, check_integers, check_number, check_whole
from kernels.errors import refuse, shape
from kernels.loss.chunks import padded_columns
from kernels.loss.reference import LossOptions, reference_loss


class LossSums(NamedTuple):
    """Sums over the targets that count; divide by `targets` (or by those of a whole step) for a mean.

    total: what to minimise, with its gradient. plain: cross-entropy of the targets alone, without smoothing or z term.
    z: the z term. targets: how many count, int64. All but total carry no gradient. float32 (float64 for float64).
    """

    total: Tensor
    plain: Tensor
    z: Tensor
    targets: Tensor


def cross_entropy(
    logits: Tensor,
    targets: Tensor,
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float = 0.0,
    backend: str = "auto",
) -> LossSums:
    """Sums of cross-entropy over logits [..., V] and int targets [...].

    label_smoothing in [0, 1): that share is spread over all classes. z_loss: coefficient of the squared log-sum-exp.
    softcap: logits become softcap * tanh(logits / softcap), 0 for off. Targets equal to `ignore_index` do not count;
    others must lie in [0, V). A logit of -inf takes no probability and no gradient; as in PyTorch the loss is inf where
    it is the target or shares in smoothing, and nan in a row of nothing else. Under autocast all stays as it is: the
    arithmetic is float32 at least. backend: "triton", "torch", "reference", or "auto" (triton on a GPU, else torch).
    """
    check_float("cross_entropy", "logits", logits)
    if logits.dim() < 1 or logits.shape[-1] < 1:
        raise refuse("cross_entropy", "logits", f"of shape {shape(logits)}", "[..., V] with V from 1")
    classes = logits.shape[-1]
    options = _options("cross_entropy", ignore_index, label_smoothing, z_loss, softcap)
    _check_targets("cross_entropy", targets, logits.shape[:-1], classes, ignore_index, logits)
    flat, places = logits.reshape(-1, classes), targets.reshape(-1)
    if flat.stride(1) != 1:
        flat = flat.contiguous()
    chosen = choose("cross_entropy", backend, logits.device, logits.dtype)
    if chosen == "reference":
        with without_autocast(logits.device):
            total, plain, z = reference_loss(flat, places, options)
    else:
        from kernels.loss.op import run_cross_entropy

        total, plain, z = run_cross_entropy(
            flat, places.contiguous(), ignore_index, options.label_smoothing, options.z_loss, options.softcap,
            chosen == "triton",
        )  # fmt: skip
    return LossSums(total, plain.detach(), z.detach(), (places != ignore_index).sum())


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float = 0.0,
    chunk: int | None = None,
    pad_to: int | None = None,
    backend: str = "auto",
) -> LossSums:
    """`cross_entropy(hidden @ weight.T + bias, targets)` with the logits of one chunk of tokens in memory at a time.

    hidden: [..., E]; weight: [V, E], which may be the tied embedding, in another dtype too (products are in the dtype
    of hidden, the gradient is added up in float32); bias: [V]. Under autocast hidden is cast to its dtype first, as in
    a linear layer. chunk: tokens at a time, by default chosen from shapes. pad_to: the logits, and the copy of the
    weight that is multiplied with, have a multiple of this many columns, by default 64 for half precision on a GPU,
    else 1; what is added takes no probability and no gradient, and costs a copy of the weight.
    Other arguments as in `cross_entropy`. The gradients are formed in the forward pass; they hold one [V, E] float32.
    """
    function = "linear_cross_entropy"
    check_float(function, "hidden", hidden)
    hidden = hidden.to(autocast_dtype(hidden))
    check_float(function, "weight", weight, hidden.device)
    if hidden.dim() < 1:
        raise refuse(function, "hidden", "of shape []", "[..., E]")
    if weight.dim() != 2 or weight.shape[0] < 1 or weight.shape[1] != hidden.shape[-1]:
        raise refuse(function, "weight", f"of shape {shape(weight)}", f"[V, {hidden.shape[-1]}] to match hidden")
    if bias is not None:
        check_float(function, "bias", bias, hidden.device)
        if bias.shape != weight.shape[:1]:
            raise refuse(function, "bias", f"of shape {shape(bias)}", f"[{weight.shape[0]}]")
    if chunk is not None:
        check_whole(function, "chunk", chunk, "a number of tokens >= 1, or None", low=1)
    if pad_to is not None:
        check_whole(function, "pad_to", pad_to, "a number of columns >= 1, or None", low=1)
    options = _options(function, ignore_index, label_smoothing, z_loss, softcap)
    _check_targets(function, targets, hidden.shape[:-1], weight.shape[0], ignore_index, hidden)
    flat, places = hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1)
    chosen = choose(function, backend, hidden.device, hidden.dtype)
    if chosen == "reference":
        with without_autocast(hidden.device):
            logits = flat @ weight.to(flat.dtype).t()
            if bias is not None:
                logits = logits + bias.to(logits.dtype)
            total, plain, z = reference_loss(logits, places, options)
    else:
        from kernels.loss.op import run_linear_cross_entropy

        inputs = [hidden, weight] if bias is None else [hidden, weight, bias]
        columns = padded_columns(weight.shape[0], hidden.element_size(), hidden.device.type, pad_to)
        needs = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs)
        total, plain, z, *_ = run_linear_cross_entropy(
            flat, weight, bias, places.contiguous(), ignore_index, options.label_smoothing, options.z_loss,
            options.softcap, columns, chunk or 0, needs, chosen == "triton",
        )  # fmt: skip
    return LossSums(total, plain.detach(), z.detach(), (places != ignore_index).sum())


def padded_linear(hidden: Tensor, weight: Tensor, bias: Tensor | None = None, *, pad_to: int | None = None) -> Tensor:
    """Logits [..., V] = hidden weight^T + bias, as `torch.nn.functional.linear`, for losses that read all of them.

    The product is made of a copy of the weight with zeros up to a multiple of `pad_to` rows, as in
    `linear_cross_entropy`; what is returned is a view without them. With nothing to add it is `linear` itself.
    """
    dtype = autocast_dtype(check_float("padded_linear", "hidden", hidden))
    if pad_to is not None:
        check_whole("padded_linear", "pad_to", pad_to, "a number of columns >= 1, or None", low=1)
    classes = check_float("padded_linear", "weight", weight, hidden.device).shape[0]
    more = padded_columns(classes, dtype.itemsize, hidden.device.type, pad_to) - classes
    if not more:
        return F.linear(hidden, weight, bias)
    wide = F.pad(weight.to(dtype), (0, 0, 0, more))
    return F.linear(hidden, wide, None if bias is None else F.pad(bias.to(dtype), (0, more)))[..., :classes]


def _options(function: str, ignore_index: int, label_smoothing: float, z_loss: float, softcap: float) -> LossOptions:
    check_whole(function, "ignore_index", ignore_index, "an integer")
    smoothing = check_number(function, "label_smoothing", label_smoothing, "a share in [0, 1)", low=0.0, below=1.0)
    z_loss = check_number(function, "z_loss", z_loss, "0 (off) or a positive number", low=0.0)
    softcap = check_number(function, "softcap", softcap, "0 (off) or a positive number", low=0.0)
    return LossOptions(ignore_index, smoothing, z_loss, softcap)


def _check_targets(
    function: str, targets: Tensor, wanted: torch.Size, classes: int, ignore_index: int, like: Tensor
) -> None:
    check_integers(function, "targets", targets, like.device)
    if targets.shape != wanted:
        raise refuse(function, "targets", f"of shape {shape(targets)}", f"{list(wanted)}, one a position")
    if torch.compiler.is_compiling() or not targets.numel():
        return
    bad = ((targets < 0) | (targets >= classes)) & (targets != ignore_index)
    if targets.device.type == "cpu":
        if bool(bad.any()):
            got = int(targets[bad].flatten()[0])
            raise refuse(function, "targets", f"{got} somewhere", f"0 to {classes - 1}, or ignore_index {ignore_index}")
    else:
        torch._assert_async(~bad.any(), f"{function}: a target is outside 0 to {classes - 1}")
