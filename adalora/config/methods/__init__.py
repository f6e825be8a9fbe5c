"""The options of every method, a file each. A field left at None is solved from the budget.

Defaults come from the released code (QingruZhang/AdaLoRA) unless a comment says otherwise;
`conf/method/<name>.yaml` shows the same values with their sources (a test keeps them equal).
"""

from adalora.config.methods.adalora import AdaLoRAConfig
from adalora.config.methods.base import MethodConfig, PlacedConfig, given, nearest, require
from adalora.config.methods.bottleneck import BottleneckConfig, HoulsbyConfig, PfeifferConfig
from adalora.config.methods.fixed import BitFitConfig, FullConfig
from adalora.config.methods.increlora import IncreLoRAConfig
from adalora.config.methods.lora import LoRAConfig
from adalora.config.methods.lora_mini import LoRAMiniConfig
from adalora.config.methods.lorta import LoRTAConfig
from adalora.config.methods.melora import MELoRAConfig
from adalora.config.methods.mora import MoRAConfig
from adalora.config.methods.peft import PEFTConfig
from adalora.config.methods.prilora import PRILoRAConfig
from adalora.config.methods.sora import SoRAConfig

__all__ = [
    "METHOD_CONFIGS",
    "AdaLoRAConfig",
    "BitFitConfig",
    "BottleneckConfig",
    "FullConfig",
    "HoulsbyConfig",
    "IncreLoRAConfig",
    "LoRAConfig",
    "LoRAMiniConfig",
    "LoRTAConfig",
    "MELoRAConfig",
    "MethodConfig",
    "MoRAConfig",
    "PEFTConfig",
    "PRILoRAConfig",
    "PfeifferConfig",
    "PlacedConfig",
    "SoRAConfig",
    "given",
    "nearest",
    "require",
]

METHOD_CONFIGS: dict[str, type[MethodConfig]] = {
    "adalora": AdaLoRAConfig,
    "lora": LoRAConfig,
    "houlsby": HoulsbyConfig,
    "pfeiffer": PfeifferConfig,
    "bitfit": BitFitConfig,
    "full": FullConfig,
    "sora": SoRAConfig,
    "prilora": PRILoRAConfig,
    "mora": MoRAConfig,
    "melora": MELoRAConfig,
    "lorta": LoRTAConfig,
    "lora_mini": LoRAMiniConfig,
    "increlora": IncreLoRAConfig,
    "peft": PEFTConfig,
}
