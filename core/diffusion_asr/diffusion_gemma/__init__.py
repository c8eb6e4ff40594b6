"""DiffusionGemma as a backbone: the reference system (Interfaze, 2026) at any size.

Needs transformers (``pip install 'diffusion-asr[gemma]'``); core imports nothing from here until a model of
this kind is asked for. Read in this order: ``prompt``, ``projector``, ``backbone``, ``denoiser``,
``process``, ``objective``; then what finds weights and what uses them.
"""
