"""Memory of one rank at its peak, by purpose.

States as ZeRO divides them (Rajbhandari et al. 2020, section 3) and DeepSpeed holds them: fp32 weights, gradients and
the optimizer's states; at stages 1 and 2 an fp32 copy of the rank's partition, beside weights that are bf16 where the
wire keeps them so; at stage 3 the gathered weights in the dtype of the wire; and the buckets. Where ranks share
experts, each has its own of them.
The peak is the largest of four moments: the end of the forward pass, the loss, the first gradients, the optimizer step.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from trainer.books.activations import FP32, Saved, saved, share_of_blocks
from trainer.books.expert_ranks import held_numbers, shared_numbers
from trainer.books.kernels import device
from trainer.books.layout import (
    averages_kept,
    micro_batch,
    micro_batches,
    reduce_bucket,
    world_size,
    zero_stage,
)
from trainer.books.lengths import lengths
from trainer.books.offload import device_buffers, host_buffers
from trainer.books.parameters import parameters
from trainer.books.rollouts import cache_bytes, logits_bytes, reward_bytes
from trainer.books.shapes import shapes
from trainer.books.wire import REUSED
from trainer.config import Config
from trainer.config.host import half_wire, precision
from trainer.config.wire import partition_ranks, stays_half
from trainer.descriptions.optimizers import OPTIMIZERS, Role, read_in_bf16, size

Moment = tuple[int, int, int, int, int]  # bytes of gradients, buckets, copies, activations and logits
MAX_LIVE = 1_000_000_000  # numbers; of zero_optimization.stage3_max_live_parameters
SUB_GROUP = 1_000_000_000  # numbers of a rank that are stepped on at once; of sub_group_size
PREFETCHED = 50_000_000  # numbers; of stage3_prefetch_bucket_size


@dataclass(frozen=True)
class MemoryAccount:
    """Bytes of one rank at its peak."""

    weights: int
    gradients: int  # that exist at the peak
    optimizer: int
    buckets: int  # for communication
    copies: int  # of the weights: in low precision, made by autocast; those before an update that debug measures
    activations: int  # kept for the backward pass
    logits: int  # with their logarithms and gradients
    moment: str  # when the peak is
    averages: int = 0  # of the weights, kept beside them
    host: int = 0  # offloaded, in the host's memory; on a CPU that is the same memory, and all is in the fields above

    @property
    def total(self) -> int:
        states = self.weights + self.gradients + self.optimizer + self.averages + self.buckets
        return states + self.copies + self.activations + self.logits


def memory(config: Config) -> MemoryAccount:
    """Predict one rank's peak."""
    states = _states(config)
    kept = saved(config, micro_batch(config) * config.task.rows, *lengths(config))
    moments = _moments(config, states, kept)
    moment = max(moments, key=lambda name: sum(moments[name]))
    gradients, buckets, copies, activations, logits = moments[moment]
    here = states.host if device(config) == "cpu" else 0  # what is offloaded stays where it is
    return MemoryAccount(
        weights=states.weights + reward_bytes(config),
        gradients=gradients,
        optimizer=states.optimizer + here,
        buckets=buckets + FP32 * device_buffers(config),
        copies=copies,
        activations=activations,
        logits=logits,
        moment=moment,
        averages=states.averages,
        host=states.host - here,
    )


@dataclass(frozen=True)
class _States:
    """Bytes that a rank holds between its passes, or of one kind at a time."""

    weights: int
    optimizer: int
    averages: int
    gradients: int  # of all that this rank updates
    before: int  # weights before an update that debug measures
    low: int  # weights that travel in bf16 at stages 1 and 2
    stay: bool  # whether these are kept in bf16 (`trainer.config.wire.stays_half`)
    host: int  # offloaded


