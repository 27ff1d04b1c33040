"""Copies the weights of a transformers model into a ``LlamaNetwork``, or says why it cannot.

Norm scales and the attention temperature are folded into the projections that follow them. Reads no files.
"""

from typing import Any

import torch
from torch import Tensor

from app.errors import ArtifactIncompatible
from app.rewards.linear import Linear
from app.rewards.network import Layer, LlamaNetwork, NetworkShape

SUPPORTED = ("llama", "qwen2")
ROTARY_KINDS = ("default", "linear", "llama3")


def check_architecture(config: Any) -> None:
    """Refuse a transformers configuration that ``LlamaNetwork`` would compute wrongly.

    Raises:
        ArtifactIncompatible: Naming what is not supported.
    """
    rotary = (getattr(config, "rope_parameters", None) or {}).get("rope_type")
    activation = getattr(config, "hidden_act", None)
    wrong = {
        f"architecture '{config.model_type}'": config.model_type not in SUPPORTED,
        f"activation '{activation}'": activation != "silu",
        f"rotary embedding '{rotary}'": rotary not in ROTARY_KINDS,
        "sliding-window attention": bool(getattr(config, "use_sliding_window", False)),
        "quantised weights": getattr(config, "quantization_config", None) is not None,
    }
    for what, is_wrong in wrong.items():
        if is_wrong:
            raise ArtifactIncompatible(
                f"The model has {what}, which this engine does not support; use a plain Llama or Qwen2 checkpoint."
            )


def copy_network(model: Any) -> LlamaNetwork:
    """The network of a ``LlamaForCausalLM`` or ``Qwen2ForCausalLM``, in its dtype and on its device.

    The states of the result equal the model's ``last_hidden_state`` up to rounding.

    Raises:
        ArtifactIncompatible: If the architecture computes something else than ``LlamaNetwork``.
    """
    check_architecture(model.config)
    config, trunk = model.config, model.model
    shape = NetworkShape(
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        heads=config.num_attention_heads,
        key_heads=config.num_key_value_heads,
        head_size=trunk.layers[0].self_attn.head_dim,
        vocabulary=config.vocab_size,
        context=config.max_position_embeddings,
        epsilon=config.rms_norm_eps,
    )
    layers = [_fuse(block, shape) for block in trunk.layers]
    embedding, output = trunk.embed_tokens.weight.detach(), Linear(model.lm_head.weight.detach())
    rotation = _rotation(trunk.rotary_emb, shape, embedding)
    return LlamaNetwork(shape, embedding, layers, trunk.norm.weight.detach(), output, rotation)


def _fuse(block: Any, shape: NetworkShape) -> Layer:
    attention, feed = block.self_attn, block.mlp
    queries = shape.heads * shape.head_size
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    weight = torch.cat([one.weight for one in projections]).detach() * block.input_layernorm.weight.detach()
    weight[:queries] *= shape.head_size**-0.5
    bias = _bias(*projections)
    if bias is not None:
        bias[:queries] *= shape.head_size**-0.5
    gate_up = torch.cat([feed.gate_proj.weight, feed.up_proj.weight]).detach()
    gate_up = gate_up * block.post_attention_layernorm.weight.detach()
    return Layer(
        query_key_value=Linear(weight, bias),
        attention_out=Linear(attention.o_proj.weight.detach(), _bias(attention.o_proj)),
        gate_up=Linear(gate_up, _bias(feed.gate_proj, feed.up_proj)),
        down=Linear(feed.down_proj.weight.detach(), _bias(feed.down_proj)),
    )


def _bias(*projections: Any) -> Tensor | None:
    biases = [projection.bias for projection in projections]
    return None if biases[0] is None else torch.cat(biases).detach()


def _rotation(embedding: Any, shape: NetworkShape, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines (context, head size) of all positions; the first half of the sines is negated."""
    positions = torch.arange(shape.context, device=like.device).float()
    angles = torch.outer(positions, embedding.inv_freq.to(like.device).float())
    cosines, sines = angles.cos() * embedding.attention_scaling, angles.sin() * embedding.attention_scaling
    return torch.cat([cosines, cosines], dim=-1).to(like.dtype), torch.cat([-sines, sines], dim=-1).to(like.dtype)
