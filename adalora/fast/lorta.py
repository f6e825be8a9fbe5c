"""LoRTA with K and all c computed once per forward pass, and products with x in the cheaper order."""

import torch.nn.functional as F
from torch import Tensor, nn

from adalora.fast.cast import CastOnce
from adalora.fast.together import Together
from adalora.methods.lorta.layer import LoRTALinear, dense
from adalora.tensors import compute_type

Products = tuple[Tensor, Tensor]


class FastLoRTALinear(CastOnce, LoRTALinear):
    """LoRTA's map."""

    together: "FormedProducts | None" = None

    def products(self) -> Products:
        if self.together is not None and self.together.current is not None:
            return self.together.current
        return super().products()

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(compute_type(x))
        y, z = self.base(x), F.dropout(x, self.dropout, self.training)
        left, right = self.factors()
        (p, q), (r, d), tokens = self.grid, right.shape, x.numel() // self.in_features
        if tokens * r * (1 + p) > p * d * (r + tokens):  # multiplications per input slice, divided by d
            increment = F.linear(z, dense(left, right))
        else:
            increment = F.linear(F.linear(z.unflatten(-1, (q, d)), right).flatten(-2), left)
        return y + increment.to(x.dtype)


class FormedProducts(Together[LoRTALinear, Products]):
    """K and s c_lm, which all maps share."""

    def results(self) -> Products:
        return self.modules[0].shared[0].products()


SWAPS: dict[type[nn.Module], type[nn.Module]] = {LoRTALinear: FastLoRTALinear}