def _states(config: Config) -> _States:
    ranks, stage, engine = world_size(config), zero_stage(config), config.engine
    share, count = -(-parameters(config).total // ranks), held_numbers(config)
    optimizer, averages = _optimizer(config), averages_kept(config) * share
    gradients = share if stage else count
    before = gradients if config.debug.updates_every else 0
    low = 2 * low_numbers(config) if half_wire(config) and 0 < stage < 3 else 0
    stay = low > 0 and stays_half(config)

    # On one rank a partition is the parameter itself, nothing is gathered.
    weights = count if stage < 3 else share
    offloads = engine.offload_optimizer or engine.offload_parameters
    weights += share if stage in (1, 2) or (stage and offloads) else 0  # a partition's copy that the optimizer steps on
    weights += count if config.task.reference else 0  # the reference
    host = 0
    if engine.offload_optimizer:
        host += optimizer + averages + share + host_buffers(config, share) + before
        weights -= share
        optimizer = averages = gradients = before = 0
    if engine.offload_parameters:
        host += share
        weights -= share
    whole = FP32 * weights + (_gathered(config) if stage == 3 and ranks > 1 else 0)
    whole -= low - FP32 * _low_numbers_by_role(config)["head"] if stay else 0  # output matrices are in fp32 too
    return _States(
        whole, FP32 * optimizer, FP32 * averages, FP32 * gradients, FP32 * before, low, stay=stay, host=FP32 * host
    )


def _moments(config: Config, states: _States, kept: Saved) -> dict[str, Moment]:
    """The moments of a step at which a peak can be, by what is there beside weights and optimizer."""
    stage, half = zero_stage(config), half_wire(config)
    sent_in_half = stage == 3 and config.engine.wire_gradients == "bf16"  # up to stage 2 it is fp32 all the same
    bucket = (2 if sent_in_half else FP32) * _bucket(config) if stage else 0
    always = bucket if stage == 3 else 0
    earlier = states.gradients if micro_batches(config) > 1 or stage == 3 else 0  # of micro-batches before
    whole = states.gradients if stage else FP32 * held_numbers(config)
    table = FP32 * config.vocabulary * config.model.embedding_channels
    flat = 0 if stage else whole  # stage 0 flattens its gradients
    sent = 0 if states.stay else states.low  # an update's weights on their way

    copies, activations = kept.copies_kept, kept.kept + kept.around
    if states.stay or (half and stage == 3):  # what is there is the copy; that of a table for the head too
        copies = min(copies, kept.head_copy if config.model.tied or states.stay else 0)
    # A fused loss keeps no copy of the matrix; where there is none, as weights come in bf16, nothing goes.
    after_loss = max(0, copies - (kept.head_copy if kept.head_gradients else 0))
    in_backward = activations + kept.again + kept.head_gradients + kept.workspace
    moments = {
        "the end of the forward pass": (earlier, always, copies, activations, kept.logits * 5 // 6),
        "the loss": (earlier, always, copies, activations + kept.head_gradients, kept.logits),
        "the first gradients": (max(earlier, table), bucket, after_loss, in_backward, 0),
        "the optimizer step": (whole + _flattened(config), always + flat + sent, states.before, 0, 0),
    }
    if config.task.writes:
        moments["writing answers"] = (0, always, 0, cache_bytes(config), logits_bytes(config))
    if kept.beside:
        moments["the last scores"] = (earlier, always, copies, activations + kept.beside, 0)
    if kept.generator:
        learned = whole * parameters(config).published // parameters(config).total
        moments = _two_losses(moments, kept, earlier, learned, z_loss=config.objective.z_loss > 0)
    return moments


def _flattened(config: Config) -> int:
    """Bytes of a group's gradients that an update of stages 1 to 3 joins to one tensor, beside those it is made of."""
    stage, every = zero_stage(config), held_numbers(config)
    if not stage or config.engine.offload_optimizer:
        return 0
    if stage == 3:
        return FP32 * min(-(-every // world_size(config)), SUB_GROUP)
    apart = low_numbers(config) if precision(config) == "bf16" else 0  # a group of their own
    return FP32 * -(-max(apart, every - apart) // world_size(config))


def low_numbers(config: Config) -> int:
    """Of the parameters that a rank holds, those that products in bf16 read in bf16 alone."""
    low = sum(_low_numbers_by_role(config).values())
    return low - shared_numbers(config) + shared_numbers(config) // config.engine.expert_parallel


def _low_numbers_by_role(config: Config) -> Counter[Role]:
    """The same of all ranks together."""
    routers, found = (config.model.experts.count, config.model.width), Counter[Role]()
    for (role, shape), count in shapes(config).items():
        found[role] += size(shape) * count * read_in_bf16(role, wide=shape == routers)
    return found


def _gathered(config: Config) -> int:
    """Bytes of weights at stage 3 that a rank has beside its own part: gathered ones, and those of a partition."""
    sharing, partition = config.engine.expert_parallel, partition_ranks(config)
    own = shared_numbers(config) // sharing if sharing == world_size(config) else 0  # experts of this rank alone
    count = held_numbers(config) - own
    low = (low_numbers(config) - own) / count if half_wire(config) else 0.0
    # What is read again within `REUSED` numbers stays: at the turn to the backward pass all that lies so near to it.
    layers = config.backbone.depth + (
        config.model.decoder_side.depth if config.model.family == "encoder_decoder" else 0
    )
    near = round(REUSED / (2 + share_of_blocks(config))) + count // layers + PREFETCHED
    numbers = count if config.engine.keep_gathered else min(count, MAX_LIVE, near)
    if partition < world_size(config):
        numbers += -(-count // partition)
    return round(numbers * (FP32 - 2 * low))


def _optimizer(config: Config) -> int:
    """Numbers that the optimizer keeps on one rank: its share of those that are divided, and all of the others."""
    description, found = OPTIMIZERS[config.optim.name], shapes(config)
    numbers, sharing = description.numbers(found), config.engine.expert_parallel
    if not zero_stage(config):
        experts = {key: count for key, count in found.items() if len(key[1]) == 3}  # [experts, ...]
        return numbers - description.numbers(experts) * (sharing - 1) // sharing
    whole = sum(
        size(state) * count
        for (role, shape), count in found.items()
        for state in description.state_shapes(role, shape).values()
        if state != shape
    )
    return -(-(numbers - whole) // world_size(config)) + whole


def _bucket(config: Config) -> int:
    zero: Any = config.engine.deepspeed.get("zero_optimization")
    size = zero.get("reduce_bucket_size") if isinstance(zero, dict) else None
    return int(float(size)) if isinstance(size, int | float | str) and size != "auto" else reduce_bucket(config)


def _two_losses(
    moments: dict[str, Moment], kept: Saved, earlier: int, learned: int, *, z_loss: bool
) -> dict[str, Moment]:
    """Moments of a model whose generator goes first and, as backward passes go, comes last: its logits are there all
    the while, and its loss is given back beside the gradients of all else.

    moments: of one loss; earlier: bytes of gradients of micro-batches before; learned: of those of all else; z_loss: a
    loss with its term keeps logits, without it their logarithms."""
    each = kept.logits // 3
    made = each * kept.low // FP32
    _, always, copies, activations, _ = moments.pop("the loss")
    gradients, bucket, after, in_backward, _ = moments["the first gradients"]
    words, own = made if z_loss else made + each, (kept.generators_copies, kept.generator)
    return moments | {
        "the generator's guesses": (earlier, always, *own, words + 2 * each),
        "the end of the forward pass": (earlier, always, copies, activations, words),
        "the last scores": (earlier, always, copies, activations + kept.beside, words),
        "the first gradients": (gradients, bucket, after, in_backward, made if z_loss else each),
        "the generator's loss": (max(earlier, learned), bucket, *own, kept.logits),
    }
