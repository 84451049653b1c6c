"""The multi-token-prediction layer of the family: from where the model stands and the token that came next, the token
after that.

    x_t = fc [ norm(embedding of token t+1) ‖ norm(last hidden state of token t) ]
    logits of token t+2 = lm_head( norm( attention layer( x ) ) )

Embedding and lm_head are the model's own; the hidden state is taken after the model's final norm. Tensor names are
those of the published Qwen3.5 and 3.6 checkpoints, `mtp.fc`, `mtp.layers.0`, `mtp.norm`, `mtp.pre_fc_norm_embedding`
and `mtp.pre_fc_norm_hidden`; transformers leaves them unread. Multi-token prediction: arXiv 2412.19437, section 2.2.
"""

import copy

import torch
from torch import nn


class Mtp(nn.Module):
    """One gated attention layer on top of the model.

    Args:
        config: transformers' text config of the model.
    """

    def __init__(self, config):
        from transformers.models.qwen3_5 import modeling_qwen3_5 as modeling

        super().__init__()
        own = copy.deepcopy(config)
        own.layer_types, own.num_hidden_layers = ["full_attention"], 1
        wide, eps = config.hidden_size, config.rms_norm_eps
        self.fc = nn.Linear(2 * wide, wide, bias=False)
        self.layers = nn.ModuleList([modeling.Qwen3_5DecoderLayer(own, 0)])
        self.norm = modeling.Qwen3_5RMSNorm(wide, eps)
        self.pre_fc_norm_embedding = modeling.Qwen3_5RMSNorm(wide, eps)
        self.pre_fc_norm_hidden = modeling.Qwen3_5RMSNorm(wide, eps)

    def forward(self, model, ids: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """Logits [batch, T - 1, vocab]; entry t predicts token t + 2.

        Args:
            model: the `Qwen3_5ForCausalLM` it belongs to.
            ids: [batch, T]. hidden: [batch, T, hidden], what the model hands to lm_head.
        """
        seen = self.pre_fc_norm_embedding(model.model.embed_tokens(ids[:, 1:]))
        x = self.fc(torch.cat([seen, self.pre_fc_norm_hidden(hidden[:, :-1])], -1))
        positions = torch.arange(x.shape[1], device=x.device)[None]
        rotary = model.model.rotary_emb(x, positions[None].expand(3, 1, -1))
        x = self.layers[0](x, position_embeddings=rotary, attention_mask=None)
        return model.lm_head(self.norm(x))
