"""For ``foreign_class(source, pymodule_file="interface.py", classname="DiffusionASR")``."""

from diffusion_asr_speechbrain.inference import DiffusionASR

__all__ = ["DiffusionASR"]
